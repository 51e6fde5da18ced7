//! Which states a set of files leads to, and what is missing between them. Names alone decide here.
//!
//! Invariant: the states are exactly those for which the restore planner finds a plan. A hole is a TXID that no
//! file holds but a snapshot that goes beyond it; what was compacted into a longer file is no hole.

use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::FileInfo;

use crate::history::retention::joined;
use crate::restore::Point;
use crate::restore::points::of_files;

/// A state of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Its number.
    pub txid: Txid,
    /// When it was captured.
    pub created_at: Timestamp,
}

impl From<&Point> for State {
    fn from(point: &Point) -> Self {
        State { txid: point.txid, created_at: point.created_at }
    }
}

/// A row of states without a hole between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The oldest of them.
    pub first: State,
    /// The newest of them.
    pub last: State,
    /// How many there are.
    pub states: usize,
}

/// What the files of a replica lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The states that can be restored, oldest first.
    pub stretches: Vec<Stretch>,
    /// TXIDs that are missing from the oldest of these states on, in order.
    pub holes: Vec<TxidRange>,
    /// States that the listing promises and that cannot be restored, in order.
    pub unreachable: Vec<Txid>,
}

/// Judges what is `listed` by the files among it that are `sound`.
pub fn judge(listed: &[FileInfo], sound: &[FileInfo]) -> Chain {
    let states: Vec<State> = of_files(sound).iter().map(State::from).collect();
    let held = joined(&changes(sound));
    let newest = listed.iter().map(|file| file.txids.max()).max().unwrap_or(Txid::ZERO);
    let mut chain = Chain { unreachable: unreachable(listed, sound, &states), ..Chain::default() };
    for &state in &states {
        let missing = match chain.stretches.last() {
            Some(stretch) => missing_between(stretch.last.txid, state.txid, &held),
            None => Vec::new(),
        };
        match chain.stretches.last_mut() {
            Some(stretch) if missing.is_empty() => {
                *stretch = Stretch { last: state, states: stretch.states + 1, ..*stretch };
            }
            _ => chain.stretches.push(Stretch { first: state, last: state, states: 1 }),
        }
        chain.holes.extend(missing);
    }
    let end = states.last().map_or(Txid::ZERO, |state| state.txid);
    chain.holes.extend(missing_between(end, newest.next(), &held));
    chain
}

/// Every end of a file that is not among the `states` and should be. Not expected are those before the oldest snapshot,
/// which the retention has left over, and those that lie within a file that leads beyond them.
fn unreachable(listed: &[FileInfo], sound: &[FileInfo], states: &[State]) -> Vec<Txid> {
    let snapshots = listed.iter().filter(|file| file.level == Level::SNAPSHOT && file.txids.is_snapshot());
    let floor = snapshots.map(|file| file.txids.max()).min().unwrap_or(Txid::ZERO);
    let mut ends: Vec<Txid> =
        listed.iter().map(|file| file.txids.max()).filter(|&end| end >= floor).collect();
    ends.sort();
    ends.dedup();

    let (mut states, mut spans) =
        (states.iter().map(|state| state.txid).peekable(), changes(sound).into_iter().peekable());
    let (mut before, mut reach) = (Txid::ZERO, Txid::ZERO);
    ends.retain(|&end| {
        while let Some(state) = states.next_if(|&state| state < end) {
            before = state;
        }
        while let Some(span) = spans.next_if(|&span| span.min() <= before.next()) {
            reach = reach.max(span.max());
        }
        states.peek() != Some(&end) && reach <= end
    });
    ends
}

/// The TXIDs of every file but the full snapshots, in order.
fn changes(files: &[FileInfo]) -> Vec<TxidRange> {
    let changes = files.iter().filter(|file| file.level != Level::SNAPSHOT);
    let mut ranges: Vec<TxidRange> = changes.map(|file| file.txids).collect();
    ranges.sort();
    ranges
}

/// The TXIDs after `have` and before `next` that are in none of the ranges, which are in order and apart.
fn missing_between(have: Txid, next: Txid, held: &[TxidRange]) -> Vec<TxidRange> {
    let mut missing = Vec::new();
    let mut from = have.next();
    let first = held.partition_point(|&range| range.max() < from);
    for range in held[first..].iter().copied().take_while(|&range| range.min() < next) {
        missing.extend(before(from, range.min()));
        from = range.max().next();
    }
    missing.extend(before(from, next));
    missing
}

