//! What holds for every history of a database, not only for those that somebody thought of.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use support::{Database, decode, merge_bytes};
use walstream_ltx::{
    Checksum, Commit, Encoder, Header, Lineage, PageSize, Pgno, Timestamp, Txid, TxidRange, WalSpan,
    page_checksum, verify,
};

const PAGE_SIZE: usize = 512;

/// One captured batch: the size of the database after it, and the pages that it wrote.
#[derive(Clone, Debug)]
struct Batch {
    commit: u32,
    writes: BTreeMap<u32, Vec<u8>>,
}

fn page() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte; PAGE_SIZE]),
        (any::<u8>(), 1..64_usize).prop_map(|(byte, run)| {
            (0..PAGE_SIZE).map(|at| byte.wrapping_add((at / run) as u8)).collect()
        }),
        proptest::collection::vec(any::<u8>(), PAGE_SIZE),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    (1..20_u32, proptest::collection::btree_map(1..20_u32, page(), 0..6))
        .prop_map(|(commit, writes)| Batch { commit, writes })
}

/// Files as capture writes them, with rolling checksums, and the database after each.
///
/// A page is in a file if it was written or if the database grew over it: merging needs those too.
fn history(batches: &[Batch]) -> Vec<(Vec<u8>, Database)> {
    let mut database = Database::default();
    let mut rolling = None;
    (1..)
        .zip(batches)
        .map(|(txid, batch)| {
            let grown = database.commit.get() + 1..=batch.commit;
            let mut pages: BTreeMap<_, _> = grown.map(|pgno| (pgno, vec![0; PAGE_SIZE])).collect();
            pages.extend(batch.writes.clone());
            pages.retain(|pgno, _| *pgno <= batch.commit);

            let mut header = Header {
                page_size: PageSize::new(512).unwrap(),
                commit: Commit::new(batch.commit),
                txids: TxidRange::single(Txid::new(txid)).unwrap(),
                timestamp: Timestamp::from_millis(txid as i64),
                tracked: false,
                pre_apply: None,
                wal: WalSpan::default(),
                node_id: txid,
                lineage: Lineage::default(),
            };
            let before = database.clone();
            database.apply(&header, &pages);
            header.lineage = Lineage { pre_apply: rolling, post_apply: Some(database.digest()) };
            assert_eq!(rolled_forward(&before, &database), database.rolling());
            rolling = header.lineage.post_apply;
            (encode(&header, &pages), database.clone())
        })
        .collect()
}

/// The rolling checksum as it is kept: each page that changed, came or went is toggled.
fn rolled_forward(before: &Database, after: &Database) -> Checksum {
    let checksum = |pgno: &u32, page: &Vec<u8>| page_checksum(Pgno::new(*pgno).unwrap(), page);
    let gone = before.pages.iter().filter(|(pgno, page)| after.pages.get(pgno) != Some(page));
    let new = after.pages.iter().filter(|(pgno, page)| before.pages.get(pgno) != Some(page));
    gone.chain(new).fold(before.rolling(), |sum, (pgno, page)| sum.toggle(checksum(pgno, page)))
}

fn encode(header: &Header, pages: &BTreeMap<u32, Vec<u8>>) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), header.clone()).unwrap();
    for (pgno, page) in pages {
        encoder.page(Pgno::new(*pgno).unwrap(), page).unwrap();
    }
    encoder.finish(None).unwrap().0
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(batch in batch(), txid in 2_u64.., wal in any::<u32>(), time in any::<i64>()) {
        let header = Header {
            page_size: PageSize::new(512).unwrap(),
            commit: Commit::new(batch.commit),
            txids: TxidRange::single(Txid::new(txid)).unwrap(),
            timestamp: Timestamp::from_millis(time),
            tracked: false,
            pre_apply: None,
            wal: WalSpan { offset: u64::from(wal) + 32, size: u64::from(wal), ..WalSpan::default() },
            node_id: u64::MAX - txid,
            lineage: Lineage { pre_apply: None, post_apply: Some(Checksum::EMPTY) },
        };
        let mut pages = batch.writes;
        pages.retain(|pgno, _| *pgno <= batch.commit);
        let decoded = decode(&encode(&header, &pages)).unwrap();
        prop_assert_eq!(decoded.summary.header, header);
        prop_assert_eq!(decoded.pages, pages);
    }

    #[test]
    fn a_merge_is_its_files_applied_in_order(
        batches in proptest::collection::vec(batch(), 1..8),
        cuts in any::<[prop::sample::Index; 2]>(),
    ) {
        let history = history(&batches);
        let (first, last) = {
            let mut cuts = cuts.map(|cut| cut.index(history.len()));
            cuts.sort_unstable();
            cuts.into()
        };
        let files: Vec<_> = history[first..=last].iter().map(|(file, _)| file.clone()).collect();
        let merged = decode(&merge_bytes(&files).unwrap()).unwrap();

        let mut database = first.checked_sub(1).map_or_else(Database::default, |at| history[at].1.clone());
        database.apply(&merged.summary.header, &merged.pages);
        let expected = &history[last].1;
        prop_assert_eq!(&database, expected);
        prop_assert_eq!(merged.summary.header.lineage.post_apply, Some(expected.digest()));
    }

    #[test]
    fn merging_in_steps_gives_the_same_file(
        batches in proptest::collection::vec(batch(), 2..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let files: Vec<_> = history(&batches).into_iter().map(|(file, _)| file).collect();
        let (older, newer) = files.split_at(1 + cut.index(files.len() - 1));
        let at_once = merge_bytes(&files).unwrap();
        let in_steps = merge_bytes(&[merge_bytes(older).unwrap(), merge_bytes(newer).unwrap()]).unwrap();
        prop_assert_eq!(&at_once, &in_steps);
        verify(&at_once[..]).unwrap();
    }
}
