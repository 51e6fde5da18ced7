//! Replicas that a real Litestream 0.3.13 wrote, whole and with parts missing.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use walstream_ltx::{Timestamp, Txid};

use super::Desk;
use super::golden::Golden;
use crate::error::EngineError;
use crate::restore::{Plan, Target, Verified, plan, points};

/// The object whose name ends like this.
fn object(golden: &Golden, end: &str) -> PathBuf {
    let mut folders = vec![golden.replica()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(end) {
                return path;
            }
        }
    }
    panic!("no object {end}")
}

async fn refusal(golden: &Golden) -> String {
    let desk = Desk::new();
    let error = desk.restore(&golden.client(), Target::Latest).await.unwrap_err();
    assert!(matches!(error, EngineError::Legacy { .. }), "{error}");
    assert_eq!(desk.names(), Vec::<String>::new());
    error.to_string()
}

#[tokio::test]
async fn the_newest_state_is_the_database_that_was_replicated() {
    for name in ["v3-a", "v3-two-generations"] {
        let (golden, desk) = (Golden::open(name), Desk::new());
        let (restored, database) = desk.restore(&golden.client(), Target::Latest).await.unwrap();
        assert_eq!((restored.txid, restored.verified), (Txid::ZERO, Verified::LegacyChecksums));
        assert_eq!((restored.page_size.get(), restored.commit.get() as usize), (4096, database.len() / 4096));
        assert!(database == golden.final_database(), "{name}");
        assert_eq!(desk.names(), ["out.db"]);
    }
}

#[tokio::test]
async fn a_time_between_gives_the_state_of_that_time() {
    let (golden, desk) = (Golden::open("v3-two-generations"), Desk::new());
    // The first generation had its last segment at …710.766 s; the second begins at …713.469 s.
    let (_, database) =
        desk.restore(&golden.client(), Target::At(Timestamp::from_millis(1_795_216_711_000))).await.unwrap();
    assert_ne!(database, golden.final_database());
    let copy = Connection::open(desk.options(Target::Latest).output).unwrap();
    let check: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    let too_early =
        desk.restore(&golden.client(), Target::At(Timestamp::from_millis(1_795_216_700_000))).await;
    let Err(EngineError::Unreachable { reason, .. }) = too_early else { panic!("{too_early:?}") };
    assert!(
        reason.starts_with("the oldest state that can be restored is of 2026-11-20T23:18:29.166Z"),
        "{reason}"
    );
}

#[tokio::test]
async fn every_state_in_the_list_is_restored() {
    for (name, states) in [("v3-a", 18), ("v3-two-generations", 5)] {
        let (golden, desk) = (Golden::open(name), Desk::new());
        let points = points(&*golden.client()).await.unwrap();
        assert_eq!(points.len(), states, "{name}: {points:?}");
        for (place, point) in points.iter().enumerate() {
            let at = Target::At(point.created_at);
            let (restored, database) = desk.restore(&golden.client(), at).await.unwrap();
            let last = place + 1 == points.len();
            assert_eq!((restored.created_at, restored.newest), (point.created_at, last));
            assert!(!last || database == golden.final_database(), "{name}");
        }
    }
}

#[tokio::test]
async fn the_plan_is_what_is_read() {
    let (golden, desk) = (Golden::open("v3-a"), Desk::new());
    for target in [Target::Latest, Target::At(points(&*golden.client()).await.unwrap()[3].created_at)] {
        let Ok(Plan::Legacy(backup)) = plan(&*golden.client(), &target).await else { panic!("no backup") };
        let names: Vec<&str> =
            backup.objects().map(|object| object.name.rsplit('/').next().unwrap()).collect();
        assert_eq!(names[..2], ["00000000.snapshot.lz4", "00000000_00000000.wal.lz4"]);
        assert_eq!(names.len(), if target == Target::Latest { 18 } else { 4 });
        let (restored, _) = desk.restore(&golden.client(), target).await.unwrap();
        assert_eq!(backup.objects().map(|object| object.size).sum::<u64>(), restored.bytes_fetched);
        assert_eq!(backup.objects().map(|object| object.created_at).max(), Some(restored.created_at));
    }
}

#[tokio::test]
async fn a_hole_that_names_show_is_in_the_way_of_a_plan_too() {
    for missing in ["wal/00000001_00000000.wal.lz4", "wal/00000002_00000000.wal.lz4"] {
        let golden = Golden::open("v3-a");
        fs::remove_file(object(&golden, missing)).unwrap();
        let error = plan(&*golden.client(), &Target::Latest).await.unwrap_err().to_string();
        assert_eq!(error, refusal(&golden).await);
        assert!(error.contains("missing WAL"), "{error}");
    }
}

#[tokio::test]
async fn a_missing_segment_is_named() {
    let golden = Golden::open("v3-a");
    fs::remove_file(object(&golden, "wal/00000001_00001038.wal.lz4")).unwrap();
    let error = refusal(&golden).await;
    assert!(
        error.contains("wal/00000001_00002050.wal.lz4: missing WAL segment: expected 00000001_00001038"),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_wal_is_named() {
    let golden = Golden::open("v3-a");
    for segment in ["00000000", "000070c8"] {
        fs::remove_file(object(&golden, &format!("wal/00000000_{segment}.wal.lz4"))).unwrap();
    }
    let error = refusal(&golden).await;
    assert!(error.ends_with("missing WAL index: expected 00000000, found 00000001"), "{error}");
}

#[tokio::test]
async fn every_truncation_is_found() {
    for (part, step) in [("snapshots/00000000.snapshot.lz4", 97), ("wal/00000001_00001038.wal.lz4", 29)] {
        let golden = Golden::open("v3-a");
        let path = object(&golden, part);
        let whole = fs::read(&path).unwrap();
        let ends = (0..whole.len()).step_by(step).chain(whole.len() - 12..whole.len());
        for end in ends {
            fs::write(&path, &whole[..end]).unwrap();
            let error = refusal(&golden).await;
            assert!(error.contains(part), "cut at {end}: {error}");
        }
    }
}

#[tokio::test]
async fn a_flipped_byte_is_found() {
    let golden = Golden::open("v3-a");
    let path = object(&golden, "wal/00000001_00001038.wal.lz4");
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(13) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        refusal(&golden).await;
    }
}
