//! `walstream stop`

use super::control::DatabaseArgs;
use crate::error::CliError;

/// Stop the replication of a database.
///
/// Tells a daemon to bring everything that is committed to the replica, and then to leave the database alone until it is
/// started again. It stays in the daemon's list.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream stop [flags] DB_PATH", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    on: DatabaseArgs,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream stop /path/to/db
  $ walstream stop -socket /tmp/litestream.sock -json /path/to/db";

/// Tells the daemon.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    args.on.tell("stop", "stopped").await
}
