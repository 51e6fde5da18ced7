//! `walstream ltx apply`

use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;
use walstream_engine::restore::{Applied, apply};

use super::paths;
use crate::error::CliError;
use crate::output;

/// Apply LTX files to a database.
///
/// Puts the pages of the files into a database, in the order of their TXIDs, which must follow each other without a
/// hole. If there is no database yet, the first file must hold a whole one. Files whose changes the database has
/// already are passed over, if they carry walstream's digests; without these, as in files of Litestream, the first
/// must be the next TXID, which nothing can prove.
///
/// The result takes the place of the database only when it is complete and has the checksums that the files promise.
/// A database that is in use is refused.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream ltx apply -o DB [flags] FILE...", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The database.
    #[arg(long = "o", value_name = "DB")]
    output: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[arg(hide = true)]
    files: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # Changes that were captured, but not uploaded before the machine was lost.
  $ walstream restore -o app.db s3://bucket/app
  $ walstream ltx apply -o app.db rescue/.app.db-litestream/ltx/0/*.ltx";

/// What `-json` prints.
#[derive(Serialize)]
struct Report {
    db_path: String,
    files: usize,
    txid: String,
    timestamp: String,
    page_size: u32,
    pages: u32,
    verified: bool,
}

/// Applies the files.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    const EXAMPLE: &str = "walstream ltx apply -o /path/to/db FILE...";
    let files = paths(&args.files, EXAMPLE)?;
    let database = args.output.clone().filter(|path| !path.as_os_str().is_empty());
    let database = database.ok_or_else(|| CliError::new("-o is required").with_try(EXAMPLE))?;
    let applied = apply(&files, &database)?;
    let report = Report::new(database.display().to_string(), &applied);
    output::print(&if args.json { output::json(&report) } else { report.text() })?;
    Ok(())
}

impl Report {
    fn new(db_path: String, applied: &Applied) -> Report {
        Report {
            db_path,
            files: applied.files,
            txid: applied.txid.to_string(),
            timestamp: output::millis(applied.created_at),
            page_size: applied.page_size.get(),
            pages: applied.commit.get(),
            verified: applied.verified,
        }
    }

    fn text(&self) -> String {
        let proof = match self.verified {
            true => "proven by the checksum of the database",
            false => "not proven: the files carry no checksum of the database",
        };
        let files = if self.files == 1 { "1 file".to_owned() } else { format!("{} files", self.files) };
        format!(
            "{}: {files} applied, now at TXID {} of {}, {proof}\n",
            self.db_path, self.txid, self.timestamp
        )
    }
}
