//! Which files the next file of a level is made of.
//!
//! Invariants: the choice is contiguous, never leaves out a TXID that the level below has and the level above has
//! not, and is bounded in files and bytes, so that a backlog of any size is worked off in equal steps.

use walstream_ltx::Txid;
use walstream_storage::FileInfo;

/// How much one compaction may take in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Files that are merged at once.
    pub files: usize,
    /// Bytes of the files that are merged at once. A single larger file is still taken.
    pub bytes: u64,
    /// Memory for reading all of them, in bytes.
    pub read_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { files: 128, bytes: 1 << 30, read_memory: 6 << 20 }
    }
}

/// The level below does not go on where the level above ends, and no snapshot bridges the hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The last TXID before the hole.
    pub have: Txid,
    /// The first TXID after it.
    pub next: Txid,
}

/// The files of the level below that the next file of a level merges, oldest first; none if there is nothing new.
///
/// A level that is empty starts after the oldest snapshot: what a snapshot holds need not be stored once more in
/// every level. A file that straddles the end of the level (which Litestream leaves out, and thereby leaves a gap) is
/// taken whole; the overlap does no harm. `below` and `snapshots` are ordered as a listing is.
pub fn next_sources(
    below: &[FileInfo],
    newest: Option<Txid>,
    snapshots: &[FileInfo],
    limits: &Limits,
) -> Result<Vec<FileInfo>, Hole> {
    let end = newest.or(snapshots.iter().map(|file| file.txids.max()).min()).unwrap_or(Txid::ZERO);
    let mut ahead = below.iter().filter(|file| file.txids.max() > end).peekable();
    let Some(first) = ahead.peek() else { return Ok(Vec::new()) };

    let mut reached = end;
    if first.txids.min() > end.next() {
        reached = first.txids.min().prev();
        if !snapshots.iter().any(|snapshot| snapshot.txids.max() >= reached) {
            return Err(Hole { have: end, next: first.txids.min() });
        }
    }

    let (mut sources, mut bytes) = (Vec::new(), 0u64);
    while let Some(file) = longest_step(&mut ahead, reached) {
        bytes = bytes.saturating_add(file.size);
        if !sources.is_empty() && (bytes > limits.bytes || sources.len() >= limits.files) {
            break;
        }
        reached = file.txids.max();
        sources.push(file.clone());
    }
    Ok(sources)
}

/// Of the files that go on from `reached` without a gap, the one that leads furthest.
fn longest_step<'a>(
    ahead: &mut std::iter::Peekable<impl Iterator<Item = &'a FileInfo>>,
    reached: Txid,
) -> Option<&'a FileInfo> {
    let mut best: Option<&FileInfo> = None;
    while let Some(file) = ahead.next_if(|file| file.txids.min() <= reached.next()) {
        if file.txids.max() > best.map_or(reached, |best| best.txids.max()) {
            best = Some(file);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use walstream_ltx::{Level, Timestamp, TxidRange};

    use super::*;

    fn files(level: u8, ranges: &[(u64, u64)]) -> Vec<FileInfo> {
        let file = |&(min, max)| FileInfo {
            level: Level::new(level).unwrap(),
            txids: TxidRange::new(Txid::new(min), Txid::new(max)).unwrap(),
            size: 100,
            created_at: Timestamp::from_millis(0),
        };
        ranges.iter().map(file).collect()
    }

    fn chosen(
        below: &[(u64, u64)],
        newest: Option<u64>,
        snapshots: &[u64],
        limits: &Limits,
    ) -> Result<Vec<(u64, u64)>, Hole> {
        let snapshots = files(9, &snapshots.iter().map(|&max| (1, max)).collect::<Vec<_>>());
        let sources = next_sources(&files(0, below), newest.map(Txid::new), &snapshots, limits)?;
        Ok(sources.iter().map(|file| (file.txids.min().get(), file.txids.max().get())).collect())
    }

    fn hole(have: u64, next: u64) -> Hole {
        Hole { have: Txid::new(have), next: Txid::new(next) }
    }

    #[test]
    fn everything_that_the_level_does_not_hold_yet_is_taken() {
        let limits = Limits::default();
        for (below, newest, expected) in [
            (&[][..], None, &[][..]),
            (&[(1, 1), (2, 2)], None, &[(1, 1), (2, 2)]),
            (&[(1, 1), (2, 2), (3, 3)], Some(1), &[(2, 2), (3, 3)]),
            (&[(1, 1), (2, 2)], Some(2), &[]),
            // Straddling the end of the level: taken, or 4 and 5 would be missing above.
            (&[(1, 2), (3, 5), (6, 6)], Some(3), &[(3, 5), (6, 6)]),
            // Of overlapping files the one that leads further; contained ones are superfluous.
            (&[(1, 1), (2, 2), (2, 4), (3, 3), (5, 5)], Some(1), &[(2, 4), (5, 5)]),
            // Before a hole; the rest has to wait for a snapshot.
            (&[(1, 1), (2, 2), (4, 4)], None, &[(1, 1), (2, 2)]),
        ] {
            assert_eq!(chosen(below, newest, &[], &limits).unwrap(), expected, "{below:?} above {newest:?}");
        }
    }

    #[test]
    fn an_empty_level_starts_after_the_oldest_snapshot() {
        let limits = Limits::default();
        assert_eq!(chosen(&[(1, 1), (2, 2), (3, 3)], None, &[1, 3], &limits).unwrap(), [(2, 2), (3, 3)]);
        assert_eq!(chosen(&[(1, 1)], None, &[1], &limits).unwrap(), []);
        assert_eq!(chosen(&[(1, 4), (5, 5)], None, &[3], &limits).unwrap(), [(1, 4), (5, 5)]);
    }

    #[test]
    fn a_hole_is_an_error_until_a_snapshot_bridges_it() {
        let limits = Limits::default();
        let below = &[(1, 1), (4, 4), (5, 5)];
        assert_eq!(chosen(below, Some(1), &[], &limits), Err(hole(1, 4)));
        assert_eq!(chosen(below, Some(1), &[1, 2], &limits), Err(hole(1, 4)));
        assert_eq!(chosen(below, Some(1), &[1, 3], &limits).unwrap(), [(4, 4), (5, 5)]);
        assert_eq!(chosen(&[(7, 7)], None, &[], &limits), Err(hole(0, 7)));
    }

    #[test]
    fn a_backlog_is_worked_off_in_steps() {
        let below: Vec<_> = (1..=10).map(|n| (n, n)).collect();
        let by_files = Limits { files: 3, ..Limits::default() };
        assert_eq!(chosen(&below, Some(2), &[], &by_files).unwrap(), [(3, 3), (4, 4), (5, 5)]);
        let by_bytes = Limits { bytes: 250, ..Limits::default() };
        assert_eq!(chosen(&below, Some(2), &[], &by_bytes).unwrap(), [(3, 3), (4, 4)]);
        let tiny = Limits { bytes: 1, files: 0, ..Limits::default() };
        assert_eq!(chosen(&below, Some(2), &[], &tiny).unwrap(), [(3, 3)], "one file always gets on");
    }
}
