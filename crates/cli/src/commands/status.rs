//! `walstream status`

use std::ffi::OsString;
use std::path::Path;

use serde::Serialize;
use walstream_engine::LocalState;

use crate::args::ConfigArgs;
use crate::config::{self, DatabaseConfig, expand_path};
use crate::error::CliError;
use crate::output;

/// Show the local state of databases.
///
/// Shows for each database of the configuration file, or for the one that is named, whether it has ever been captured,
/// up to which TXID, and how long its WAL is. It looks at local files alone: "walstream list" and "walstream sync" ask
/// a daemon, "walstream ltx" looks at a replica.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream status [flags] [DB_PATH]", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,

    #[arg(hide = true)]
    database: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream status
  $ walstream status /path/to/db
  $ walstream status -json";

#[derive(Serialize)]
struct Row {
    database: String,
    status: &'static str,
    local_txid: String,
    wal_size: String,
}

/// Shows them.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let only = match args.database.as_slice() {
        [] => None,
        [path] => Some(expand_path(path)?),
        _ => return Err(CliError::new("too many arguments")),
    };
    let config = config::load(&args.config)?;
    config.print_warnings();
    let databases = config.databases()?;
    let wanted = |database: &&DatabaseConfig| only.as_ref().is_none_or(|path| *path == database.path);
    let rows: Vec<Row> = databases.iter().filter(wanted).map(look).collect();
    output::print(&match args.json {
        true => output::json(&rows),
        false => {
            let cells = |row: Row| [row.database, row.status.to_owned(), row.local_txid, row.wal_size];
            let rows: Vec<_> = rows.into_iter().map(cells).collect();
            output::table(["database", "status", "local txid", "wal size"], &rows)
        }
    })?;
    Ok(())
}

fn look(database: &DatabaseConfig) -> Row {
    let (status, txid) = match LocalState::at(&database.meta_path).txid() {
        _ if !database.path.exists() => ("no database", None),
        Ok(Some(txid)) => ("ok", Some(txid)),
        Ok(None) => ("not initialized", None),
        Err(_) => ("error", None),
    };
    Row {
        database: database.path.display().to_string(),
        status,
        local_txid: txid.map_or_else(|| "-".to_owned(), |txid| txid.to_string()),
        wal_size: wal_size(&database.path),
    }
}

/// `-` without a database.
fn wal_size(database: &Path) -> String {
    if !database.exists() {
        return "-".to_owned();
    }
    let mut wal = database.as_os_str().to_owned();
    wal.push("-wal");
    output::human_size(std::fs::metadata(wal).map_or(0, |wal| wal.len()))
}
