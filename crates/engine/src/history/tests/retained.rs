//! Nothing is deleted that a restore to a retained point may need: ten thousand random histories against the restore
//! planner.
//!
//! A history has captures of one or many TXIDs, compactions by walstream and by Litestream (which leaves out files that
//! straddle), snapshots, lost files, clocks that are set, and retention of both kinds. A retention deletes in any order
//! and may be interrupted at any file. Restores that planned long before it find files gone and plan again.

use std::time::Duration;

use proptest::prelude::*;
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::FileInfo;

use super::super::levels::before;
use super::super::retention::{floor, l0_to_delete, level_to_delete, snapshots_to_delete};
use super::super::sources::{Limits, next_sources};
use crate::restore::plan::{Target, choose};

const HISTORIES: u32 = 10_000;

/// What may happen to a replica.
#[derive(Clone, Debug)]
enum Event {
    /// Level 0 gets a file that spans so many TXIDs.
    Capture(u64),
    /// As Litestream would do it: what starts after the end of the level, in one file.
    CompactAsLitestream(u8),
    Compact(u8),
    Snapshot,
    EnforceL0(u64, Deletions),
    EnforceSnapshots(u64, Deletions),
    /// Somebody plans a restore to the newest state, and takes his time.
    Restore,
    /// A file is gone or cannot be read.
    Lose(usize),
    Wait(i64),
    /// The wall clock is set so many seconds forward or back.
    SetClock(i64),
}

/// How files are deleted: in an order that this number decides, until somebody interrupts.
#[derive(Clone, Copy, Debug)]
struct Deletions {
    order: u64,
    interrupted_after: usize,
}

fn deletions() -> impl Strategy<Value = Deletions> {
    let interrupted_after = prop_oneof![2 => Just(usize::MAX), 1 => 0usize..8];
    (any::<u64>(), interrupted_after)
        .prop_map(|(order, interrupted_after)| Deletions { order, interrupted_after })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        24 => prop_oneof![4 => Just(1u64), 1 => 2u64..5].prop_map(Event::Capture),
        3 => (1u8..4).prop_map(Event::CompactAsLitestream),
        12 => (1u8..4).prop_map(Event::Compact),
        3 => Just(Event::Snapshot),
        6 => (1u64..40, deletions()).prop_map(|(keep, how)| Event::EnforceL0(keep, how)),
        3 => (1u64..80, deletions()).prop_map(|(keep, how)| Event::EnforceSnapshots(keep, how)),
        3 => Just(Event::Restore),
        3 => any::<usize>().prop_map(Event::Lose),
        18 => (0i64..12).prop_map(Event::Wait),
        1 => (-60i64..60).prop_map(Event::SetClock),
    ]
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn level(number: u8) -> Level {
    Level::new(number).unwrap()
}

#[derive(Default)]
struct Replica {
    files: Vec<FileInfo>,
    now: i64,
    txid: u64,
    /// The latest time that there ever was.
    latest: i64,
    /// Plans of the restores that are under way.
    restores: Vec<Vec<FileInfo>>,
    /// How many files were deleted, and how many restores had to plan again.
    deleted: usize,
    planned_again: usize,
}

impl Replica {
    fn level(&self, level: Level) -> Vec<FileInfo> {
        self.files.iter().filter(|file| file.level == level).cloned().collect()
    }

    fn newest(&self, level: Level) -> Option<Txid> {
        self.level(level).iter().map(|file| file.txids.max()).max()
    }

    fn add(&mut self, level: Level, min: Txid, max: Txid, created_at: Timestamp) {
        let txids = TxidRange::new(min, max).unwrap();
        self.files.push(FileInfo { level, txids, size: 100, created_at });
        self.files.sort_by_key(|file| (file.level, file.txids));
    }

    fn merge_into(&mut self, level: Level, sources: &[FileInfo]) {
        if let (Some(first), Some(last)) = (sources.first(), sources.last()) {
            self.add(level, first.txids.min(), last.txids.max(), last.created_at);
        }
    }

    fn compact(&mut self, number: u8) {
        let (snapshots, below) = (self.level(Level::SNAPSHOT), self.level(level(number - 1)));
        let sources = next_sources(&below, self.newest(level(number)), &snapshots, &Limits::default());
        self.merge_into(level(number), &sources.unwrap_or_default());
    }

    fn compact_as_litestream(&mut self, number: u8) {
        let end = self.newest(level(number)).unwrap_or(Txid::ZERO);
        let mut sources = self.level(level(number - 1));
        sources.retain(|file| file.txids.min() > end);
        self.merge_into(level(number), &sources);
    }

    /// Every TXID, every second that there was, and the newest state.
    fn targets(&self) -> impl Iterator<Item = Target> + use<> {
        let txids = (1..=self.txid).map(|txid| Target::Txid(Txid::new(txid)));
        let times = (0..=self.latest).map(|seconds| Target::At(at(seconds)));
        txids.chain(times).chain([Target::Latest])
    }

    fn plan(&self, target: Target) -> Option<Vec<FileInfo>> {
        choose(&self.files, &target).ok()
    }

