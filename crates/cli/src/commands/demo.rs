//! `walstream demo`

use std::path::PathBuf;

use crate::error::CliError;

/// Watch it work on a small database of its own.
///
/// Makes a shop database in a temporary folder, sells things in it while it is replicated to a directory, loses
/// the database, and restores it: the latest state and an earlier one. Touches nothing else.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream demo [flags]", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder to work in, which must not exist or be empty. Default: a new temporary folder.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream demo";

/// Shows the main job.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let _ = args;
    Err(CliError::new("demo is being written"))
}
