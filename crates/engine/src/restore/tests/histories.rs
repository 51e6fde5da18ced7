//! Random histories of a database, restored to each of their states.

use proptest::prelude::*;

use super::model::{Model, time};
use super::{Desk, txid};
use crate::restore::{Target, Verified, points};

/// One change: the size after it, and pages to fill.
fn changes() -> impl Strategy<Value = Vec<(u32, Vec<(u32, u8)>)>> {
    let change = (1..40u32, prop::collection::vec((1..40u32, any::<u8>()), 0..12));
    prop::collection::vec(change, 1..14)
}

/// Runs of TXIDs that are merged, by level.
fn compactions() -> impl Strategy<Value = Vec<(u8, u64, u64)>> {
    prop::collection::vec((1..=8u8, 1..14u64, 1..6u64), 0..5)
}

async fn check(model: &Model) {
    check_on(Desk::new(), model).await;
    check_on(Desk { delta: true, ..Desk::new() }, model).await;
}

async fn check_on(desk: Desk, model: &Model) {
    let client = model.client();
    let verified = if model.lineage { Verified::RollingChecksum } else { Verified::FileChecksums };
    for wanted in 1..=model.newest() {
        for target in [txid(wanted), Target::At(time(wanted))] {
            let (restored, database) = desk.restore(&client, target).await.unwrap();
            assert_eq!((restored.txid.get(), restored.verified), (wanted, verified));
            assert_eq!((restored.created_at, restored.newest), (time(wanted), wanted == model.newest()));
            assert!(database == model.image(wanted), "TXID {wanted} of {:?}", model.states);
        }
    }
    let listed: Vec<u64> = points(&*client).await.unwrap().iter().map(|point| point.txid.get()).collect();
    assert_eq!(listed, (1..=model.newest()).collect::<Vec<_>>());
    assert_eq!(desk.restore(&client, Target::Latest).await.unwrap().0.txid.get(), model.newest());
    assert_eq!(desk.names(), ["out.db"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_state_is_restored(
        changes in changes(),
        compactions in compactions(),
        snapshots in prop::collection::vec(1..14u64, 0..3),
        lineage in any::<bool>(),
        page_size in prop::sample::select(vec![512u32, 4096, 65536]),
    ) {
        let mut model = Model::new(page_size, lineage);
        for (commit, written) in &changes {
            model.commit(*commit, written);
        }
        let newest = model.newest();
        for (level, min, length) in compactions {
            if min <= newest {
                model.compact(level, min, newest.min(min + length));
            }
        }
        for end in snapshots.into_iter().filter(|&end| end <= newest) {
            model.store(9, 1, end);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(&model));
    }
}

#[tokio::test]
async fn only_the_newest_version_of_each_page_is_fetched() {
    let mut model = Model::new(65536, true);
    let all: Vec<(u32, u8)> = (1..=120).map(|pgno| (pgno, pgno as u8)).collect();
    model.commit(120, &all);
    let half: Vec<(u32, u8)> = (1..=90).map(|pgno| (pgno, 255 - pgno as u8)).collect();
    model.commit(120, &half);
    let (restored, database) = Desk::new().restore(&model.client(), Target::Latest).await.unwrap();
    assert!(database == model.image(2));
    let sizes = [1, 2].map(|txid| model.file(txid, txid).len() as u64);
    assert!(restored.bytes_fetched < sizes[1] + sizes[0] / 2, "{restored:?} of {sizes:?}");
}

#[tokio::test]
async fn a_change_of_the_page_size_starts_anew() {
    for lineage in [false, true] {
        let mut old = Model::new(512, lineage);
        old.commit(4, &[(1, 1), (2, 2)]);
        let mut new = Model::new(4096, lineage);
        new.commit(1, &[(1, 9)]);
        new.commit(3, &[(1, 1), (2, 2), (3, 3)]);
        new.states[1] = Default::default();
        old.put(0, 2, 2, new.file(2, 2));
        let (restored, database) = Desk::new().restore(&old.client(), Target::Latest).await.unwrap();
        assert_eq!(restored.page_size.get(), 4096);
        assert!(database == new.image(2));
    }
}
