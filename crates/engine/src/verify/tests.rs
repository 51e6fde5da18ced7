//! Sound replicas pass; whatever is wrong with one is found.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use walstream_ltx::{Encoder, Pgno};

use super::chain::Stretch;
use super::*;
use crate::restore::tests::golden::{GOLDEN, Golden, REAL, client_of};
use crate::restore::tests::model::{Model, range, time};
use crate::restore::{Restored, Unwatched, Verified};
use crate::testing::{MemoryReplica, Request, unavailable};

async fn report(client: &Arc<dyn ReplicaClient>) -> Report {
    verify(client, &VerifyOptions::default(), &Unwatched).await.unwrap()
}

async fn deep_report(client: &Arc<dyn ReplicaClient>) -> Report {
    let folder = TempDir::new().unwrap();
    let options = VerifyOptions { deep: Some(folder.path().join("out.db")) };
    let report = verify(client, &options, &Unwatched).await.unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "left behind");
    report
}

/// A snapshot of TXID 4 with level-0 files up to 12, and 5 to 8 compacted: every state has a way that needs no
/// compacted file.
fn replica() -> Model {
    let mut model = Model::new(512, true);
    for txid in 1..=12u32 {
        model.commit(8 + txid / 4, &[(txid % 5 + 1, txid as u8)]);
    }
    model.store(9, 1, 4);
    model.compact(1, 5, 8);
    model
}

/// Changes the bytes of a stored file.
fn change(replica: &MemoryReplica, level: u8, min: u64, max: u64, change: impl FnOnce(&mut Vec<u8>)) {
    let level = Level::new(level).unwrap();
    let mut bytes = replica.content(level, range(min, max)).unwrap().to_vec();
    change(&mut bytes);
    replica.insert(level, range(min, max), time(max), bytes);
}

fn numbers(txids: &[Txid]) -> Vec<u64> {
    txids.iter().map(|txid| txid.get()).collect()
}

#[tokio::test]
async fn every_replica_of_a_real_litestream_is_sound() {
    for name in REAL {
        let golden = Golden::open(name);
        let report = deep_report(&golden.client()).await;
        assert_eq!(report.problem(), None, "{name}: {report:#?}");
        assert_eq!(report.without_digest, report.files(), "{name}: Litestream notes no digests");
        assert_eq!(report.stretches.len(), 1, "{name}");
        assert!(report.findings.is_empty(), "{name}: {:?}", report.findings);
        let Some(Ok(restored)) = &report.deep else { panic!("{name}: {:?}", report.deep) };
        assert_eq!(
            (Some(restored.txid), restored.verified),
            (report.newest.map(|s| s.txid), Verified::FileChecksums)
        );
    }
}

#[tokio::test]
async fn the_verdict_on_synthetic_replicas_is_that_of_a_restore() {
    let folder = Path::new(GOLDEN).join("synthetic");
    let expected: Value = serde_json::from_slice(&fs::read(folder.join("expected.json")).unwrap()).unwrap();
    for (name, case) in expected["cases"].as_object().unwrap() {
        if !case["txid"].is_null() {
            continue;
        }
        let client = client_of(&folder.join(name));
        let output = TempDir::new().unwrap();
        let options = RestoreOptions::new(output.path().join("out.db"));
        let restored = restore::restore(Arc::clone(&client), &options, &Unwatched).await;
        match (verify(&client, &VerifyOptions::default(), &Unwatched).await, restored) {
            (Ok(report), Ok(restored)) if report.problem().is_none() => {
                assert_eq!(report.newest.map(|state| state.txid), Some(restored.txid), "{name}");
            }
            // What a restore could do without is damage all the same.
            (Ok(report), Ok(_)) => assert!(report.has_newest(), "{name}: {report:#?}"),
            (Ok(report), Err(_)) => assert!(report.problem().is_some(), "{name} is not sound"),
            (Err(_), restored) => assert!(restored.is_err(), "{name}"),
        }
    }
}

