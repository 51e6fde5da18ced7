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
//! The decisions are pure functions over listings, ordered as listings are; a property test replays random histories
//! against the restore planner.

use std::time::Duration;

use walstream_ltx::{Timestamp, Txid, TxidRange};
use walstream_storage::FileInfo;

use super::levels::before;

/// Level-0 files that level 1 has made superfluous and that are older than `keep`; zero keeps all.
///
/// The files that went into one file of level 1 go together, once the youngest of them is old enough: without its
/// predecessors a young one would lead nowhere. The newest file stays, because it tells how far the replica is.
pub fn l0_to_delete(
    l0: &[FileInfo],
    l1: &[FileInfo],
    snapshots: &[FileInfo],
    now: Timestamp,
    keep: Duration,
) -> Vec<FileInfo> {
    let Some(newest) = l0.iter().map(|file| file.txids.max()).max() else { return Vec::new() };
    if keep.is_zero() || l1.is_empty() {
        return Vec::new();
    }
    let too_young = before(now, keep);
    let compacted = compacted(l1, snapshots, too_young);
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

/// Snapshots that no point in the time from `now - keep` on needs.
pub fn snapshots_to_delete(snapshots: &[FileInfo], now: Timestamp, keep: Duration) -> Vec<FileInfo> {
    let Some(ground) = ground(snapshots, now, keep) else { return Vec::new() };
    let goes =
        |file: &&FileInfo| file.txids.is_snapshot() && is_older(file, now, keep) && file.txids.max() < ground;
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
    use proptest::prelude::*;
    use walstream_ltx::Level;

    use super::super::sources::{Limits, next_sources};
    use super::*;
    use crate::restore::plan::{Target, choose};

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
        ends(&l0_to_delete(&files(0, l0), &l1, &snapshots, at(now), Duration::from_secs(100)))
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
    fn a_level_keeps_what_reaches_the_floor_and_its_newest_file() {
        let level = files(2, &[(1, 4, 0), (5, 8, 0), (9, 12, 0)]);
        for (floor, gone) in [(0, vec![]), (4, vec![]), (5, vec![4]), (9, vec![4, 8]), (99, vec![4, 8])] {
            assert_eq!(ends(&level_to_delete(&level, Txid::new(floor))), gone, "floor {floor}");
        }
    }

    /// What may happen to a replica.
    #[derive(Clone, Debug)]
    enum Event {
        /// Level 0 gets a file that spans so many TXIDs.
        Capture(u64),
        /// As Litestream would do it: what starts after the end of the level, in one file.
        CompactAsLitestream(u8),
        Compact(u8),
        Snapshot,
        EnforceL0(u64),
        EnforceSnapshots(u64),
        /// A file is gone or cannot be read.
        Lose(usize),
        Wait(i64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => prop_oneof![4 => Just(1u64), 1 => 2u64..5].prop_map(Event::Capture),
            1 => (1u8..4).prop_map(Event::CompactAsLitestream),
            4 => (1u8..4).prop_map(Event::Compact),
            1 => Just(Event::Snapshot),
            2 => (1u64..40).prop_map(Event::EnforceL0),
            1 => (1u64..80).prop_map(Event::EnforceSnapshots),
            1 => any::<usize>().prop_map(Event::Lose),
            6 => (0i64..12).prop_map(Event::Wait),
        ]
    }

    #[derive(Default)]
    struct Replica {
        files: Vec<FileInfo>,
        now: i64,
        txid: u64,
    }

    impl Replica {
        fn level(&self, level: Level) -> Vec<FileInfo> {
            self.files.iter().filter(|file| file.level == level).cloned().collect()
        }

        fn newest(&self, level: Level) -> Option<Txid> {
            self.level(level).iter().map(|file| file.txids.max()).max()
        }

        fn add(&mut self, file: FileInfo) {
            self.files.push(file);
            self.files.sort_by_key(|file| (file.level, file.txids));
        }

        fn merge_into(&mut self, level: Level, sources: &[FileInfo]) {
            if let (Some(first), Some(last)) = (sources.first(), sources.last()) {
                let txids = TxidRange::new(first.txids.min(), last.txids.max()).unwrap();
                self.add(FileInfo { level, txids, size: 100, created_at: last.created_at });
            }
        }

        fn compact(&mut self, level: u8) {
            let (level, below) = (Level::new(level).unwrap(), self.level(Level::new(level - 1).unwrap()));
            let sources =
                next_sources(&below, self.newest(level), &self.level(Level::SNAPSHOT), &Limits::default());
            self.merge_into(level, &sources.unwrap_or_default());
        }

        fn compact_as_litestream(&mut self, level: u8) {
            let (level, below) = (Level::new(level).unwrap(), self.level(Level::new(level - 1).unwrap()));
            let end = self.newest(level).unwrap_or(Txid::ZERO);
            let sources: Vec<_> = below.into_iter().filter(|file| file.txids.min() > end).collect();
            self.merge_into(level, &sources);
        }

        /// Where a restore leads, for every TXID and every second that there was, and for the newest state.
        fn reachable(&self) -> Vec<(Target, Option<Txid>)> {
            let txids = (1..=self.txid).map(|txid| Target::Txid(Txid::new(txid)));
            let times = (0..=self.now).map(|seconds| Target::At(at(seconds)));
            let targets = txids.chain(times).chain([Target::Latest]);
            let end = |target| choose(&self.files, &target).ok()?.last().map(|file| file.txids.max());
            targets.map(|target| (target, end(target))).collect()
        }

        fn delete(&mut self, gone: &[FileInfo]) {
            self.files.retain(|file| !gone.contains(file));
        }

        fn enforce_l0(&mut self, keep: u64) {
            let before = self.reachable();
            let ends: Vec<_> = self
                .files
                .iter()
                .filter(|file| file.level > Level::L0)
                .map(|file| file.txids.max())
                .collect();
            let (l0, l1) = (self.level(Level::L0), self.level(Level::new(1).unwrap()));
            let kept_since = at(self.now - keep as i64);
            let young: Vec<_> =
                l0.iter().filter(|file| file.created_at > kept_since).map(|file| file.txids.max()).collect();
            let gone =
                l0_to_delete(&l0, &l1, &self.level(Level::SNAPSHOT), at(self.now), Duration::from_secs(keep));
            self.delete(&gone);
            self.check(before, |target| match target {
                Target::Latest => true,
                Target::Txid(txid) => ends.contains(&txid) || young.contains(&txid),
                Target::At(time) => time > kept_since,
            });
        }

        fn enforce_snapshots(&mut self, keep: u64) {
            let before = self.reachable();
            let (snapshots, now, keep) =
                (self.level(Level::SNAPSHOT), at(self.now), Duration::from_secs(keep));
            let floor = floor(&snapshots, now, keep);
            self.delete(&snapshots_to_delete(&snapshots, now, keep));
            for level in (0..9).filter_map(Level::new) {
                self.delete(&level_to_delete(&self.level(level), floor));
            }
            self.check(before, |target| match target {
                Target::Latest => true,
                Target::Txid(txid) => txid >= floor,
                Target::At(time) => time >= super::before(now, keep),
            });
        }

        fn check(&self, before: Vec<(Target, Option<Txid>)>, retained: impl Fn(Target) -> bool) {
            for ((target, before), (_, after)) in before.into_iter().zip(self.reachable()) {
                if before.is_some() && retained(target) {
                    assert_eq!(after, before, "{target:?} at {} with {:#?}", self.now, self.files);
                }
            }
        }

        fn happen(&mut self, event: &Event) {
            match *event {
                Event::Capture(txids) => {
                    self.add(file(Level::L0, self.txid + 1, self.txid + txids, self.now));
                    self.txid += txids;
                }
                Event::CompactAsLitestream(level) => self.compact_as_litestream(level),
                Event::Compact(level) => self.compact(level),
                Event::Snapshot
                    if self.txid > 0 && self.newest(Level::SNAPSHOT) < Some(Txid::new(self.txid)) =>
                {
                    self.add(file(Level::SNAPSHOT, 1, self.txid, self.now));
                }
                Event::Snapshot => {}
                Event::EnforceL0(keep) => self.enforce_l0(keep),
                Event::EnforceSnapshots(keep) => self.enforce_snapshots(keep),
                Event::Lose(which) if !self.files.is_empty() => {
                    self.files.remove(which % self.files.len());
                }
                Event::Lose(_) => {}
                Event::Wait(seconds) => self.now += seconds,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_deletion_removes_what_a_retained_point_needs(events in proptest::collection::vec(event(), 1..60)) {
            let mut replica = Replica::default();
            for event in &events {
                replica.happen(event);
            }
        }
    }
}
