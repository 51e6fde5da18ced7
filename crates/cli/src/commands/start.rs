//! `walstream start`

use std::ffi::OsString;

use super::control::{ControlArgs, State, wire};
use super::only_database;
use crate::error::CliError;
use crate::socket::messages::{Done, PathRequest};

/// Begin to replicate a database that was stopped.
///
/// Tells a daemon to replicate a database of its list again.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream start [flags] DB_PATH", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    control: ControlArgs,

    /// How many seconds it may take. Default 30.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: i64,

    #[arg(hide = true)]
    database: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream start /path/to/db
  $ walstream start -socket /tmp/litestream.sock -json /path/to/db";

/// Tells the daemon.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let path = only_database(&args.database, "walstream start /path/to/db")?;
    let client = args.control.connect_at_leisure(args.timeout)?;
    let request = PathRequest { path: wire(&path), timeout: Some(args.timeout) };
    let done: Done = client.post("start", &request).await?;
    let state = State {
        status: done.status,
        db_path: done.path,
        state: "running",
        txid: done.txid.unwrap_or_default(),
        socket: args.control.name(),
    };
    args.control.print(&state, &state.lines())
}
