//! Replicated by one program, restored by the other.

use std::fs;
use std::time::Duration;

use walstream_test_support::compare::{assert_same_pages, assert_same_rows, assert_sound};
use walstream_test_support::{App, Place, Program, WebDav, wait_until};

use crate::{litestream, walstream};

/// The writer follows a live application; the reader must find the same states as the writer does itself: the latest,
/// byte for byte the application's, and every TXID.
fn written_by_one_restored_by_the_other(writer: Program, reader: Program, page_size: u32, place: Place) {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open_with(folder.path().join("shop.db"), &format!("PRAGMA page_size = {page_size}"));
    app.sell(200, 300);
    let daemon = writer.replicate(app.path(), &place.url());
    for step in 1..=6 {
        let before = place.newest_txid();
        trade(&app, step);
        wait_until("the replica grows", Duration::from_secs(30), || place.newest_txid() > before);
    }
    daemon.stop();

    let latest = folder.path().join("latest.db");
    reader.restore(&place.url(), &latest, &[]);
    assert_same_pages(app.path(), &latest);
    assert_same_rows(app.path(), &latest);

    for txid in place.txids() {
        let txid = format!("{txid:016x}");
        let (ours, theirs) = (folder.path().join("by-reader.db"), folder.path().join("by-writer.db"));
        reader.restore(&place.url(), &ours, &["-force", "-txid", &txid]);
        writer.restore(&place.url(), &theirs, &["-force", "-txid", &txid]);
        assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "TXID {txid} differs");
        assert_sound(&ours);
    }
}

/// What applications do: rows come, change and go, the file grows and shrinks, checkpoints of all kinds.
fn trade(app: &App, step: u32) {
    match step % 6 {
        1 => app.sell(1, 10),
        2 => app.execute("UPDATE item SET name = name || '!' WHERE id % 50 = 1"),
        3 => app.sell(500, 1000),
        4 => app.execute("DELETE FROM item WHERE id % 3 = 0"),
        5 => app.execute("VACUUM"),
        _ => {
            app.checkpoint("PASSIVE");
            app.sell(3, 5000);
        }
    }
}

#[test]
fn walstream_to_litestream_in_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    written_by_one_restored_by_the_other(walstream(), litestream(), 4096, Place::directory(folder.path()));
}

#[test]
fn walstream_to_litestream_with_pages_of_512_bytes() {
    let folder = tempfile::tempdir().unwrap();
    written_by_one_restored_by_the_other(walstream(), litestream(), 512, Place::directory(folder.path()));
}

#[test]
fn walstream_to_litestream_with_pages_of_64_kib() {
    let folder = tempfile::tempdir().unwrap();
    written_by_one_restored_by_the_other(walstream(), litestream(), 65536, Place::directory(folder.path()));
}

#[test]
fn walstream_to_litestream_on_s3() {
    written_by_one_restored_by_the_other(walstream(), litestream(), 4096, Place::s3());
}

#[test]
fn litestream_to_walstream_in_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    written_by_one_restored_by_the_other(litestream(), walstream(), 4096, Place::directory(folder.path()));
}

#[test]
fn litestream_to_walstream_on_s3() {
    written_by_one_restored_by_the_other(litestream(), walstream(), 4096, Place::s3());
}

#[test]
fn walstream_to_litestream_on_webdav() {
    let place = Place::WebDav(WebDav::nginx());
    written_by_one_restored_by_the_other(walstream(), litestream(), 4096, place);
}

#[test]
fn litestream_to_walstream_on_webdav_with_a_login() {
    let place = Place::WebDav(WebDav::rclone());
    written_by_one_restored_by_the_other(litestream(), walstream(), 4096, place);
}
