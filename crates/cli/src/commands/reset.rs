//! `walstream reset`

use std::ffi::OsString;
use std::path::Path;

use walstream_engine::{LocalState, default_meta_path};

use super::only_database;
use crate::args::ConfigArgs;
use crate::config;
use crate::error::CliError;
use crate::output;

/// Remove the local state of a database.
///
/// Removes what walstream keeps beside a database: the changes that wait for their upload, and the checksums of its
/// pages. The database and its replica stay as they are. The next start compares the database with its replica, and
/// makes a full copy if they differ. walstream recovers by itself from damage there, so this is rarely needed. A
/// daemon that replicates the database must be stopped first.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream reset [flags] DB_PATH", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Show which files would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,

    #[arg(hide = true)]
    database: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream reset -dry-run /path/to/db
  $ walstream reset /path/to/db";

/// Removes it.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let path = only_database(&args.database, "walstream reset /path/to/db")?;
    if !path.exists() {
        return Err(CliError::new(format!("database does not exist: {}", path.display())));
    }
    let config = config::load_if_there(&args.config)?;
    let listed = config.and_then(|config| config.find(&path));
    let meta = listed.map_or_else(|| default_meta_path(&path), |database| database.meta_path);
    let (state, name) = (LocalState::at(&meta), path.display());
    if !state.exists() {
        let meta = meta.display();
        let text = format!("No local state to reset for {name}\nMeta directory does not exist: {meta}\n");
        return Ok(output::print(&text)?);
    }
    match args.dry_run {
        true => preview(&state, &path),
        false => remove(&state, &path),
    }
}

fn preview(state: &LocalState, database: &Path) -> Result<(), CliError> {
    let mut text = format!(
        "Dry run: local walstream state would be reset for: {}\nWould remove: {}\n",
        database.display(),
        state.ltx_folder().display()
    );
    let files = state.files()?;
    if files.is_empty() {
        text.push_str("No local LTX files would be removed.\n");
    } else {
        text.push_str("Files that would be removed:\n");
        files.iter().for_each(|file| text.push_str(&format!("  {}\n", file.display())));
        text.push_str("No files were removed.\n");
    }
    Ok(output::print(&text)?)
}

fn remove(state: &LocalState, database: &Path) -> Result<(), CliError> {
    let (name, folder) = (database.display(), state.ltx_folder());
    output::print(&format!("Resetting local walstream state for: {name}\nRemoving: {}\n", folder.display()))?;
    state.remove(database)?;
    output::print("Reset complete. The next start compares the database with its replica.\n")?;
    Ok(())
}
