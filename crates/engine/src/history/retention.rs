//! Which files may go.
//!
//! Invariant: no deletion removes a file that a restore to a retained point needs. Retained are, as far as they could
//! be reached before:
//!
//! - the newest state;
//! - of the time that level 0 keeps: every TXID; of the time before: every end of a compacted file;
//! - of the time that snapshots keep: every point, starting with the newest snapshot *before* that time, the ground
//!   under the first points in it. (Litestream deletes that one and keeps the changes that go with it.)
//!
//! The decisions are pure functions over listings, ordered as listings are; `tests/retained.rs` replays random histories
//! against the restore planner.

use std::time::Duration;

use walstream_ltx::{Timestamp, Txid, TxidRange};
use walstream_storage::FileInfo;

use super::levels::before;

/// Level-0 files that level 1 has made superfluous and that are older than `keep`; zero keeps all.
///
/// The files that went into one file of level 1 go together, once the youngest of them is old enough: without its
/// predecessors a young one would lead nowhere. The newest file stays, because it tells how far the replica is. So do
/// those that may lead to the end of a file of the levels `above` level 1, where level 1 goes past it: it did not when
/// that file was made, and what it had then is lost.
pub fn l0_to_delete(
    l0: &[FileInfo],
    l1: &[FileInfo],
    above: &[FileInfo],
    snapshots: &[FileInfo],
    now: Timestamp,
    keep: Duration,
) -> Vec<FileInfo> {
    let Some(newest) = l0.iter().map(|file| file.txids.max()).max() else { return Vec::new() };
    if keep.is_zero() || l1.is_empty() {
        return Vec::new();
    }
    let too_young = before(now, keep);
    let mut compacted = compacted(l1, snapshots, too_young);
    compacted.retain(|range| !above.iter().any(|file| ends_inside(file, *range)));
    let covered = joined(&compacted);
    let first_to_stay = l0.iter().find(|file| file.created_at > too_young || !holds(&covered, file.txids));
    let end = match first_to_stay {
        None => newest,
        Some(file) => last_end_before(&compacted, file.txids.min()),
    };
    let goes = |file: &&FileInfo| file.txids.max() <= end && file.txids.max() < newest;
    l0.iter().filter(goes).cloned().collect()
}

/// What level 0 need not hold any more: the files of level 1, and the snapshot that level 1 starts after. Each counts
/// once it is old enough to serve every point in time that level 0 keeps.
fn compacted(l1: &[FileInfo], snapshots: &[FileInfo], too_young: Timestamp) -> Vec<TxidRange> {
    let start = l1.first().map(|file| file.txids.min());
    let ground = snapshots.iter().find(|file| Some(file.txids.max().next()) == start);
    let old_enough = ground.into_iter().chain(l1).filter(|file| file.created_at <= too_young);
    old_enough.map(|file| file.txids).collect()
}

/// Whether a restore to the end of the file cannot use one that holds the range.
fn ends_inside(file: &FileInfo, range: TxidRange) -> bool {
    range.min() <= file.txids.max() && file.txids.max() < range.max()
}

/// The same TXIDs, which come in order, in as few ranges as possible.
pub(crate) fn joined(ranges: &[TxidRange]) -> Vec<TxidRange> {
    let mut joined: Vec<TxidRange> = Vec::new();
    for &range in ranges {
        match joined.pop() {
            Some(last) if range.min() <= last.max().next() => {
                joined.extend(TxidRange::new(last.min(), Ord::max(last.max(), range.max())));
            }
            last => joined.extend(last.into_iter().chain([range])),
        }
    }
    joined
}

/// Whether one of the ranges, which are in order and apart, holds all of `txids`.
fn holds(ranges: &[TxidRange], txids: TxidRange) -> bool {
    let next = ranges.partition_point(|&range| range.max() < txids.min());
    ranges.get(next).is_some_and(|&range| range.min() <= txids.min() && txids.max() <= range.max())
}

fn last_end_before(ranges: &[TxidRange], txid: Txid) -> Txid {
    ranges.iter().map(|&range| range.max()).filter(|&end| end < txid).max().unwrap_or(Txid::ZERO)
}