#[tokio::test]
async fn a_replica_of_walstream_is_proven_by_digests() {
    let report = deep_report(&replica().client()).await;
    assert_eq!(report.without_digest, 0);
    assert_eq!(report.listed, Txid::new(12));
    let [Stretch { first, last, states }] = report.stretches[..] else { panic!("{:?}", report.stretches) };
    assert_eq!((first.txid.get(), last.txid.get(), states), (1, 12, 12));
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_found_or_does_not_matter() {
    let model = replica();
    let size = model.replica.content(Level::L0, range(10, 10)).unwrap().len();
    let mut found = 0;
    for at in 0..size {
        change(&model.replica, 0, 10, 10, |bytes| bytes[at] ^= 0x10);
        let report = report(&model.client()).await;
        if let [damage] = &report.damaged[..] {
            assert_eq!(damage.file.txids, range(10, 10));
            assert_eq!(numbers(&report.unreachable), [10, 11, 12]);
            assert_eq!(report.newest.map(|state| state.txid.get()), Some(9));
            found += 1;
        } else {
            // The same page can be packed in more than one way.
            assert_eq!(report.problem(), None, "byte {at}");
        }
        change(&model.replica, 0, 10, 10, |bytes| bytes[at] ^= 0x10);
    }
    assert!(found * 10 > size * 9, "{found} of {size}");
}

#[tokio::test]
async fn damage_that_another_file_makes_good_is_damage_and_the_newest_state_is_there() {
    let model = replica();
    change(&model.replica, 0, 6, 6, |bytes| bytes.truncate(bytes.len() / 2));
    let report = report(&model.client()).await;
    assert_eq!(report.damaged.len(), 1);
    assert!(report.damaged[0].reason.contains("cut short"), "{:?}", report.damaged);
    assert!(report.has_newest() && report.holes.is_empty() && report.unreachable.is_empty(), "{report:#?}");
    assert_eq!(report.problem().unwrap(), "replica memory: is not sound: 1 of 14 files is damaged");
}

#[tokio::test]
async fn a_lost_file_is_a_hole_and_the_states_behind_it_are_named() {
    let model = replica();
    model.replica.remove(Level::L0, range(10, 10));
    let report = deep_report(&model.client()).await;
    assert_eq!(report.damaged, []);
    assert_eq!((&report.holes[..], numbers(&report.unreachable)), (&[range(10, 10)][..], vec![11, 12]));
    assert_eq!(report.findings.len(), 1);
    assert!(matches!(&report.deep, Some(Err(reason)) if reason.contains("missing")), "{:?}", report.deep);
    let problem = report.problem().unwrap();
    assert!(problem.contains("2 listed states cannot be restored"), "{problem}");
    assert!(problem.contains("only 0000000000000009 and older ones"), "{problem}");
}

#[tokio::test]
async fn a_lost_file_whose_work_another_has_is_worth_a_remark_alone() {
    let model = replica();
    model.replica.remove(Level::L0, range(6, 6));
    let report = report(&model.client()).await;
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.problem(), None, "{report:#?}");
}

#[tokio::test]
async fn empty_and_exchanged_files_are_named() {
    let model = replica();
    change(&model.replica, 0, 11, 11, Vec::clear);
    let twelfth = model.replica.content(Level::L0, range(12, 12)).unwrap();
    change(&model.replica, 1, 5, 8, |bytes| *bytes = twelfth.to_vec());
    let report = report(&model.client()).await;
    let reasons: Vec<&str> = report.damaged.iter().map(|damage| damage.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "file is cut short: its header at byte 0 is not whole",
            "its header says that it holds 000000000000000c-000000000000000c",
        ]
    );
}

#[tokio::test]
async fn whole_files_of_another_history_are_found() {
    let (model, mut other) = (replica(), Model::new(512, true));
    for txid in 1..=12u32 {
        other.commit(8 + txid / 4, &[(txid % 5 + 1, txid as u8 + 100)]);
    }
    model.put(0, 11, 11, other.file(11, 11));
    let report = report(&model.client()).await;
    assert_eq!(report.damaged, []);
    let states: Vec<u64> = report.disagreements.iter().map(|found| found.txid.get()).collect();
    assert_eq!(states, [10, 11]);
    assert!(report.problem().unwrap().contains("different histories"));
    assert!(!report.has_newest(), "a restore would refuse it");
}

#[tokio::test]
async fn a_page_that_no_file_holds_is_missed_although_every_file_is_whole() {
    let mut model = Model::new(512, false);
    model.commit(4, &[]);
    model.commit(9, &[]);
    let header = Header::parse(&model.file(2, 2)).unwrap();
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    encoder.page(Pgno::new(9).unwrap(), &[1; 512]).unwrap();
    model.put(0, 2, 2, encoder.finish(None).unwrap().0);
    let report = report(&model.client()).await;
    assert_eq!(report.damaged, []);
    assert_eq!(report.newest.map(|state| state.txid.get()), Some(1));
    assert!(report.problem().is_some());
}

#[tokio::test]
async fn what_retention_deletes_meanwhile_is_no_damage() {
    let model = replica();
    let (replica, mut deleted) = (Arc::clone(&model.replica), false);
    model.replica.set_fault(move |request| {
        if matches!(request, Request::Read(..)) && !std::mem::replace(&mut deleted, true) {
            (5..=8).for_each(|txid| replica.remove(Level::L0, range(txid, txid)));
        }
        None
    });
    let report = report(&model.client()).await;
    assert_eq!(report.problem(), None, "{report:#?}");
    assert_eq!(report.files(), 10);
}

