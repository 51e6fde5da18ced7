//! `walstream start`

use super::control::DatabaseArgs;
use crate::error::CliError;

/// Begin to replicate a database that was stopped.
///
/// Tells a daemon to replicate a database of its list again.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream start [flags] DB_PATH", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    on: DatabaseArgs,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream start /path/to/db
  $ walstream start -socket /tmp/litestream.sock -json /path/to/db";

/// Tells the daemon.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    args.on.tell("start", "running").await
}
