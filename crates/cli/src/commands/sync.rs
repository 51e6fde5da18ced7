//! `walstream sync`

use std::time::Instant;

use serde::Serialize;

use super::control::{DatabaseArgs, positive, wire};
use crate::error::CliError;
use crate::socket::messages::{Done, SyncRequest};

/// Capture what is committed in a database, and wait until it is on the replica.
///
/// Without -wait, a daemon captures what is committed at once, and the command returns. With -wait it returns when all of
/// that is on the replica. Waiting costs no upload of its own: the next one is made when sync-interval allows it, and
/// serves everybody who waits.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream sync [flags] DB_PATH", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Wait until everything that is committed now is on the replica.
    #[arg(long)]
    wait: bool,

    #[command(flatten)]
    on: DatabaseArgs,
}

const EXAMPLES: &str = "\
Examples:
  # Before a machine is replaced: is everything in safety?
  $ walstream sync -wait -timeout 120 /path/to/db

  $ walstream sync -json /path/to/db";

#[derive(Serialize)]
struct Report {
    db_path: String,
    txid: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica_txid: Option<u64>,
    duration_ms: u128,
}

/// Tells the daemon.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let DatabaseArgs { control, timeout, .. } = &args.on;
    let path = args.on.path("sync")?;
    positive(*timeout)?;
    let client = control.connect(*timeout)?;
    let started = Instant::now();
    let request = SyncRequest { path: wire(&path), wait: args.wait, timeout: Some(*timeout) };
    let done: Done = client.post("sync", &request).await?;
    let report = Report {
        db_path: done.path,
        txid: done.txid.unwrap_or_default(),
        replica_txid: done.replicated_txid.filter(|_| args.wait),
        duration_ms: started.elapsed().as_millis(),
    };
    let mut lines = vec![("db_path", report.db_path.clone()), ("txid", report.txid.to_string())];
    lines.extend(report.replica_txid.map(|txid| ("replica_txid", txid.to_string())));
    lines.push(("duration_ms", report.duration_ms.to_string()));
    control.print(&report, &lines)
}
