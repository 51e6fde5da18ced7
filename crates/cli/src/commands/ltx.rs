//! `walstream ltx`

pub(crate) mod apply;
pub(crate) mod diff;
pub(crate) mod dump;
pub(crate) mod verify;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use serde::Serialize;
use walstream_ltx::{Level, Txid};
use walstream_storage::{FileInfo, ReplicaClient, TimestampSource};

use super::Source;
use crate::args::ConfigArgs;
use crate::connect::connect;
use crate::error::CliError;
use crate::output;

/// List the files of a replica.
///
/// Shows the LTX files that a replica holds: which level they are of, which TXIDs they cover, how large they
/// are and when they were made. Every max_txid is a state that can be restored with -txid.
///
/// With a word of its own as the first argument it works on files: "verify" checks them, "dump" shows what is in
/// one, "apply" puts them into a database, and "diff" compares two states of a replica. "walstream help ltx verify"
/// tells more. A database of such a name is ./verify.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "walstream ltx [flags] DB_PATH\nwalstream ltx [flags] REPLICA_URL\n\
                      walstream ltx verify|dump|apply|diff ...",
    after_help = EXAMPLES
)]
pub(crate) struct Args {
    /// Level to list, 0 to 9 or "all". 0 has the newest changes one by one, 1 to 8 have them merged, 9 has full
    /// snapshots. Default 0.
    #[arg(long, value_name = "LEVEL", default_value = "0")]
    level: LevelArg,

    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    config: ConfigArgs,

    #[arg(hide = true)]
    source: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # Files of a database in the configuration file.
  $ walstream ltx /path/to/db

  # Full snapshots in a bucket.
  $ walstream ltx -level 9 s3://bucket/db

  # Everything, for a script.
  $ walstream ltx -level all -json file:///backup/db";

#[derive(Clone, Copy, Debug)]
enum LevelArg {
    One(Level),
    All,
}

impl FromStr for LevelArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("all") {
            return Ok(LevelArg::All);
        }
        match text.parse::<i64>() {
            Ok(number) => u8::try_from(number)
                .ok()
                .and_then(Level::new)
                .map(LevelArg::One)
                .ok_or("level must be between 0 and 9"),
            Err(_) => Err("invalid level: must be 0-9 or \"all\""),
        }
    }
}

#[derive(Serialize)]
struct Row {
    level: u8,
    min_txid: String,
    max_txid: String,
    size: u64,
    timestamp: String,
}

impl From<FileInfo> for Row {
    fn from(file: FileInfo) -> Self {
        Row {
            level: file.level.get(),
            min_txid: file.txids.min().to_string(),
            max_txid: file.txids.max().to_string(),
            size: file.size,
            timestamp: output::seconds(file.created_at),
        }
    }
}

/// The arguments of a command that works on files, of which there must be some.
fn paths(arguments: &[OsString], example: &str) -> Result<Vec<PathBuf>, CliError> {
    if arguments.is_empty() {
        return Err(CliError::new("LTX file required").with_try(example));
    }
    Ok(arguments.iter().map(PathBuf::from).collect())
}

/// Lists the files.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let source = Source::read(&args.source, &args.config, "walstream ltx /path/to/db")?;
    if let Some((_, config)) = &source.configured {
        config.print_warnings();
    }
    let client = connect(&source.replica, &source.limits)?;
    let levels = match args.level {
        LevelArg::One(level) => vec![level],
        LevelArg::All => Level::all().collect(),
    };
    let mut rows: Vec<Row> = Vec::new();
    for level in levels {
        let files = client.list(level, Txid::ZERO, TimestampSource::Listing).await?;
        rows.extend(files.into_iter().map(Row::from));
    }
    if rows.is_empty() && holds_legacy(&*client).await {
        eprintln!(
            "Warning: there is a backup of Litestream 0.3, which has no LTX files; \"walstream restore -list\" shows its states"
        );
    }
    output::print(&match args.json {
        true => output::json(&rows),
        false => table(rows),
    })?;
    Ok(())
}

/// Whether the replica has a backup of version 0.3. Who cannot know that, can do without the hint.
async fn holds_legacy(client: &dyn ReplicaClient) -> bool {
    match client.legacy() {
        Some(store) => store.list_legacy().await.is_ok_and(|objects| !objects.is_empty()),
        None => false,
    }
}

fn table(rows: Vec<Row>) -> String {
    let rows: Vec<_> = rows
        .into_iter()
        .map(|row| [row.level.to_string(), row.min_txid, row.max_txid, row.size.to_string(), row.timestamp])
        .collect();
    output::table(["level", "min_txid", "max_txid", "size", "created"], &rows)
}
