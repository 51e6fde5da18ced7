//! `walstream restore -list`

use serde::Serialize;
use walstream_engine::EngineError;
use walstream_engine::restore::{Point, points};
use walstream_storage::ReplicaClient;

use super::txid_text;
use crate::output;

/// A state, for people and for programs.
#[derive(Serialize)]
struct Row {
    /// Empty for a backup of version 0.3.
    txid: String,
    timestamp: String,
    levels: Vec<u8>,
}

/// The table or the JSON text of every state that can be restored.
pub(super) async fn show(client: &dyn ReplicaClient, json: bool) -> Result<String, EngineError> {
    let rows: Vec<Row> = points(client).await?.into_iter().map(Row::from).collect();
    Ok(if json { output::json(&rows) } else { table(rows) })
}

impl From<Point> for Row {
    fn from(point: Point) -> Self {
        Row {
            txid: txid_text(point.txid),
            timestamp: output::millis(point.created_at),
            levels: point.levels.into_iter().map(|level| level.get()).collect(),
        }
    }
}

fn table(rows: Vec<Row>) -> String {
    let cells = |row: Row| match row.txid.is_empty() {
        true => ["-".to_owned(), row.timestamp, "Litestream 0.3".to_owned()],
        false => {
            let levels: Vec<String> = row.levels.iter().map(u8::to_string).collect();
            [row.txid, row.timestamp, levels.join(",")]
        }
    };
    let rows: Vec<_> = rows.into_iter().map(cells).collect();
    output::table(["txid", "timestamp", "levels"], &rows)
}

#[cfg(test)]
mod tests {
    use walstream_ltx::{Level, Timestamp, Txid};

    use super::*;

    #[test]
    fn states_of_both_versions_are_shown() {
        let point = |txid, millis, levels: &[u8]| Point {
            txid: Txid::new(txid),
            created_at: Timestamp::from_millis(millis),
            levels: levels.iter().filter_map(|&level| Level::new(level)).collect(),
        };
        let points = [point(0, 1_767_323_045_678, &[]), point(26, 1_767_323_050_000, &[0, 9])];
        assert_eq!(
            table(points.into_iter().map(Row::from).collect()),
            "txid              timestamp                 levels\n\
             -                 2026-01-02T03:04:05.678Z  Litestream 0.3\n\
             000000000000001a  2026-01-02T03:04:10.000Z  0,9\n"
        );
    }
}
