//! `walstream stop`

use std::ffi::OsString;

use super::control::{ControlArgs, State, wire};
use super::only_database;
use crate::error::CliError;
use crate::socket::messages::{Done, PathRequest};

/// Stop the replication of a database.
///
/// Tells a daemon to bring everything that is committed to the replica, and then to leave the database alone until it is
/// started again. It stays in the daemon's list.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream stop [flags] DB_PATH", after_help = EXAMPLES)]
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
  $ walstream stop /path/to/db
  $ walstream stop -socket /tmp/litestream.sock -json /path/to/db";

/// Tells the daemon.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let path = only_database(&args.database, "walstream stop /path/to/db")?;
    let client = args.control.connect_at_leisure(args.timeout)?;
    let request = PathRequest { path: wire(&path), timeout: Some(args.timeout) };
    let done: Done = client.post("stop", &request).await?;
    let state = State {
        status: done.status,
        db_path: done.path,
        state: "stopped",
        txid: done.txid.unwrap_or_default(),
        socket: args.control.name(),
    };
    args.control.print(&state, &state.lines())
}
