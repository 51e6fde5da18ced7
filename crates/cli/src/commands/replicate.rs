//! `walstream replicate`

use std::ffi::OsString;
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use crate::args::ConfigArgs;
use crate::error::CliError;
use crate::logging;

/// Replicate databases for as long as it runs.
///
/// Follows every database of the configuration file, or the one database that is named, and writes each change
/// to its replica. Applications need no change and may start and stop at any time. On SIGINT or SIGTERM
/// everything is written to the replica before the program ends; a second signal ends it at once.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "walstream replicate [flags]\nwalstream replicate [flags] DB_PATH REPLICA_URL",
    after_help = EXAMPLES
)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Run this command as a child process, replicate for as long as it runs, and exit with its exit code.
    /// Signals are passed on to it.
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,

    /// Write everything that is new to the replicas, then exit.
    #[arg(long)]
    once: bool,

    /// Also write a full snapshot of every database. Needs -once.
    #[arg(long)]
    force_snapshot: bool,

    /// Also delete what is older than the retention. Needs -once.
    #[arg(long)]
    enforce_retention: bool,

    /// Before it starts, restore every database that does not exist and has a backup.
    #[arg(long)]
    restore_if_db_not_exists: bool,

    /// Least important messages to log: trace, debug, info, warn or error. Wins over $LOG_LEVEL and over the
    /// configuration file.
    #[arg(long, value_name = "LEVEL", value_parser = logging::level_flag)]
    log_level: Option<LevelFilter>,

    #[arg(hide = true)]
    databases: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # Every database of /etc/litestream.yml.
  $ walstream replicate

  # One database, without a configuration file.
  $ walstream replicate /path/to/db s3://bucket/db

  # Start an application together with its replication, as in a container.
  $ walstream replicate -exec \"myapp -port 8080\" /path/to/db s3://bucket/db

  # Bring the replicas up to date from a cron job.
  $ walstream replicate -once -config litestream.yml";

/// Replicates.
pub(crate) async fn run(args: Args) -> Result<ExitCode, CliError> {
    let _ = args;
    Err(CliError::new("replicate is being written"))
}
