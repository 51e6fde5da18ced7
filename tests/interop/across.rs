//! Replicated by one program, restored by the other.

use walstream_test_support::compare::{assert_same_pages, assert_same_rows};
use walstream_test_support::{App, Place, Program, WebDav};

use crate::site::Site;
use crate::{litestream, walstream};

/// The writer follows a live application; the reader must find the same states as the writer does itself: the latest,
/// byte for byte the application's, and every TXID.
fn written_by_one_restored_by_the_other(writer: Program, reader: Program, page_size: u32, place: Place) {
    let site = Site::with_pages_of(page_size, place.url(), || place.txids());
    site.app.sell(200, 300);
    let daemon = site.replicate(&writer);
    for step in 1..=6 {
        site.ships(|app| trade(app, step, 500));
    }
    daemon.stop();

    let latest = site.folder.path().join("latest.db");
    site.restore(&reader, &latest, &[]);
    assert_same_pages(site.app.path(), &latest);
    assert_same_rows(site.app.path(), &latest);
    site.every_state_is_the_same_to_both();
}

/// What applications do: rows come, change and go, the file grows and shrinks, checkpoints of all kinds.
pub(crate) fn trade(app: &App, step: u32, many: u32) {
    match step % 6 {
        1 => app.sell(1, 10),
        2 => app.execute("UPDATE item SET name = name || '!' WHERE id % 50 = 1"),
        3 => app.sell(many, 1000),
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
