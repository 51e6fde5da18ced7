//! Which files a restore needs.
//!
//! Invariant: a chosen plan starts at TXID 1, every file continues or overlaps the one before it and reaches
//! further, and it ends exactly at the wanted state. Where TXIDs are missing the answer is an error that
//! names them, never an older state in silence.

use chrono::{DateTime, SecondsFormat};
use futures::future::try_join_all;
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{FileInfo, LegacyObject, ReplicaClient, TimestampSource};

use super::points;
use crate::error::{EngineError, missing};

/// The state that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The newest.
    Latest,
    /// Exactly the one after this TXID.
    Txid(Txid),
    /// The newest at or before this time.
    At(Timestamp),
}

impl Target {
    /// Whether a file holds nothing newer than what is wanted.
    fn admits(self, file: &FileInfo) -> bool {
        match self {
            Target::Latest => true,
            Target::Txid(txid) => file.txids.max() <= txid,
            Target::At(time) => file.created_at <= time,
        }
    }

    /// Whether a file that lies behind a hole shows that something wanted is missing.
    fn wants_beyond(self, file: &FileInfo) -> bool {
        match self {
            Target::Txid(txid) => file.txids.min() <= txid,
            other => other.admits(file),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Latest => f.write_str("the latest state"),
            Target::Txid(txid) => write!(f, "TXID {txid}"),
            Target::At(time) => write!(f, "time {}", time_text(*time)),
        }
    }
}

/// Why no plan exists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The replica holds no file at all.
    #[error("the replica is empty")]
    Empty,
    /// Files reach `have`; wanted ones go on at `next`.
    #[error("files reach {have} and go on at {next}")]
    Gap {
        /// The last TXID before the hole.
        have: Txid,
        /// The first TXID after it.
        next: Txid,
    },
    /// The wanted time lies before every state.
    #[error(
        "the oldest state that can be restored is of {}, the newest of {}",
        time_text(*oldest), time_text(*newest)
    )]
    TooEarly {
        /// Time of the oldest state.
        oldest: Timestamp,
        /// Time of the newest state.
        newest: Timestamp,
    },
    /// The state is not among those that can be restored.
    #[error("{0}")]
    Unreachable(String),
}

/// The files to restore from, oldest first; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    /// The files.
    pub files: Vec<FileInfo>,
}

impl RestorePlan {
    /// The state that the plan leads to.
    pub fn txid(&self) -> Txid {
        self.files.last().map_or(Txid::ZERO, |file| file.txids.max())
    }

    /// From the first TXID of the first file to the last of the last.
    pub fn txids(&self) -> Option<TxidRange> {
        TxidRange::new(self.files.first()?.txids.min(), self.txid())
    }

    /// When the state that the plan leads to was captured.
    pub fn created_at(&self) -> Timestamp {
        self.files.last().map_or(Timestamp::default(), |file| file.created_at)
    }

    /// Sum of the sizes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }
}

/// The files of every level, with times as exact as the target needs them. Levels are listed all at once, which is
/// quick; if that shows a gap, files may have moved up meanwhile, and they are listed again so that none is missed.
pub(crate) async fn list(client: &dyn ReplicaClient, target: &Target) -> Result<Vec<FileInfo>, EngineError> {
    let times = match target {
        Target::At(_) => TimestampSource::Exact,
        Target::Latest | Target::Txid(_) => TimestampSource::Listing,
    };
    let listing = list_all(client, times).await?;
    match choose(&listing, &Target::Latest) {
        Err(PlanError::Gap { .. } | PlanError::Unreachable(_)) => list_upwards(client, times).await,
        Ok(_) | Err(PlanError::Empty | PlanError::TooEarly { .. }) => Ok(listing),
    }
}

/// The files of every level.
pub(super) async fn list_all(
    client: &dyn ReplicaClient,
    times: TimestampSource,
) -> Result<Vec<FileInfo>, EngineError> {
    let levels = try_join_all(Level::all().map(|level| client.list(level, Txid::FIRST, times))).await?;
    Ok(levels.into_iter().flatten().collect())
}

