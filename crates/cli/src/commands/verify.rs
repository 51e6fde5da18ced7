//! `walstream verify`

mod findings;
mod text;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use walstream_engine::verify::{VerifyOptions, verify};

use self::findings::Findings;
use super::Source;
use crate::args::ConfigArgs;
use crate::connect::connect;
use crate::error::CliError;
use crate::output;
use crate::progress::RestoreProgress;
use crate::signals::{self, Signals};

/// Check that a replica can be restored.
///
/// Reads every file of a replica to its end and checks it, and tells which states can be restored from those that
/// are whole. Exits with 0 only if all of them are, and nothing is missing. The replica is not changed.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "walstream verify [flags] DB_PATH\nwalstream verify [flags] REPLICA_URL",
    after_help = EXAMPLES
)]
pub(crate) struct Args {
    /// Restore the newest state as well, to a temporary file, and check it with SQLite's integrity_check.
    #[arg(long)]
    deep: bool,

    /// Folder for that temporary file, which has the size of the database. Default: the system's.
    #[arg(long = "o", value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    config: ConfigArgs,

    #[arg(hide = true)]
    source: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # The replica of a database in the configuration file.
  $ walstream verify /path/to/db

  # A bucket, with a restore on a disk that has room for it.
  $ walstream verify -deep -o /var/tmp s3://bucket/db

  # For a script: everything that was found, and the exit code.
  $ walstream verify -json file:///backup/db";

/// Verifies.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let source = Source::read(&args.source, &args.config, "walstream verify /path/to/db")?;
    if args.folder.is_some() && !args.deep {
        return Err(CliError::new("-o is only used with -deep"));
    }
    if let Some((_, config)) = &source.configured {
        config.print_warnings();
    }
    let client = connect(&source.replica, &source.limits)?;
    let scratch = args.deep.then(|| scratch_folder(args.folder.as_deref())).transpose()?;
    let options = VerifyOptions { deep: scratch.as_ref().map(|folder| folder.path().join("verified.db")) };
    let progress = RestoreProgress::new();
    let mut signals = Signals::shutdown()?;
    let report = tokio::select! {
        report = verify(&client, &options, &progress) => report?,
        // Ending here, and not by the signal itself, removes the temporary file.
        signal = signals.next_shutdown() => {
            return Err(CliError::new(format!("interrupted by signal: {}", signals::name(signal))));
        }
    };
    drop(progress);
    let problem = report.problem();
    output::print(&match args.json {
        true => output::json(&Findings::new(&report, client.kind())),
        false => text::text(&report),
    })?;
    match problem {
        Some(problem) => Err(CliError::new(problem)),
        None => Ok(()),
    }
}

fn scratch_folder(folder: Option<&Path>) -> Result<TempDir, CliError> {
    let parent = folder.map_or_else(std::env::temp_dir, Path::to_owned);
    tempfile::Builder::new().prefix("walstream-verify-").tempdir_in(&parent).map_err(|error| {
        CliError::new(format!("cannot make a folder in {}: {error}", parent.display()))
            .with_hint("name another one with -o")
    })
}
