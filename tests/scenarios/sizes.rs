//! The database grows, shrinks and crosses the lock page at 1 GiB.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use walstream_test_support::compare::{assert_same_pages, rows};
use walstream_test_support::{App, wait_until};

use crate::site::{SOON, Site};
use crate::walstream;

#[test]
fn it_grows_by_pages_that_are_free_at_once() {
    let site = Site::new();
    let app = site.app();
    let daemon = site.daemon();
    site.wait_until_caught_up(&app);
    app.execute(
        "BEGIN; CREATE TABLE passing(x); INSERT INTO passing VALUES (randomblob(900000)); DROP TABLE passing;
         INSERT INTO item(name, body) VALUES ('after', randomblob(5000)); COMMIT",
    );
    assert!(app.query("PRAGMA freelist_count").parse::<u32>().unwrap() > 200);
    site.wait_until_caught_up(&app);
    daemon.stop();
    site.assert_restores();
}

#[test]
fn it_shrinks_and_grows_again_in_the_wal() {
    let site = Site::new();
    let app = App::open_with(site.database(), "PRAGMA auto_vacuum = INCREMENTAL");
    app.sell(2000, 1000);
    let daemon = site.daemon_with("checkpoint-interval: 200ms", "");
    for _ in 0..4 {
        app.execute("DELETE FROM item WHERE id % 3 = 0; PRAGMA incremental_vacuum");
        site.wait_until_caught_up(&app);
        app.sell(300, 1000);
    }
    site.wait_until_caught_up(&app);
    daemon.stop();
    site.assert_restores();
    site.history();
}

#[test]
fn it_is_vacuumed_while_a_daemon_runs() {
    let site = Site::new();
    let app = site.app_with_mebibytes(4);
    let daemon = site.daemon_with("checkpoint-interval: 200ms", "");
    site.wait_until_caught_up(&app);
    for _ in 0..2 {
        app.execute("DELETE FROM item WHERE id % 2 = 0; VACUUM");
        app.sell(100, 500);
        site.wait_until_caught_up(&app);
    }
    daemon.stop();
    site.assert_restores();
    assert_eq!(site.snapshots(), 1, "a VACUUM needs no image");
    site.history();
}

#[test]
fn lock_page_of_512_byte_pages() {
    crosses_the_lock_page(512);
}

#[test]
fn lock_page_of_4096_byte_pages() {
    crosses_the_lock_page(4096);
}

#[test]
fn lock_page_of_65536_byte_pages() {
    crosses_the_lock_page(65536);
}

/// A database that ends shortly before 1 GiB is replicated and grows beyond it, first under a daemon, then without one.
#[track_caller]
fn crosses_the_lock_page(page_size: u32) {
    let site = Site::new();
    let lock_page = (1 << 30) / page_size + 1;
    drop(App::open_with(site.database(), &format!("PRAGMA page_size = {page_size}")));
    grow_sparsely(&site.database(), page_size, lock_page - 3);
    let app = site.app();
    let daemon = site.daemon();
    wait_until("the first snapshot", 3 * SOON, || site.snapshots() == 1);
    app.sell(1, 4 * page_size);
    daemon.stop();
    let pages: u32 = app.query("PRAGMA page_count").parse().unwrap();
    assert!(pages > lock_page, "it did not grow over the lock page");

    app.sell(2, 4 * page_size);
    app.checkpoint("TRUNCATE");
    let before = site.captured();
    site.replicate_once();
    assert!(site.captured() - before < 2_000_000, "a full copy for two rows");
    assert_same_pages_or_rows(&site);
}

/// Appends pages of zeros that belong to nothing. SQLite does not mind them; only its integrity check would.
fn grow_sparsely(database: &Path, page_size: u32, pages: u32) {
    let file = File::options().write(true).open(database).unwrap();
    file.set_len(u64::from(pages) * u64::from(page_size)).unwrap();
    file.write_all_at(&pages.to_be_bytes(), 28).unwrap();
}

fn assert_same_pages_or_rows(site: &Site) {
    let restored = site.restore(&[]);
    if walstream().is_peer() {
        assert_eq!(rows(&site.database()), rows(&restored));
    } else {
        assert_same_pages(&site.database(), &restored);
    }
}