/// The files of every level, one level after the other from level 0 upwards. Compaction writes the file of the higher
/// level before retention deletes those of the lower one, so whatever moves up meanwhile is in the listing, once or twice.
pub(crate) async fn list_upwards(
    client: &dyn ReplicaClient,
    times: TimestampSource,
) -> Result<Vec<FileInfo>, EngineError> {
    let mut files = Vec::new();
    for level in Level::all() {
        files.extend(client.list(level, Txid::FIRST, times).await?);
    }
    Ok(files)
}

/// Chooses from a listing, with errors that name the replica, and what `legacy` holds beside it.
pub(crate) fn plan_from(
    listing: &[FileInfo],
    legacy: &[LegacyObject],
    client: &dyn ReplicaClient,
    target: &Target,
) -> Result<RestorePlan, EngineError> {
    match choose(listing, target) {
        Ok(files) => Ok(RestorePlan { files }),
        Err(error) => Err(located(with_range(error, listing, legacy, target), client.location(), target)),
    }
}

/// Says of a time that is too early which times there are, in both versions.
fn with_range(error: PlanError, listing: &[FileInfo], legacy: &[LegacyObject], target: &Target) -> PlanError {
    match (&error, target) {
        (PlanError::Empty | PlanError::TooEarly { .. }, Target::At(_)) => {
            let range = points::range(listing, legacy);
            range.map_or(error, |(oldest, newest)| PlanError::TooEarly { oldest, newest })
        }
        _ => error,
    }
}

fn located(error: PlanError, location: String, target: &Target) -> EngineError {
    match error {
        PlanError::Empty => EngineError::NoBackup { location },
        PlanError::Gap { have, next } => EngineError::Gap { location, have, next },
        PlanError::TooEarly { .. } | PlanError::Unreachable(_) => {
            EngineError::Unreachable { location, wanted: target.to_string(), reason: error.to_string() }
        }
    }
}

/// Chooses from a listing of all levels, in any order, the files that lead to `target`, oldest first: the
/// newest snapshot that the target admits, then always the file that reaches furthest.
pub fn choose(listing: &[FileInfo], target: &Target) -> Result<Vec<FileInfo>, PlanError> {
    if listing.is_empty() {
        return Err(PlanError::Empty);
    }
    let admitted = || listing.iter().filter(|file| target.admits(file));
    let snapshot = admitted().filter(|file| is_full_snapshot(file)).max_by_key(|file| file.txids.max());
    let mut chosen: Vec<&FileInfo> = snapshot.into_iter().collect();
    chosen.extend(extend(admitted().filter(|file| file.level != Level::SNAPSHOT), end(&chosen)));

    let have = end(&chosen);
    let reach = reach(listing, target, have);
    let beyond = listing.iter().filter(|file| file.txids.min() > reach.next() && target.wants_beyond(file));
    if let Some(next) = beyond.map(|file| file.txids.min()).min() {
        return Err(if reach.is_zero() { no_beginning(next) } else { PlanError::Gap { have: reach, next } });
    }
    match target {
        Target::Txid(wanted) if have != *wanted || wanted.is_zero() => {
            Err(unreachable_txid(listing, *wanted, have, reach))
        }
        _ if chosen.is_empty() => Err(too_early(listing)),
        _ => Ok(chosen.into_iter().cloned().collect()),
    }
}

fn is_full_snapshot(file: &FileInfo) -> bool {
    file.level == Level::SNAPSHOT && file.txids.is_snapshot()
}

/// How far any files go on from `have`, wanted or not. What lies between is not missing: it was compacted
/// into a file that reaches too far. A later snapshot proves no such thing about the files before it.
fn reach(listing: &[FileInfo], target: &Target, have: Txid) -> Txid {
    let between_snapshots = matches!(target, Target::At(_)) && !have.is_zero();
    let files = listing.iter().filter(|file| !between_snapshots || file.level != Level::SNAPSHOT);
    extend(files, have).last().map_or(have, |file| file.txids.max())
}

