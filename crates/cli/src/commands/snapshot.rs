//! `walstream snapshot`

use std::ffi::OsString;

use serde::Serialize;

use super::control::{ControlArgs, positive, wire};
use super::only_database;
use crate::error::CliError;
use crate::socket::messages::{Done, PathRequest};

/// Bring a full snapshot of a database to its replica.
///
/// Tells a daemon to make one now, beside those that snapshot.interval brings, and waits until it is there. If nothing
/// has changed since the last one, that is it.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream snapshot [flags] DB_PATH", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    control: ControlArgs,

    /// How many seconds to wait for it. It is made all the same. Default 3600.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    timeout: i64,

    #[arg(hide = true)]
    database: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # Before a migration.
  $ walstream snapshot /path/to/db";

#[derive(Serialize)]
struct Report {
    db_path: String,
    txid: u64,
    socket: String,
}

/// Tells the daemon.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let path = only_database(&args.database, "walstream snapshot /path/to/db")?;
    positive(args.timeout)?;
    let client = args.control.connect(args.timeout)?;
    let request = PathRequest { path: wire(&path), timeout: Some(args.timeout) };
    let done: Done = client.post("snapshot", &request).await?;
    let report =
        Report { db_path: done.path, txid: done.txid.unwrap_or_default(), socket: args.control.name() };
    args.control.print(
        &report,
        &[
            ("db_path", report.db_path.clone()),
            ("txid", report.txid.to_string()),
            ("socket", report.socket.clone()),
        ],
    )
}
