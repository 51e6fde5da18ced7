//! What a stop costs: only what changed meanwhile, whatever happened to the WAL.

use std::path::Path;

use walstream_test_support::App;
use walstream_test_support::compare::assert_same_pages;
use walstream_test_support::replica::{bytes_below, file_url};

use crate::walstream;

const MEBIBYTE: u64 = 1 << 20;

/// A database of 24 MiB is replicated; then `meanwhile` happens without a daemon; then `replicate -once` ships it.
/// Returns how many bytes that took.
fn bytes_shipped_after(meanwhile: impl FnOnce(&App, &Path)) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let (replica, restored) = (folder.path().join("replica"), folder.path().join("restored.db"));
    let url = file_url(&replica);
    let app = App::open(folder.path().join("shop.db"));
    app.sell(24_000, 1000);
    walstream().replicate_once(app.path(), &url);
    let before = bytes_below(&replica);
    assert!(before > 20 * MEBIBYTE);

    meanwhile(&app, folder.path());
    walstream().replicate_once(app.path(), &url);
    walstream().restore(&url, &restored, &[]);
    assert_same_pages(app.path(), &restored);
    bytes_below(&replica).saturating_sub(before)
}

fn change_ten_rows(app: &App) {
    app.execute("UPDATE item SET name = name || '?' WHERE id % 2400 = 5");
}

#[test]
fn nothing_happened() {
    assert_eq!(bytes_shipped_after(|_, _| {}), 0);
}

#[test]
fn ten_rows_in_the_wal() {
    assert!(bytes_shipped_after(|app, _| change_ten_rows(app)) < MEBIBYTE);
}

#[test]
fn ten_rows_and_a_checkpoint_that_empties_the_wal() {
    let shipped = bytes_shipped_after(|app, _| {
        change_ten_rows(app);
        app.checkpoint("TRUNCATE");
    });
    assert!(shipped < MEBIBYTE, "{shipped} bytes");
}

#[test]
fn ten_rows_and_a_wal_that_was_overwritten() {
    let shipped = bytes_shipped_after(|app, _| {
        change_ten_rows(app);
        app.checkpoint("RESTART");
        app.sell(3, 100);
    });
    assert!(shipped < MEBIBYTE, "{shipped} bytes");
}

#[test]
fn ten_rows_and_the_local_state_is_gone() {
    // Without the local state only the replica itself can prove what it holds, so a full copy may be the price.
    bytes_shipped_after(|app, folder| {
        change_ten_rows(app);
        std::fs::remove_dir_all(folder.join(".shop.db-litestream")).unwrap();
    });
}

#[test]
fn a_new_machine_that_restored_first() {
    let shipped = bytes_shipped_after(|app, folder| {
        // What a container without a volume does: nothing local is left but the restored file.
        let replica = file_url(&folder.join("replica"));
        app.checkpoint("TRUNCATE");
        std::fs::remove_dir_all(folder.join(".shop.db-litestream")).unwrap();
        let restored = folder.join("restored-first.db");
        walstream().restore(&replica, &restored, &[]);
        assert_same_pages(app.path(), &restored);
    });
    assert!(shipped < MEBIBYTE, "{shipped} bytes");
}

#[test]
fn a_vacuum_that_moves_every_page() {
    bytes_shipped_after(|app, _| {
        app.execute("DELETE FROM item WHERE id % 2 = 0; VACUUM");
        app.checkpoint("TRUNCATE");
    });
}