/// The chain of files that reaches furthest from `have`, in as few files as possible. Among files that reach
/// equally far: the longest, then the highest level, then the oldest.
pub(crate) fn extend<'a>(files: impl Iterator<Item = &'a FileInfo>, have: Txid) -> Vec<&'a FileInfo> {
    let mut files: Vec<&FileInfo> = files.collect();
    files.sort_by_key(|file| file.txids.min());
    let mut files = files.into_iter().peekable();
    let mut chain: Vec<&FileInfo> = Vec::new();
    let mut have = have;
    let mut furthest: Option<&FileInfo> = None;
    loop {
        while let Some(file) = files.next_if(|file| file.txids.min() <= have.next()) {
            if furthest.is_none_or(|best| preference(file) > preference(best)) {
                furthest = Some(file);
            }
        }
        match furthest.filter(|file| file.txids.max() > have) {
            Some(file) => chain.push(file),
            None => return chain,
        }
        have = end(&chain);
    }
}

/// Orders files that continue a chain; the greatest is the best.
fn preference(file: &FileInfo) -> impl Ord {
    use std::cmp::Reverse;
    (file.txids.max(), Reverse(file.txids.min()), file.level, Reverse(file.created_at))
}

fn end(chain: &[&FileInfo]) -> Txid {
    chain.last().map_or(Txid::ZERO, |file| file.txids.max())
}

fn no_beginning(oldest: Txid) -> PlanError {
    let missing = missing(Txid::ZERO, oldest);
    PlanError::Unreachable(format!("{missing}, and there is no snapshot; the oldest file starts at {oldest}"))
}

fn too_early(listing: &[FileInfo]) -> PlanError {
    match points::range(listing, &[]) {
        Some((oldest, newest)) => PlanError::TooEarly { oldest, newest },
        None => PlanError::Unreachable("no snapshot is that old".to_owned()),
    }
}

/// Why a TXID is no end of any chain, and which ones near it are. `have` is the last before it, `reach` the
/// last of all.
fn unreachable_txid(listing: &[FileInfo], wanted: Txid, have: Txid, reach: Txid) -> PlanError {
    if wanted.is_zero() {
        return PlanError::Unreachable(format!("TXIDs start at {}", Txid::FIRST));
    }
    if wanted > reach {
        return PlanError::Unreachable(format!("the newest is {reach}"));
    }
    let later = listing.iter().filter(|file| file.txids.max() > wanted && file.txids.min() <= have.next());
    let later = later.map(|file| file.txids.max()).min().unwrap_or(reach);
    let nearest = if have.is_zero() { format!("is {later}") } else { format!("are {have} and {later}") };
    PlanError::Unreachable(format!(
        "it was compacted into a longer file; the nearest that can be restored {nearest}"
    ))
}