/// From a TXID to the one before `end`, if there are any.
fn before(from: Txid, end: Txid) -> Option<TxidRange> {
    if from < end { TxidRange::new(from, end.prev()) } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::restore::plan::{Target, choose};

    fn file(level: u8, min: u64, max: u64) -> FileInfo {
        let (level, created_at) = (Level::new(level).unwrap(), Timestamp::default());
        FileInfo { level, txids: range(min, max), size: 100, created_at }
    }

    fn range(min: u64, max: u64) -> TxidRange {
        TxidRange::new(Txid::new(min), Txid::new(max)).unwrap()
    }

    fn stretch(first: u64, last: u64, states: usize) -> Stretch {
        let [first, last] =
            [first, last].map(|txid| State { txid: Txid::new(txid), created_at: Timestamp::default() });
        Stretch { first, last, states }
    }

    fn single(level: u8, txids: impl IntoIterator<Item = u64>) -> Vec<FileInfo> {
        txids.into_iter().map(|txid| file(level, txid, txid)).collect()
    }

    #[test]
    fn files_without_a_hole_lead_to_one_stretch() {
        let files = [single(0, 1..=9), vec![file(9, 1, 4)]].concat();
        let whole = Chain { stretches: vec![stretch(1, 9, 9)], ..Chain::default() };
        assert_eq!(judge(&files, &files), whole);
    }

    #[test]
    fn states_that_were_compacted_are_no_holes_and_nobody_expects_them() {
        let files = [vec![file(9, 1, 4), file(1, 5, 9)], single(0, 8..=12)].concat();
        let states = Chain { stretches: vec![stretch(4, 12, 5)], ..Chain::default() };
        assert_eq!(judge(&files, &files), states, "8 lies within 5 to 9");
    }

    #[test]
    fn what_ends_before_the_oldest_snapshot_is_left_over() {
        let files = [single(0, 7..=9), vec![file(9, 1, 8), file(2, 3, 5)]].concat();
        let states = Chain { stretches: vec![stretch(8, 9, 2)], ..Chain::default() };
        assert_eq!(judge(&files, &files), states);
    }

    #[test]
    fn a_hole_is_named_and_what_lies_behind_it_up_to_the_next_snapshot() {
        let files = [single(0, (2..=5).chain(8..=12)), vec![file(9, 1, 1), file(9, 1, 10)]].concat();
        let chain = Chain {
            stretches: vec![stretch(1, 5, 5), stretch(10, 12, 3)],
            holes: vec![range(6, 7)],
            unreachable: vec![Txid::new(8), Txid::new(9)],
        };
        assert_eq!(judge(&files, &files), chain);
    }

    #[test]
    fn a_hole_that_a_snapshot_bridges_whole_takes_no_listed_state_away() {
        let files = [single(0, (2..=5).chain(9..=9)), vec![file(9, 1, 1), file(9, 1, 8)]].concat();
        let chain = Chain {
            stretches: vec![stretch(1, 5, 5), stretch(8, 9, 2)],
            holes: vec![range(6, 7)],
            unreachable: vec![],
        };
        assert_eq!(judge(&files, &files), chain);
    }

    #[test]
    fn a_merged_file_behind_the_hole_does_not_excuse_it() {
        let files =
            [single(0, (2..=5).chain(8..=12)), vec![file(1, 8, 12), file(9, 1, 1), file(9, 1, 10)]].concat();
        assert_eq!(judge(&files, &files).unreachable, [Txid::new(8), Txid::new(9)]);
    }

    #[test]
    fn a_damaged_file_is_a_hole_unless_another_has_its_work() {
        let sound = single(0, [1, 2, 4, 5]);
        let listed = [sound.clone(), single(0, [3])].concat();
        let chain = judge(&listed, &sound);
        assert_eq!((chain.stretches, chain.holes), (vec![stretch(1, 2, 2)], vec![range(3, 3)]));
        assert_eq!(chain.unreachable, [3, 4, 5].map(Txid::new));

        let covered = [sound, vec![file(1, 2, 4)]].concat();
        let chain = judge(&listed, &covered);
        assert_eq!((chain.stretches, chain.holes), (vec![stretch(1, 5, 4)], vec![]));
        assert_eq!(chain.unreachable, [], "3 is a compacted state now");
    }

    #[test]
    fn without_a_beginning_nothing_can_be_restored() {
        let files = single(0, 4..=5);
        let chain = judge(&files, &files);
        assert_eq!((chain.stretches, chain.holes), (vec![], vec![range(1, 3)]));
        assert_eq!(chain.unreachable, [Txid::new(4), Txid::new(5)]);
    }

    fn any_file() -> impl Strategy<Value = FileInfo> {
        (0..10u8, 1..24u64, 0..6u64).prop_map(|(level, min, length)| match level {
            9 => file(9, 1, min + length),
            _ => file(level, min, min + length),
        })
    }

    proptest! {
        #[test]
        fn what_cannot_be_restored_is_explained_by_a_hole_before_it(
            files in proptest::collection::vec(any_file(), 1..24),
        ) {
            let chain = judge(&files, &files);
            let states = of_files(&files);
            prop_assert_eq!(chain.stretches.iter().map(|stretch| stretch.states).sum::<usize>(), states.len());
            prop_assert!(chain.unreachable.iter().all(|&txid| choose(&files, &Target::Txid(txid)).is_err()));
            let first_hole = chain.holes.first().map(|&hole| hole.min());
            prop_assert!(chain.unreachable.iter().all(|&txid| first_hole.is_some_and(|hole| hole <= txid)));
        }
    }
}
