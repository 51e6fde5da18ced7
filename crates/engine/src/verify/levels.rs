//! Whether the names in a level follow each other.
//!
//! Invariant: a level that was written without a mistake gives no finding. A file may begin before the end of the one
//! before it, as where a compaction took in a file that straddles the end of the level, but it must go further.

use std::fmt;

use walstream_ltx::{Level, Txid, TxidRange};
use walstream_storage::FileInfo;

/// What is odd about a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TXIDs are missing.
    Gap,
    /// A file adds nothing to the one before it.
    Overlap,
}

/// The names, as the log has them.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Gap => "gap",
            Kind::Overlap => "overlap",
        })
    }
}

/// One place where a level is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The level.
    pub level: Level,
    /// What is odd.
    pub kind: Kind,
    /// The TXIDs that are missing, or those that are there twice.
    pub txids: TxidRange,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.txids.min(), self.txids.max());
        match self.kind {
            Kind::Gap if first == last => write!(f, "TXID {first} is missing"),
            Kind::Gap => write!(f, "TXIDs {first} to {last} are missing"),
            Kind::Overlap => write!(f, "file {} holds nothing that the file before it has not", self.txids),
        }
    }
}

/// Looks at every level of a listing below the snapshots.
pub fn look(listing: &[FileInfo]) -> Vec<Finding> {
    let below = Level::all().filter(|&level| level != Level::SNAPSHOT);
    below.flat_map(|level| look_at(level, listing)).collect()
}

fn look_at(level: Level, listing: &[FileInfo]) -> Vec<Finding> {
    let mut files: Vec<TxidRange> =
        listing.iter().filter(|file| file.level == level).map(|file| file.txids).collect();
    files.sort();
    let mut findings = Vec::new();
    let mut end: Option<Txid> = None;
    for txids in files {
        if let Some(end) = end {
            let gap =
                if txids.min() > end.next() { TxidRange::new(end.next(), txids.min().prev()) } else { None };
            findings.extend(gap.map(|txids| Finding { level, kind: Kind::Gap, txids }));
            if txids.max() <= end {
                findings.push(Finding { level, kind: Kind::Overlap, txids });
            }
        }
        end = end.max(Some(txids.max()));
    }
    findings
}

#[cfg(test)]
mod tests {
    use walstream_ltx::Timestamp;

    use super::*;

    fn found(ranges: &[(u64, u64)]) -> Vec<String> {
        let file = |&(min, max): &(u64, u64)| FileInfo {
            level: Level::L0,
            txids: TxidRange::new(Txid::new(min), Txid::new(max)).unwrap(),
            size: 100,
            created_at: Timestamp::default(),
        };
        let listing: Vec<FileInfo> = ranges.iter().map(file).collect();
        look(&listing).iter().map(|finding| format!("{}: {finding}", finding.kind)).collect()
    }

    #[test]
    fn files_that_follow_or_straddle_are_in_order() {
        assert_eq!(found(&[(5, 5), (6, 9), (8, 12)]), Vec::<String>::new());
    }

    #[test]
    fn gaps_and_files_that_add_nothing_are_named() {
        assert_eq!(
            found(&[(1, 4), (2, 3), (6, 6), (9, 9)]),
            [
                "overlap: file 0000000000000002-0000000000000003 holds nothing that the file before it has not",
                "gap: TXID 0000000000000005 is missing",
                "gap: TXIDs 0000000000000007 to 0000000000000008 are missing",
            ]
        );
    }
}