/// Snapshots that no point in the time from `now - keep` on needs. Where the clock was set back, one that looks old may
/// lie between two that are kept; then it stays.
pub fn snapshots_to_delete(snapshots: &[FileInfo], now: Timestamp, keep: Duration) -> Vec<FileInfo> {
    let floor = floor(snapshots, now, keep);
    let goes = |file: &&FileInfo| file.txids.is_snapshot() && file.txids.max() < floor;
    snapshots.iter().filter(goes).cloned().collect()
}

/// The end of the oldest snapshot that [`snapshots_to_delete`] leaves: no retained point lies before it. Zero as long
/// as every snapshot lies in the time that is kept, since points before the first of them are then retained as well.
pub fn floor(snapshots: &[FileInfo], now: Timestamp, keep: Duration) -> Txid {
    let Some(ground) = ground(snapshots, now, keep) else { return Txid::ZERO };
    let kept = snapshots.iter().filter(|file| file.txids.is_snapshot() && !is_older(file, now, keep));
    kept.map(|file| file.txids.max()).fold(ground, Ord::min)
}

/// The end of the newest snapshot from before the time that is kept.
fn ground(snapshots: &[FileInfo], now: Timestamp, keep: Duration) -> Option<Txid> {
    let older = snapshots.iter().filter(|file| file.txids.is_snapshot() && is_older(file, now, keep));
    older.map(|file| file.txids.max()).max()
}

fn is_older(file: &FileInfo, now: Timestamp, keep: Duration) -> bool {
    file.created_at < before(now, keep)
}

/// Files of one level below the snapshots that end before `floor`. The level's newest stays: the next compaction
/// goes on after it.
pub fn level_to_delete(files: &[FileInfo], floor: Txid) -> Vec<FileInfo> {
    let newest = files.iter().map(|file| file.txids.max()).max();
    let goes = |file: &&FileInfo| file.txids.max() < floor && Some(file.txids.max()) != newest;
    files.iter().filter(goes).cloned().collect()
}

#[cfg(test)]
mod tests {
    use walstream_ltx::Level;

    use super::*;

    const SECOND: i64 = 1000;
    const NONE: [u64; 0] = [];

    fn file(level: Level, min: u64, max: u64, seconds: i64) -> FileInfo {
        FileInfo {
            level,
            txids: TxidRange::new(Txid::new(min), Txid::new(max)).unwrap(),
            size: 100,
            created_at: Timestamp::from_millis(seconds * SECOND),
        }
    }

    fn files(level: u8, files: &[(u64, u64, i64)]) -> Vec<FileInfo> {
        let level = Level::new(level).unwrap();
        files.iter().map(|&(min, max, seconds)| file(level, min, max, seconds)).collect()
    }

