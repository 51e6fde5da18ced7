//! `walstream restore -dry-run`

use std::path::Path;

use serde::Serialize;
use walstream_engine::EngineError;
use walstream_engine::restore::{Plan, Target, plan};
use walstream_ltx::{FileName, Txid};
use walstream_storage::{FileInfo, LegacyObject, ReplicaClient};

use super::txid_text;
use crate::output;

/// From where to where, as the user named them.
pub(super) struct Places<'a> {
    pub(super) source: &'a str,
    pub(super) output: &'a Path,
}

/// What `-json` prints.
#[derive(Serialize)]
struct Shown {
    source: String,
    target_path: String,
    replica: &'static str,
    /// Empty for a backup of version 0.3, as everywhere.
    min_txid: String,
    max_txid: String,
    files: Vec<Row>,
}

/// A file, for people and for programs.
#[derive(Serialize)]
struct Row {
    /// None in a backup of version 0.3, which has neither levels nor TXIDs.
    level: Option<u8>,
    name: String,
    min_txid: String,
    max_txid: String,
    size: u64,
    timestamp: String,
}

/// The text or the JSON text of what would be read.
pub(super) async fn show(
    places: Places<'_>,
    client: &dyn ReplicaClient,
    target: &Target,
    json: bool,
) -> Result<String, EngineError> {
    let plan = plan(client, target).await?;
    let shown = Shown::new(plan, places, client.kind());
    Ok(if json { output::json(&shown) } else { shown.text() })
}

impl From<FileInfo> for Row {
    fn from(file: FileInfo) -> Self {
        Row {
            level: Some(file.level.get()),
            name: FileName(file.txids).to_string(),
            min_txid: file.txids.min().to_string(),
            max_txid: file.txids.max().to_string(),
            size: file.size,
            timestamp: output::seconds(file.created_at),
        }
    }
}

impl From<&LegacyObject> for Row {
    fn from(object: &LegacyObject) -> Self {
        Row {
            level: None,
            name: object.name.clone(),
            min_txid: txid_text(Txid::ZERO),
            max_txid: txid_text(Txid::ZERO),
            size: object.size,
            timestamp: output::seconds(object.created_at),
        }
    }
}

impl Shown {
    fn new(plan: Plan, Places { source, output }: Places<'_>, replica: &'static str) -> Self {
        let (first, last, files) = match plan {
            Plan::Files(plan) => {
                let first = plan.files.first().map_or(Txid::ZERO, |file| file.txids.min());
                (first, plan.txid(), plan.files.into_iter().map(Row::from).collect())
            }
            Plan::Legacy(backup) => (Txid::ZERO, Txid::ZERO, backup.objects().map(Row::from).collect()),
        };
        Shown {
            source: source.to_owned(),
            target_path: output.display().to_string(),
            replica,
            min_txid: txid_text(first),
            max_txid: txid_text(last),
            files,
        }
    }

    fn text(self) -> String {
        let is_legacy = self.max_txid.is_empty();
        let range = match is_legacy {
            true => "none, a backup of Litestream 0.3".to_owned(),
            false => format!("{} - {}", self.min_txid, self.max_txid),
        };
        let head = format!(
            "Restore plan:\n  source: {}\n  target: {}\n  replica: {}\n  txid range: {range}\n\nFiles to fetch:\n",
            self.source, self.target_path, self.replica
        );
        head + &if is_legacy { legacy_table(self.files) } else { table(self.files) }
    }
}

fn table(rows: Vec<Row>) -> String {
    let cells = |row: Row| {
        let level = row.level.map(|level| level.to_string()).unwrap_or_default();
        [level, row.name, row.min_txid, row.max_txid, row.size.to_string(), row.timestamp]
    };
    let rows: Vec<_> = rows.into_iter().map(cells).collect();
    output::table(["level", "file", "min_txid", "max_txid", "size", "timestamp"], &rows)
}

fn legacy_table(rows: Vec<Row>) -> String {
    let rows: Vec<_> = rows.into_iter().map(|row| [row.name, row.size.to_string(), row.timestamp]).collect();
    output::table(["file", "size", "timestamp"], &rows)
}