    fn enforce_l0(&mut self, keep: u64, how: Deletions) {
        let above = self.files.iter().filter(|file| file.level > Level::L0);
        let ends: Vec<Txid> = above.map(|file| file.txids.max()).collect();
        let (l0, l1) = (self.level(Level::L0), self.level(level(1)));
        let kept_since = at(self.now - keep as i64);
        let young = l0.iter().filter(|file| file.created_at > kept_since);
        let young: Vec<Txid> = young.map(|file| file.txids.max()).collect();
        let snapshots = self.level(Level::SNAPSHOT);
        let higher = self.files.iter().filter(|file| file.level > level(1) && file.level != Level::SNAPSHOT);
        let higher: Vec<FileInfo> = higher.cloned().collect();
        let gone = l0_to_delete(&l0, &l1, &higher, &snapshots, at(self.now), Duration::from_secs(keep));
        self.delete(gone, how, |target| match target {
            Target::Latest => true,
            Target::Txid(txid) => ends.contains(&txid) || young.contains(&txid),
            Target::At(time) => time > kept_since,
        });
    }

    fn enforce_snapshots(&mut self, keep: u64, how: Deletions) {
        let (snapshots, now, keep) = (self.level(Level::SNAPSHOT), at(self.now), Duration::from_secs(keep));
        let floor = floor(&snapshots, now, keep);
        let mut gone = snapshots_to_delete(&snapshots, now, keep);
        gone.extend((0..9).flat_map(|number| level_to_delete(&self.level(level(number)), floor)));
        self.delete(gone, how, |target| match target {
            Target::Latest => true,
            Target::Txid(txid) => txid >= floor,
            Target::At(time) => time >= before(now, keep),
        });
    }

    /// Deletes file by file. However far that comes, every retained point that there was is there.
    fn delete(&mut self, gone: Vec<FileInfo>, how: Deletions, retained: impl Fn(Target) -> bool) {
        if gone.is_empty() {
            return;
        }
        let targets = self.targets().filter(|&target| retained(target));
        let points: Vec<_> = targets.filter_map(|target| Some((target, end(&self.plan(target)?)))).collect();
        let deleted: Vec<FileInfo> =
            shuffled(gone, how.order).into_iter().take(how.interrupted_after).collect();
        self.files.retain(|file| !deleted.contains(file));
        self.deleted += deleted.len();
        for (target, before) in &points {
            let after = self.plan(*target);
            let same = after.as_deref().map(end) == Some(*before);
            assert!(same, "{target:?}, {before} at {}: {after:#?} without {deleted:#?}", self.now);
        }
        if points.iter().any(|(target, _)| *target == Target::Latest) {
            self.plan_again(&deleted);
        }
    }

    /// A restore that finds a planned file gone plans again, and comes to the state that it wanted or to a newer one.
    fn plan_again(&mut self, deleted: &[FileInfo]) {
        let Some(newest) = self.plan(Target::Latest) else { panic!("nothing leads to the newest state") };
        for plan in &mut self.restores {
            if plan.iter().any(|file| deleted.contains(file)) {
                assert!(end(&newest) >= end(plan), "{newest:#?} for {plan:#?}");
                plan.clone_from(&newest);
                self.planned_again += 1;
            }
        }
    }

    /// What only a lost file led to is lost for the restores that are under way, too.
    fn lose(&mut self, which: usize) {
        if self.files.is_empty() {
            return;
        }
        self.files.remove(which % self.files.len());
        let newest = self.plan(Target::Latest);
        self.restores.retain(|plan| newest.as_deref().is_some_and(|newest| end(newest) >= end(plan)));
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Capture(txids) => {
                let (min, max) = (Txid::new(self.txid + 1), Txid::new(self.txid + txids));
                self.add(Level::L0, min, max, at(self.now));
                self.txid += txids;
            }
            Event::CompactAsLitestream(level) => self.compact_as_litestream(level),
            Event::Compact(level) => self.compact(level),
            Event::Snapshot if self.txid > 0 && self.newest(Level::SNAPSHOT) < Some(Txid::new(self.txid)) => {
                self.add(Level::SNAPSHOT, Txid::FIRST, Txid::new(self.txid), at(self.now));
            }
            Event::Snapshot => {}
            Event::EnforceL0(keep, how) => self.enforce_l0(keep, how),
            Event::EnforceSnapshots(keep, how) => self.enforce_snapshots(keep, how),
            Event::Restore => self.restores.extend(self.plan(Target::Latest)),
            Event::Lose(which) => self.lose(which),
            Event::Wait(seconds) | Event::SetClock(seconds) => self.now = (self.now + seconds).max(0),
        }
        self.latest = self.latest.max(self.now);
    }
}

fn end(plan: &[FileInfo]) -> Txid {
    plan.last().map_or(Txid::ZERO, |file| file.txids.max())
}

/// The files in an order that the number decides.
fn shuffled(mut files: Vec<FileInfo>, order: u64) -> Vec<FileInfo> {
    let mix = |file: &FileInfo| {
        let name = file.txids.min().get() << 32 | file.txids.max().get() << 4 | u64::from(file.level.get());
        (name ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17).wrapping_mul(order | 1)
    };
    files.sort_by_key(mix);
    files
}

#[test]
fn no_deletion_removes_what_a_retained_point_needs() {
    let config = ProptestConfig { cases: HISTORIES, failure_persistence: None, ..ProptestConfig::default() };
    let totals = std::cell::Cell::new((0, 0));
    proptest!(config, |(events in proptest::collection::vec(event(), 1..60))| {
        let mut replica = Replica::default();
        events.iter().for_each(|event| replica.happen(event));
        let (deleted, planned_again) = totals.get();
        totals.set((deleted + replica.deleted, planned_again + replica.planned_again));
    });
    let (deleted, planned_again) = totals.get();
    assert!(deleted > 10_000 && planned_again > 1000, "{deleted} deletions met {planned_again} restores");
}
