//! `walstream unregister`

use std::ffi::OsString;

use serde::Serialize;

use super::control::{ControlArgs, positive, wire};
use super::only_database;
use crate::error::CliError;
use crate::output;
use crate::socket::messages::{Done, PathRequest};

/// Remove a database from those of a daemon.
///
/// The daemon brings everything that is committed to the replica, and then leaves the database alone. If the database
/// is in the daemon's configuration file, it is back after a restart.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream unregister [flags] DB_PATH", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Say what would be asked of the daemon, and ask nothing.
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    control: ControlArgs,

    /// How many seconds the last sync may take. Default 30.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: i64,

    #[arg(hide = true)]
    database: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream unregister /path/to/db
  $ walstream unregister -dry-run /path/to/db";

#[derive(Serialize)]
struct Report {
    status: String,
    db_path: String,
    final_txid: u64,
    socket: String,
}

/// Tells the daemon.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let path = only_database(&args.database, "walstream unregister /path/to/db")?;
    positive(args.timeout)?;
    if args.dry_run {
        return Ok(output::print(&preview(&args))?);
    }
    let client = args.control.connect(args.timeout)?;
    let request = PathRequest { path: wire(&path), timeout: Some(args.timeout) };
    let done: Done = client.post("unregister", &request).await?;
    let report = Report {
        status: done.status,
        db_path: done.path,
        final_txid: done.txid.unwrap_or_default(),
        socket: args.control.name(),
    };
    args.control.print(
        &report,
        &[
            ("status", report.status.clone()),
            ("db_path", report.db_path.clone()),
            ("final_txid", report.final_txid.to_string()),
            ("socket", report.socket.clone()),
        ],
    )
}

fn preview(args: &Args) -> String {
    let database = args.database.first().map(|path| path.display().to_string()).unwrap_or_default();
    format!(
        "Dry run: unregister request preview
  database: {database}
  socket: {}
  replicas: daemon-managed replica for this database
  final sync: daemon close will sync the database and replica before the command completes
  timeout: {}s
No unregister request was sent.
",
        args.control.name(),
        args.timeout
    )
}
