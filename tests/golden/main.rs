//! Every golden replica is restored to exactly the images that the real Litestream restored from it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod synthetic;

use std::path::Path;
use std::process::Command;

use walstream_test_support::Program;
use walstream_test_support::golden::{Golden, golden_folder, read_json, sha256};
use walstream_test_support::replica::file_url;

fn walstream() -> Program {
    Program::walstream(env!("CARGO_BIN_EXE_walstream"))
}

/// Latest, every TXID, and the moment after every level-0 file.
fn every_image_of(name: &str) {
    let golden = Golden::copy(name);
    let (url, output) = (golden.url(), golden.output());
    walstream().restore(&url, &output, &[]);
    let images = golden.images();
    assert_eq!(sha256(&output), images.last().unwrap().sha256, "{name}, latest");
    for image in &images {
        walstream().restore(&url, &output, &["-force", "-txid", &image.txid]);
        assert_eq!(sha256(&output), image.sha256, "{name}, TXID {}", image.txid);
    }
    for pair in images.windows(2) {
        let just_after = rfc_3339(pair[0].written_ms + 1);
        assert!(pair[0].written_ms + 1 < pair[1].written_ms, "{name}: the times of two files are too close");
        walstream().restore(&url, &output, &["-force", "-timestamp", &just_after]);
        assert_eq!(sha256(&output), pair[0].sha256, "{name}, {just_after}");
    }
}

#[test]
fn pages_of_512_bytes() {
    every_image_of("ps512");
}

#[test]
fn pages_of_4_kib() {
    every_image_of("ps4096");
}

#[test]
fn pages_of_64_kib() {
    every_image_of("ps65536");
}

#[test]
fn a_database_that_shrinks() {
    every_image_of("vacuum");
}

#[test]
fn pages_that_do_not_compress() {
    every_image_of("random512");
    every_image_of("random4096");
}

#[test]
fn a_wal_that_was_checkpointed() {
    every_image_of("checkpoint");
}

#[test]
fn a_replica_of_many_restarts() {
    every_image_of("restart");
}

#[test]
fn legacy_frames() {
    every_image_of("frame-0.5.15");
}

#[test]
fn legacy_frames_then_blocks() {
    every_image_of("frame-then-block");
}

#[test]
fn a_database_beyond_the_lock_page() {
    let source = golden_folder().join("lockpage65536");
    let folder = tempfile::tempdir().unwrap();
    let level = folder.path().join("replica/ltx/9");
    std::fs::create_dir_all(&level).unwrap();
    let name = "0000000000000001-0000000000000001.ltx";
    unpack(&source.join(format!("{name}.xz")), &level.join(name));
    let output = folder.path().join("restored.db");
    walstream().restore(&file_url(&folder.path().join("replica")), &output, &[]);
    assert_eq!(sha256(&output), read_json(&source.join("manifest.json"))["image_sha256"].as_str().unwrap());
}

fn unpack(packed: &Path, target: &Path) {
    let output = std::fs::File::create(target).unwrap();
    let status = Command::new("xz").arg("-dc").arg(packed).stdout(output).status();
    assert!(status.is_ok_and(|status| status.success()), "xz is needed: apt-get install xz-utils");
}

/// `2026-11-21T06:28:00.123Z`, by way of SQLite.
fn rfc_3339(ms: u64) -> String {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    let sql = "SELECT strftime('%Y-%m-%dT%H:%M:%fZ', ?1 / 1000.0, 'unixepoch', 'subsec')";
    connection.query_row(sql, [i64::try_from(ms).unwrap()], |row| row.get(0)).unwrap()
}

#[test]
fn replicas_of_version_0_3() {
    for name in ["v3-a", "v3-two-generations"] {
        let golden = Golden::copy(name);
        walstream().restore(&golden.url(), &golden.output(), &[]);
        assert_eq!(Some(sha256(&golden.output()).as_str()), golden.final_sha256(), "{name}");
    }
}