    fn ends(files: &[FileInfo]) -> Vec<u64> {
        files.iter().map(|file| file.txids.max().get()).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * SECOND)
    }

    fn l0_ends(l0: &[(u64, u64, i64)], l1: &[(u64, u64)], snapshots: &[u64], now: i64) -> Vec<u64> {
        let l1 = files(1, &l1.iter().map(|&(min, max)| (min, max, 0)).collect::<Vec<_>>());
        let snapshots = files(9, &snapshots.iter().map(|&max| (1, max, 0)).collect::<Vec<_>>());
        ends(&l0_to_delete(&files(0, l0), &l1, &[], &snapshots, at(now), Duration::from_secs(100)))
    }

    #[test]
    fn what_leads_to_a_file_of_a_higher_level_stays_if_level_1_was_lost() {
        let (l0, l1) =
            (files(0, &[(1, 2, 0), (3, 3, 0), (4, 4, 0), (5, 5, 0), (6, 6, 0)]), files(1, &[(6, 6, 0)]));
        let (above, snapshots) = (files(2, &[(3, 4, 0)]), files(9, &[(1, 5, 0)]));
        let gone = |above: &[FileInfo]| {
            ends(&l0_to_delete(&l0, &l1, above, &snapshots, at(1000), Duration::from_secs(100)))
        };
        assert_eq!(gone(&[]), [2, 3, 4, 5]);
        assert_eq!(gone(&above), NONE, "2 leads to 3-4");
    }

    #[test]
    fn level_0_goes_once_level_1_holds_it() {
        let l0 = &[(1, 1, 10), (2, 2, 20), (3, 3, 30), (4, 4, 40), (5, 5, 50)];
        assert_eq!(l0_ends(l0, &[], &[5], 1000), NONE, "no level 1");
        assert_eq!(l0_ends(l0, &[(1, 2), (3, 4)], &[], 1000), [1, 2, 3, 4]);
        assert_eq!(l0_ends(l0, &[(1, 5)], &[], 1000), [1, 2, 3, 4], "the newest stays");
        assert_eq!(l0_ends(l0, &[(1, 2), (3, 4)], &[], 130), [1, 2], "4 is young, and needs 3");
        assert_eq!(l0_ends(l0, &[(1, 5)], &[], 130), NONE, "4 is young, and needs 1 to 3");
        assert_eq!(l0_ends(l0, &[(1, 2), (4, 4)], &[], 1000), [1, 2], "3 is nowhere else");
    }

    #[test]
    fn level_0_goes_where_level_1_starts_after_a_snapshot() {
        let l0 = &[(1, 1, 10), (2, 2, 20), (3, 3, 30)];
        assert_eq!(l0_ends(l0, &[(2, 3)], &[1], 1000), [1, 2]);
        assert_eq!(l0_ends(l0, &[(2, 3)], &[], 1000), NONE, "1 is nowhere else");
        assert_eq!(l0_ends(l0, &[(3, 3)], &[1], 1000), NONE, "nor 2 here");
    }

    #[test]
    fn files_that_straddle_an_end_of_level_1_stay() {
        let l0 = &[(1, 2, 0), (3, 6, 0), (7, 7, 0)];
        assert_eq!(l0_ends(l0, &[(1, 4)], &[], 1000), NONE, "1-2 leads to 3-6, which level 1 lacks");
        assert_eq!(l0_ends(l0, &[(1, 2), (3, 4)], &[], 1000), [2]);
        assert_eq!(l0_ends(l0, &[(1, 4), (3, 6)], &[], 1000), [2, 6], "the overlap closes it");
    }

    #[test]
    fn the_newest_snapshot_before_the_kept_time_stays() {
        let snapshots = files(9, &[(1, 5, 100), (1, 9, 200), (1, 12, 300), (1, 20, 400)]);
        for (now, keep, gone, first_kept) in [
            (450, 1000, vec![], 0),
            (450, 300, vec![], 5),
            (450, 200, vec![5], 9),
            (450, 140, vec![5, 9], 12),
            (450, 10, vec![5, 9, 12], 20),
            (9999, 0, vec![5, 9, 12], 20),
        ] {
            let keep = Duration::from_secs(keep);
            assert_eq!(ends(&snapshots_to_delete(&snapshots, at(now), keep)), gone, "{now} {keep:?}");
            assert_eq!(floor(&snapshots, at(now), keep), Txid::new(first_kept), "{now} {keep:?}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_takes_no_snapshot_away() {
        let snapshots = files(9, &[(1, 3, 10), (1, 5, 300), (1, 9, 100), (1, 12, 110), (1, 20, 400)]);
        let keep = Duration::from_secs(200);
        assert_eq!(floor(&snapshots, at(450), keep), Txid::new(5));
        assert_eq!(
            ends(&snapshots_to_delete(&snapshots, at(450), keep)),
            [3],
            "9 comes after 5, which is kept"
        );
    }

    #[test]
    fn a_level_keeps_what_reaches_the_floor_and_its_newest_file() {
        let level = files(2, &[(1, 4, 0), (5, 8, 0), (9, 12, 0)]);
        for (floor, gone) in [(0, vec![]), (4, vec![]), (5, vec![4]), (9, vec![4, 8]), (99, vec![4, 8])] {
            assert_eq!(ends(&level_to_delete(&level, Txid::new(floor))), gone, "floor {floor}");
        }
    }
}
