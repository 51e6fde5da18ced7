//! Which states a replica can give.
//!
//! Invariant: a TXID is listed exactly if a plan leads to it. A state of Litestream 0.3, which has no TXIDs, is
//! listed if the names of its objects promise that its time leads to it; whether they hold it, only a restore can
//! tell.

use std::collections::{BTreeMap, BTreeSet};

use futures::try_join;
use walstream_ltx::{Level, Timestamp, Txid};
use walstream_storage::{FileInfo, LegacyObject, ReplicaClient, TimestampSource};

use super::plan::{self, Target};
use super::v3;
use crate::error::EngineError;

/// A state that can be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its TXID; [`Txid::ZERO`] in a replica of Litestream 0.3, which has none.
    pub txid: Txid,
    /// When it was captured: [`Target::At`] this time restores it, unless a later state is of the same time.
    pub created_at: Timestamp,
    /// The levels with a file that ends here, lowest first; none in a replica of Litestream 0.3.
    pub levels: Vec<Level>,
}

/// Every state that a replica can give, the newest last. If there is something newer that it cannot give, because
/// files are missing, a warning says so; if it can give nothing, the error says why.
pub async fn points(client: &dyn ReplicaClient) -> Result<Vec<Point>, EngineError> {
    let (files, legacy) = try_join!(plan::list_all(client, TimestampSource::Exact), v3::list(client))?;
    let points = all(&files, &legacy);
    match plan::plan_from(&files, &legacy, client, &Target::Latest) {
        Err(error) if points.is_empty() => return Err(error),
        Err(error) if !files.is_empty() => tracing::warn!(%error, "there are newer files that lead nowhere"),
        _ => {}
    }
    Ok(points)
}

/// The times of the oldest and of the newest state that can be restored.
pub(super) fn range(files: &[FileInfo], legacy: &[LegacyObject]) -> Option<(Timestamp, Timestamp)> {
    let times = || all(files, legacy).into_iter().map(|point| point.created_at);
    times().min().zip(times().max())
}

/// The states of both versions; those of the version that went on longer come last.
fn all(files: &[FileInfo], legacy: &[LegacyObject]) -> Vec<Point> {
    let newest = |points: &[Point]| points.last().map(|point| point.created_at);
    let (ours, theirs) = (of_files(files), v3::points(legacy, files));
    if newest(&theirs) > newest(&ours) { [ours, theirs].concat() } else { [theirs, ours].concat() }
}

/// The TXIDs at which a chain of files ends, in order.
pub(crate) fn of_files(files: &[FileInfo]) -> Vec<Point> {
    let usable = files.iter().filter(|file| file.level != Level::SNAPSHOT || file.txids.is_snapshot());
    let mut by_end: BTreeMap<Txid, Vec<&FileInfo>> = BTreeMap::new();
    usable.for_each(|file| by_end.entry(file.txids.max()).or_default().push(file));
    let mut reached = BTreeSet::from([Txid::ZERO]);
    let mut points = Vec::new();
    for (end, mut files) in by_end {
        files.retain(|file| reached.range(file.txids.min().prev()..end).next().is_some());
        if let Some(created_at) = files.iter().map(|file| file.created_at).min() {
            reached.insert(end);
            let levels: BTreeSet<Level> = files.iter().map(|file| file.level).collect();
            points.push(Point { txid: end, created_at, levels: levels.into_iter().collect() });
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use walstream_ltx::TxidRange;

    use super::*;
    use crate::restore::plan::choose;

    fn file(level: u8, min: u64, max: u64, time: i64) -> FileInfo {
        let txids = TxidRange::new(Txid::new(min), Txid::new(max)).unwrap();
        let created_at = Timestamp::from_millis(time);
        FileInfo { level: Level::new(level).unwrap(), txids, size: 1000, created_at }
    }

    fn plain(points: Vec<Point>) -> Vec<(u64, i64, Vec<u8>)> {
        let levels = |point: &Point| point.levels.iter().map(|level| level.get()).collect();
        let plain = |point: Point| (point.txid.get(), point.created_at.as_millis(), levels(&point));
        points.into_iter().map(plain).collect()
    }

    #[test]
    fn every_end_of_a_chain_is_a_point() {
        let files = [
            file(9, 1, 2, 20),
            file(0, 2, 2, 19),
            file(1, 3, 5, 50),
            file(0, 4, 4, 40),
            file(0, 6, 6, 60),
            file(0, 8, 8, 80),
        ];
        // File 2 continues nothing, 4 was compacted, and 8 lies behind a hole.
        let expected = [(2, 20, vec![9]), (5, 50, vec![1]), (6, 60, vec![0])];
        assert_eq!(plain(of_files(&files)), expected);
        assert_eq!(range(&files, &[]), Some((Timestamp::from_millis(20), Timestamp::from_millis(60))));
        assert_eq!(range(&[file(0, 2, 2, 20)], &[]), None);
    }

    #[test]
    fn a_point_is_as_old_as_the_oldest_file_that_leads_to_it() {
        let files = [file(0, 1, 1, 10), file(0, 2, 2, 21), file(1, 1, 2, 20), file(9, 1, 2, 22)];
        assert_eq!(plain(of_files(&files)), [(1, 10, vec![0]), (2, 20, vec![0, 1, 9])]);
    }

    fn any_file() -> impl Strategy<Value = FileInfo> {
        (0..=9u8, 1..20u64, 0..8u64, 0..30i64)
            .prop_map(|(level, min, length, time)| file(level, min, min + length, time))
    }

    proptest! {
        #[test]
        fn a_txid_is_listed_exactly_if_a_plan_leads_to_it(files in prop::collection::vec(any_file(), 0..24)) {
            let listed: Vec<u64> = of_files(&files).iter().map(|point| point.txid.get()).collect();
            let planned: Vec<u64> =
                (0..30).filter(|&txid| choose(&files, &Target::Txid(Txid::new(txid))).is_ok()).collect();
            prop_assert_eq!(listed, planned);
        }
    }
}