/// RFC 3339 to the millisecond.
fn time_text(time: Timestamp) -> String {
    match DateTime::from_timestamp_millis(time.as_millis()) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => format!("{} ms after 1970", time.as_millis()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A file of `level` with the TXIDs `min` to `max`, as old as its last TXID.
    fn file(level: u8, min: u64, max: u64) -> FileInfo {
        stamped(level, min, max, i64::try_from(max).unwrap())
    }

    fn stamped(level: u8, min: u64, max: u64, time: i64) -> FileInfo {
        let txids = TxidRange::new(Txid::new(min), Txid::new(max)).unwrap();
        let created_at = Timestamp::from_millis(time);
        FileInfo { level: Level::new(level).unwrap(), txids, size: 1000, created_at }
    }

    fn chosen(listing: &[FileInfo], target: Target) -> Result<Vec<(u8, u64, u64)>, PlanError> {
        let plain = |file: &FileInfo| (file.level.get(), file.txids.min().get(), file.txids.max().get());
        Ok(choose(listing, &target)?.iter().map(plain).collect())
    }

    fn txid(value: u64) -> Target {
        Target::Txid(Txid::new(value))
    }

    fn at(millis: i64) -> Target {
        Target::At(Timestamp::from_millis(millis))
    }

    fn gap(have: u64, next: u64) -> PlanError {
        PlanError::Gap { have: Txid::new(have), next: Txid::new(next) }
    }

    fn reason(result: Result<Vec<(u8, u64, u64)>, PlanError>) -> String {
        match result {
            Err(PlanError::Unreachable(reason)) => reason,
            other => format!("unexpected: {other:?}"),
        }
    }

    #[test]
    fn the_newest_snapshot_then_always_the_file_that_reaches_furthest() {
        let listing = [
            file(9, 1, 3),
            file(9, 1, 5),
            file(2, 1, 4),
            file(1, 4, 6),
            file(1, 7, 8),
            file(0, 6, 6),
            file(0, 8, 8),
            file(0, 9, 9),
        ];
        let latest = vec![(9, 1, 5), (1, 4, 6), (1, 7, 8), (0, 9, 9)];
        assert_eq!(chosen(&listing, Target::Latest), Ok(latest));
        assert_eq!(chosen(&listing, txid(6)), Ok(vec![(9, 1, 5), (1, 4, 6)]));
        assert_eq!(chosen(&listing, txid(5)), Ok(vec![(9, 1, 5)]));
        assert_eq!(chosen(&listing, txid(4)), Ok(vec![(9, 1, 3), (2, 1, 4)]));
    }

    #[test]
    fn without_a_snapshot_any_file_from_txid_1_serves() {
        assert_eq!(chosen(&[file(0, 1, 1), file(0, 2, 2)], Target::Latest), Ok(vec![(0, 1, 1), (0, 2, 2)]));
        assert_eq!(chosen(&[file(1, 1, 4), file(2, 1, 3)], txid(3)), Ok(vec![(2, 1, 3)]));
        let overlapping = [file(0, 1, 3), file(0, 2, 5)];
        assert_eq!(chosen(&overlapping, Target::Latest), Ok(vec![(0, 1, 3), (0, 2, 5)]));
    }

    #[test]
    fn of_files_that_reach_equally_far_the_longest_then_highest_then_oldest_is_taken() {
        let snapshot = file(9, 1, 1);
        let listing = [snapshot.clone(), file(0, 3, 5), file(1, 2, 5), file(0, 2, 5)];
        assert_eq!(chosen(&listing, Target::Latest), Ok(vec![(9, 1, 1), (1, 2, 5)]));
        let twins = [snapshot, stamped(1, 2, 5, 70), stamped(1, 2, 5, 60)];
        assert_eq!(choose(&twins, &Target::Latest).unwrap()[1].created_at.as_millis(), 60);
    }

    #[test]
    fn a_time_includes_what_was_captured_at_it() {
        let listing = [stamped(9, 1, 1, 100), stamped(0, 2, 2, 200), stamped(0, 3, 3, 300)];
        assert_eq!(chosen(&listing, at(199)), Ok(vec![(9, 1, 1)]));
        assert_eq!(chosen(&listing, at(200)), Ok(vec![(9, 1, 1), (0, 2, 2)]));
        assert_eq!(chosen(&listing, at(9_999)), Ok(vec![(9, 1, 1), (0, 2, 2), (0, 3, 3)]));
        assert_eq!(
            chosen(&listing, at(99)).unwrap_err().to_string(),
            "the oldest state that can be restored is of 1970-01-01T00:00:00.100Z, the newest of \
             1970-01-01T00:00:00.300Z"
        );
    }

    #[test]
    fn a_gap_is_an_error_whatever_is_wanted_behind_it() {
        let listing = [file(0, 1, 1), file(0, 3, 3)];
        assert_eq!(chosen(&listing, Target::Latest), Err(gap(1, 3)));
        assert_eq!(chosen(&listing, txid(3)), Err(gap(1, 3)));
        assert_eq!(chosen(&listing, at(3)), Err(gap(1, 3)), "never the state before it in silence");
        assert_eq!(chosen(&listing, txid(1)), Ok(vec![(0, 1, 1)]));
        assert_eq!(chosen(&listing, at(2)), Ok(vec![(0, 1, 1)]));
        let after_snapshot = [file(9, 1, 3), file(0, 5, 5)];
        assert_eq!(chosen(&after_snapshot, Target::Latest), Err(gap(3, 5)));
    }

    #[test]
    fn a_later_snapshot_bridges_a_gap_only_for_what_it_holds() {
        let listing = [file(9, 1, 1), file(0, 2, 2), file(0, 4, 4), file(9, 1, 6), file(0, 7, 7)];
        assert_eq!(chosen(&listing, Target::Latest), Ok(vec![(9, 1, 6), (0, 7, 7)]));
        assert_eq!(chosen(&listing, at(5)), Err(gap(2, 4)));
        assert!(reason(chosen(&listing, txid(4))).ends_with("are 0000000000000002 and 0000000000000006"));
    }

    #[test]
    fn what_was_compacted_is_no_gap() {
        // TXID 5 is gone from level 0, but not lost: the compaction that holds it reaches beyond the time.
        let listing = [file(9, 1, 4), file(1, 5, 8), file(0, 6, 6), file(0, 7, 7), file(0, 8, 8)];
        assert_eq!(chosen(&listing, at(7)), Ok(vec![(9, 1, 4)]));
        assert_eq!(
            reason(chosen(&listing, txid(6))),
            "it was compacted into a longer file; the nearest that can be restored are 0000000000000004 and \
             0000000000000008"
        );
    }

    #[test]
    fn without_a_beginning_nothing_can_be_restored() {
        let listing = [file(0, 2, 2), file(0, 3, 3)];
        let expected = "TXID 0000000000000001 is missing, and there is no snapshot; the oldest file starts at \
                        0000000000000002";
        assert_eq!(reason(chosen(&listing, Target::Latest)), expected);
        assert_eq!(reason(chosen(&listing, at(5))), expected);
        assert_eq!(chosen(&[], Target::Latest), Err(PlanError::Empty));
    }

    #[test]
    fn a_txid_that_never_was_is_named_with_the_newest() {
        let listing = [file(0, 1, 1)];
        assert_eq!(reason(chosen(&listing, txid(9))), "the newest is 0000000000000001");
        assert_eq!(reason(chosen(&listing, txid(0))), "TXIDs start at 0000000000000001");
        assert_eq!(
            reason(chosen(&[file(9, 1, 9)], txid(5))),
            "it was compacted into a longer file; the nearest that can be restored is 0000000000000009"
        );
    }

    #[test]
    fn the_largest_txids_are_no_special_case() {
        let end = u64::MAX;
        let listing = [file_at_end(1, end - 1), file_at_end(end, end)];
        assert_eq!(chosen(&listing, Target::Latest), Ok(vec![(0, 1, end - 1), (0, end, end)]));
    }

    fn file_at_end(min: u64, max: u64) -> FileInfo {
        stamped(0, min, max, 1)
    }

    fn any_file() -> impl Strategy<Value = FileInfo> {
        (0..=9u8, 1..20u64, 0..8u64, 0..30i64).prop_map(|(level, min, length, time)| {
            let min = if level == 9 { 1 } else { min };
            stamped(level, min, min + length, time)
        })
    }

    fn any_target() -> impl Strategy<Value = Target> {
        prop_oneof![Just(Target::Latest), (0..30u64).prop_map(txid), (-1..31i64).prop_map(at)]
    }

    proptest! {
        #[test]
        fn a_plan_is_contiguous_from_txid_1_and_ends_where_it_must(
            listing in prop::collection::vec(any_file(), 0..24),
            target in any_target(),
        ) {
            let Ok(plan) = choose(&listing, &target) else { return Ok(()) };
            prop_assert!(plan[0].txids.is_snapshot());
            for pair in plan.windows(2) {
                let (before, after) = (pair[0].txids, pair[1].txids);
                prop_assert!(after.min() <= before.max().next() && after.max() > before.max());
            }
            prop_assert!(plan.iter().all(|file| target.admits(file) && listing.contains(file)));
            let end = plan[plan.len() - 1].txids.max();
            match target {
                Target::Txid(txid) => prop_assert_eq!(end, txid),
                Target::Latest => prop_assert!(listing.iter().all(|file| file.txids.max() <= end)),
                Target::At(_) => {}
            }
        }

        #[test]
        fn what_can_be_reached_is_found(
            listing in prop::collection::vec(any_file(), 0..12),
            wanted in 1..28u64,
        ) {
            let mut reachable = vec![0];
            for _ in &listing {
                for file in &listing {
                    let (min, max) = (file.txids.min().get(), file.txids.max().get());
                    if reachable.iter().any(|&end| min <= end + 1 && max > end) {
                        reachable.push(max);
                    }
                }
            }
            prop_assert_eq!(choose(&listing, &txid(wanted)).is_ok(), reachable.contains(&wanted));
        }
    }
}
