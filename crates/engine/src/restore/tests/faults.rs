//! Damaged files, dropped connections and files that vanish.

use walstream_ltx::{Level, Timestamp};
use walstream_storage::StorageError;

use super::model::{Model, range};
use super::{Desk, txid};
use crate::error::EngineError;
use crate::restore::Target;
use crate::testing::{Request, unavailable};

/// Three changes, the last two also compacted.
fn model(lineage: bool) -> Model {
    let mut model = Model::new(512, lineage);
    model.commit(8, &[(1, 1), (2, 2), (5, 5), (8, 8)]);
    model.commit(9, &[(2, 22), (9, 9)]);
    model.commit(9, &[(1, 11), (5, 55)]);
    model
}

#[tokio::test]
async fn every_flipped_byte_is_found_and_nothing_is_left_behind() {
    for lineage in [false, true] {
        let model = model(lineage);
        let desk = Desk::new();
        let whole = model.file(2, 2);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x20;
            model.put(0, 2, 2, damaged);
            match desk.restore(&model.client(), Target::Latest).await {
                // The file's own checksum and trailer prove nothing that the rolling checksum does not.
                Ok((_, database)) => assert!(lineage && database == model.image(3), "byte {at}"),
                Err(EngineError::Damaged { .. } | EngineError::Verification { .. }) => {
                    assert_eq!(desk.names(), Vec::<String>::new(), "byte {at}");
                }
                Err(other) => panic!("byte {at}: {other}"),
            }
            let _ = std::fs::remove_file(desk.options(Target::Latest).output);
        }
    }
}

#[tokio::test]
async fn every_truncation_is_found() {
    for lineage in [false, true] {
        let model = model(lineage);
        let whole = model.file(3, 3);
        for end in 0..whole.len() {
            model.put(0, 3, 3, whole[..end].to_vec());
            let error = Desk::new().restore(&model.client(), Target::Latest).await.unwrap_err();
            assert!(matches!(error, EngineError::Damaged { .. }), "cut at {end}: {error}");
        }
    }
}

#[tokio::test]
async fn a_damaged_file_is_replaced_by_others_that_lead_to_the_same_state() {
    for lineage in [false, true] {
        let model = model(lineage);
        let mut damaged = model.file(2, 3);
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        model.put(1, 2, 3, damaged);
        let (restored, database) = Desk::new().restore(&model.client(), Target::Latest).await.unwrap();
        assert_eq!(restored.txid.get(), 3);
        assert!(database == model.image(3));
    }
}

#[tokio::test]
async fn an_older_state_is_offered_but_never_taken_in_silence() {
    let model = model(true);
    model.put(0, 3, 3, vec![7; 500]);
    let error = Desk::new().restore(&model.client(), Target::Latest).await.unwrap_err().to_string();
    assert!(error.contains("level 0 file 0000000000000003-0000000000000003 is damaged"), "{error}");
    assert!(error.ends_with("an earlier state can be restored with -txid 0000000000000002"), "{error}");
    assert!(Desk::new().restore(&model.client(), txid(2)).await.is_ok());
}

#[tokio::test]
async fn a_file_of_another_history_is_refused() {
    let mut other = model(true);
    other.commit(9, &[(7, 77)]);
    let model = model(true);
    let mut stranger = self::model(true);
    stranger.commit(9, &[(3, 33)]);
    stranger.commit(9, &[(4, 44)]);
    model.put(0, 4, 4, other.file(4, 4));
    model.put(0, 5, 5, stranger.file(5, 5));
    let error = Desk::new().restore(&model.client(), Target::Latest).await.unwrap_err();
    assert!(matches!(error, EngineError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn requests_that_fail_now_and_then_are_made_again() {
    for lineage in [false, true] {
        let model = model(lineage);
        let mut count = 0;
        model.replica.set_fault(move |request| {
            count += 1;
            matches!(request, Request::Read(..)).then_some(())?;
            (count % 2 == 0).then(unavailable)
        });
        let (_, database) = Desk::new().restore(&model.client(), Target::Latest).await.unwrap();
        assert!(database == model.image(3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_is_an_error() {
    let model = model(true);
    let desk = Desk::new();
    model.replica.set_fault(|request| matches!(request, Request::Read(..)).then(unavailable));
    let error = desk.restore(&model.client(), Target::Latest).await.unwrap_err();
    assert!(matches!(error, EngineError::Storage(_)), "{error}");
    assert_eq!(desk.names(), Vec::<String>::new());
}

#[tokio::test]
async fn a_file_that_retention_deletes_meanwhile_is_replaced() {
    let model = model(false);
    model.compact(1, 2, 3);
    model.replica.set_fault(|request| {
        let compacted = matches!(request, Request::Read(level, _) if level != Level::L0);
        compacted.then(|| StorageError::NotFound { location: "memory:/1".into() })
    });
    let (restored, database) = Desk::new().restore(&model.client(), Target::Latest).await.unwrap();
    assert_eq!(restored.txid.get(), 3);
    assert!(database == model.image(3));
}

#[tokio::test]
async fn what_is_compacted_between_two_listings_is_no_gap() {
    for level in Level::all() {
        let mut model = Model::new(512, true);
        (1..=6u8).for_each(|txid| model.commit(8, &[(1, txid), (2 + u32::from(txid), txid)]));
        model.store(9, 1, 1);
        model.compact(1, 2, 5);
        let merged = model.replica.content(Level::new(1).unwrap(), range(2, 5)).unwrap();
        model.replica.remove(Level::new(1).unwrap(), range(2, 5));
        let (replica, mut merged) = (std::sync::Arc::clone(&model.replica), Some(merged));
        // Whatever level's answer is the last: just before it the daemon merges four files and deletes them.
        model.replica.set_late(level);
        model.replica.set_fault(move |request| {
            if request == Request::List(level)
                && let Some(content) = merged.take()
            {
                replica.insert(Level::new(1).unwrap(), range(2, 5), Timestamp::default(), content);
                (2..=5).for_each(|txid| replica.remove(Level::L0, range(txid, txid)));
            }
            None
        });
        let (restored, database) = Desk::new().restore(&model.client(), Target::Latest).await.unwrap();
        assert!(restored.txid.get() == 6 && database == model.image(6), "level {level}");
    }
}
