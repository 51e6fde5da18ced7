//! `walstream ltx verify`

use std::ffi::OsString;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde::Serialize;
use walstream_ltx::{DecodeError, FileName, Summary, verify};

use super::paths;
use crate::error::CliError;
use crate::output;

/// Check LTX files.
///
/// Reads each file to its end and checks all of it: the rules of the format, every page, its own checksum, the
/// checksum of the database where a snapshot has one, and that it holds what its name says. The exit code is 1 if
/// any file is damaged or cannot be read.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream ltx verify [flags] FILE...", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print JSON instead of lines.
    #[arg(long)]
    json: bool,

    #[arg(hide = true)]
    files: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # Every file of a replica in a directory.
  $ walstream ltx verify /backup/db/ltx/*/*.ltx";

/// What is said of a file.
#[derive(Serialize)]
struct Verdict {
    file: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Checks the files.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let files = paths(&args.files, "walstream ltx verify /backup/db/ltx/0/*.ltx")?;
    let mut verdicts = Vec::new();
    for file in &files {
        let verdict = judge(file);
        if !args.json {
            output::print(&verdict.line())?;
        }
        verdicts.push(verdict);
    }
    if args.json {
        output::print(&output::json(&verdicts))?;
    }
    match verdicts.iter().filter(|verdict| !verdict.ok).count() {
        0 => Ok(()),
        bad => Err(CliError::new(format!("{bad} of {} files failed verification", files.len()))),
    }
}

fn judge(path: &Path) -> Verdict {
    let error = File::open(path)
        .map_err(DecodeError::Io)
        .and_then(|file| verify(BufReader::new(file)))
        .map_err(|error| error.to_string())
        .and_then(|summary| check_name(path, &summary))
        .err();
    Verdict { file: path.display().to_string(), ok: error.is_none(), error }
}

/// Whether the name, if it is one of the format, promises what the file holds.
fn check_name(path: &Path, summary: &Summary) -> Result<(), String> {
    let name = path.file_name().and_then(|name| name.to_str()?.parse::<FileName>().ok());
    let held = FileName(summary.header.txids);
    if name.is_none_or(|name| name == held) {
        Ok(())
    } else {
        Err(format!("its header says that it is {held}"))
    }
}

impl Verdict {
    fn line(&self) -> String {
        format!("{}: {}\n", self.file, self.error.as_deref().unwrap_or("ok"))
    }
}
