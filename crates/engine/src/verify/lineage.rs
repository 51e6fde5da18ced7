//! Whether files that are whole are of the same history.
//!
//! Invariant: where two files know the digest of the same state, they must agree; a file without digests says nothing.

use std::collections::HashMap;

use walstream_ltx::{Checksum, Header, Level, Txid, TxidRange};

use super::report::Disagreement;

/// Every state about which two files disagree, once.
pub(super) fn disagreements(files: &[(Level, Header)]) -> Vec<Disagreement> {
    let mut known: HashMap<Txid, (Checksum, (Level, TxidRange))> = HashMap::new();
    let mut found: Vec<Disagreement> = Vec::new();
    for (level, header) in files {
        let name = (*level, header.txids);
        let before = header.lineage.pre_apply.map(|digest| (header.txids.min().prev(), digest));
        let after = header.lineage.post_apply.map(|digest| (header.txids.max(), digest));
        for (txid, digest) in before.into_iter().chain(after) {
            let (first, by) = known.entry(txid).or_insert((digest, name));
            let new = *first != digest && found.iter().all(|other| other.txid != txid);
            if new {
                found.push(Disagreement { txid, one: *by, other: name });
            }
        }
    }
    found.sort_by_key(|disagreement| disagreement.txid);
    found
}

#[cfg(test)]
mod tests {
    use walstream_ltx::{Commit, Lineage, PageSize, Timestamp, WalSpan};

    use super::*;

    fn header(min: u64, max: u64, pre_apply: u64, post_apply: u64) -> Header {
        let known =
            |digest: u64| Checksum::from_stored(if digest == 0 { 0 } else { digest | 1 << 63 }).unwrap();
        Header {
            page_size: PageSize::new(4096).unwrap(),
            commit: Commit::new(1),
            txids: TxidRange::new(Txid::new(min), Txid::new(max)).unwrap(),
            timestamp: Timestamp::default(),
            tracked: false,
            pre_apply: None,
            wal: WalSpan::default(),
            node_id: 0,
            lineage: Lineage { pre_apply: known(pre_apply), post_apply: known(post_apply) },
        }
    }

    #[test]
    fn files_of_one_history_agree_across_levels() {
        let level = |level| Level::new(level).unwrap();
        let files = [
            (level(0), header(2, 2, 11, 12)),
            (level(0), header(3, 3, 12, 13)),
            (level(1), header(2, 3, 11, 13)),
            (level(9), header(1, 2, 0, 12)),
            (level(0), header(4, 4, 0, 0)),
        ];
        assert_eq!(disagreements(&files), []);
    }

    #[test]
    fn a_file_of_another_history_is_named_with_the_state() {
        let ours = (Level::L0, header(2, 2, 11, 12));
        let theirs = (Level::L0, header(3, 3, 99, 13));
        let found = Disagreement {
            txid: Txid::new(2),
            one: (ours.0, ours.1.txids),
            other: (theirs.0, theirs.1.txids),
        };
        assert_eq!(disagreements(&[ours, theirs]), [found]);
    }
}