/// A snapshot and eight level-0 files, and what a daemon does at some moment: it merges them and deletes them.
fn compacted_when(is_it: impl Fn(Request) -> bool + Send + 'static) -> Model {
    let mut model = Model::new(512, true);
    (1..=12u32).for_each(|txid| model.commit(8, &[(txid % 5 + 1, txid as u8)]));
    model.store(9, 1, 4);
    (1..=4).for_each(|txid| model.replica.remove(Level::L0, range(txid, txid)));
    model.compact(1, 5, 12);
    let (level_1, merged) = (Level::new(1).unwrap(), range(5, 12));
    let content = model.replica.content(level_1, merged).unwrap();
    model.replica.remove(level_1, merged);
    let (replica, mut content) = (Arc::clone(&model.replica), Some(content));
    model.replica.set_fault(move |request| {
        if is_it(request)
            && let Some(content) = content.take()
        {
            replica.insert(level_1, merged, time(12), content);
            (5..=12).for_each(|txid| replica.remove(Level::L0, range(txid, txid)));
        }
        None
    });
    model
}

#[tokio::test]
async fn what_is_compacted_between_two_listings_is_seen() {
    for level in Level::all() {
        let model = compacted_when(move |request| request == Request::List(level));
        // Its answer is the last, if all are asked for at once.
        model.replica.set_late(level);
        let report = report(&model.client()).await;
        assert_eq!((report.problem(), &report.findings[..]), (None, &[][..]), "level {level}: {report:#?}");

        let model = compacted_when(move |request| request == Request::List(level));
        model.replica.set_late(level);
        let faults = rolling::Rolling::new(model.client()).turn(&Semaphore::new(1)).await.unwrap();
        assert_eq!(faults, [], "level {level}");
    }
}

#[tokio::test]
async fn what_is_compacted_after_it_was_read_is_not_missed() {
    // Nine files are read whole, and then the indexes of those that lead to the newest state.
    let reads = std::sync::atomic::AtomicUsize::new(0);
    let model = compacted_when(move |request| {
        let counts = usize::from(matches!(request, Request::Read(..)));
        reads.fetch_add(counts, std::sync::atomic::Ordering::Relaxed) == 9
    });
    let report = report(&model.client()).await;
    assert_eq!(report.problem(), None, "{report:#?}");
    assert!(report.has_newest() && report.files() == 2, "{report:#?}");
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_an_error_and_no_verdict() {
    let model = replica();
    model.replica.set_fault(|request| matches!(request, Request::Read(..)).then(unavailable));
    let error = verify(&model.client(), &VerifyOptions::default(), &Unwatched).await.unwrap_err();
    assert!(matches!(error, EngineError::Storage(_)), "{error}");
}

#[tokio::test]
async fn an_empty_replica_holds_no_backup() {
    let error =
        verify(&Model::new(512, true).client(), &VerifyOptions::default(), &Unwatched).await.unwrap_err();
    assert!(matches!(error, EngineError::NoBackup { .. }), "{error}");
}

/// The objects of a replica of version 0.3, in order.
fn legacy_objects(golden: &Golden, kind: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for generation in fs::read_dir(golden.replica().join("generations")).unwrap() {
        let folder = generation.unwrap().path().join(kind);
        found.extend(fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort();
    found
}

#[tokio::test]
async fn replicas_of_version_0_3_are_read_to_the_end_and_restored() {
    for name in ["v3-a", "v3-two-generations"] {
        let report = deep_report(&Golden::open(name).client()).await;
        assert_eq!(report.problem(), None, "{name}: {report:#?}");
        assert!(report.legacy.is_some_and(|legacy| legacy.objects > 2));
        assert!(matches!(report.deep, Some(Ok(Restored { verified: Verified::LegacyChecksums, .. }))));
    }
}

#[tokio::test]
async fn damage_and_holes_of_version_0_3_are_named() {
    let golden = Golden::open("v3-a");
    let segment = legacy_objects(&golden, "wal").swap_remove(2);
    let sound = fs::read(&segment).unwrap();
    fs::write(&segment, &sound[..sound.len() - 3]).unwrap();
    let damaged = report(&golden.client()).await;
    let legacy = damaged.legacy.as_ref().unwrap();
    assert_eq!(legacy.damaged.len(), 1);
    assert!(segment.ends_with(&legacy.damaged[0].name), "{legacy:?}");
    assert!(damaged.problem().unwrap().contains("1 of 18 objects is damaged"), "{:?}", damaged.problem());

    fs::remove_file(&segment).unwrap();
    let legacy = report(&golden.client()).await.legacy.unwrap();
    assert!(matches!(&legacy.holes[..], [hole] if hole.contains("is missing")), "{legacy:?}");
}
