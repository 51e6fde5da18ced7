//! The application checkpoints as it likes, or not at all, and reads for a long time. Nothing is lost, and nothing but
//! changes is uploaded.

use std::time::Duration;

use rusqlite::Connection;
use walstream_test_support::{App, wait_until};

use crate::site::{SOON, Site};

/// Checkpoints of the daemon's own, more often than any user has them.
const HASTE: &str = "checkpoint-interval: 300ms, min-checkpoint-page-count: 100";

/// `trade` runs beside a daemon, on a database of 4 MiB. Uploaded is, beside the first snapshot, no more than `limit`.
#[track_caller]
fn uploads_only_changes(limit: u64, trade: impl FnOnce(&Site, &App)) {
    let site = Site::new();
    let app = site.app_with_mebibytes(4);
    // What walstream's read lock forbids, the application gives up after this time, as after any other reader's.
    app.connection().busy_timeout(Duration::from_millis(200)).unwrap();
    let daemon = site.daemon_with(HASTE, "");
    wait_until("the first snapshot", SOON, || site.snapshots() == 1);
    site.wait_until_caught_up(&app);
    let before = site.captured();
    trade(&site, &app);
    site.wait_until_caught_up(&app);
    let said = daemon.stop();
    assert!(!said.stdout.contains("comparing all pages"), "{}", said.stdout);
    assert_eq!(site.snapshots(), 1, "a needless image");
    let shipped = site.captured() - before;
    assert!(shipped < limit, "{shipped} bytes");
    site.assert_restores();
    site.history();
}

fn trade(app: &App, commits: u32) {
    for _ in 0..commits {
        app.sell(1, 200);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn its_automatic_checkpoints() {
    uploads_only_changes(3 << 20, |_, app| {
        app.execute("PRAGMA wal_autocheckpoint = 20");
        trade(app, 300);
    });
}

#[test]
fn no_checkpoints_of_its_own() {
    uploads_only_changes(3 << 20, |_, app| {
        app.execute("PRAGMA wal_autocheckpoint = 0");
        trade(app, 300);
    });
}

fn checkpoints_by_itself(mode: &str) {
    uploads_only_changes(3 << 20, |_, app| {
        for _ in 0..15 {
            trade(app, 5);
            app.checkpoint(mode);
        }
    });
}

#[test]
fn its_passive_checkpoints() {
    checkpoints_by_itself("PASSIVE");
}

#[test]
fn its_full_checkpoints() {
    checkpoints_by_itself("FULL");
}

#[test]
fn its_restart_checkpoints() {
    checkpoints_by_itself("RESTART");
}

#[test]
fn its_truncating_checkpoints() {
    checkpoints_by_itself("TRUNCATE");
}

#[test]
fn a_reader_that_stays() {
    uploads_only_changes(3 << 20, |site, app| {
        let reader = Connection::open(site.database()).unwrap();
        reader.execute_batch("BEGIN").unwrap();
        let count = || reader.query_row("SELECT count(*) FROM item", [], |row| row.get::<_, i64>(0)).unwrap();
        let at_first = count();
        trade(app, 200);
        assert_eq!(count(), at_first, "a reader sees what it saw");
        reader.execute_batch("COMMIT").unwrap();
        trade(app, 50);
    });
}

/// The same commit again and again, with a checkpoint after each: every generation of the WAL has the same length.
#[test]
fn a_wal_that_is_rewritten_at_the_same_size() {
    uploads_only_changes(1 << 20, |site, app| {
        for n in 0..8 {
            app.execute(&format!("UPDATE setting SET value = {n} WHERE key = 'sold'"));
            site.wait_until_caught_up(app);
            std::thread::sleep(Duration::from_millis(400));
        }
    });
}

/// A checkpoint that waits for readers waits for the daemon no longer than until the next capture.
#[track_caller]
fn complete_beside_a_daemon(mode: &str) {
    let site = Site::new();
    let app = site.app();
    app.connection().busy_timeout(SOON).unwrap();
    let daemon = site.daemon();
    site.wait_until_caught_up(&app);
    for _ in 0..4 {
        app.sell(2, 500);
        let (busy, log, checkpointed) = app.checkpoint(mode);
        assert_eq!((busy, log), (0, checkpointed), "the checkpoint gave up");
        // Nothing is left to copy, so that it restarts an empty WAL.
        app.checkpoint(mode);
    }
    site.wait_until_caught_up(&app);
    let said = daemon.stop();
    assert!(!said.stdout.contains("comparing all pages"), "{}", said.stdout);
    site.assert_restores();
}

/// A connection that writes after another one has restarted the WAL gives it salts that do not follow from the last.
#[test]
fn its_checkpoints_on_a_second_connection() {
    uploads_only_changes(3 << 20, |_, app| {
        app.connection().busy_timeout(SOON).unwrap();
        let second = App::open(app.path());
        for mode in ["TRUNCATE", "RESTART", "TRUNCATE"] {
            trade(app, 3);
            assert_eq!(second.checkpoint(mode).0, 0, "the checkpoint gave up");
            trade(app, 1);
            std::thread::sleep(Duration::from_millis(300));
        }
    });
}

#[test]
fn its_full_checkpoints_complete() {
    complete_beside_a_daemon("FULL");
}

#[test]
fn its_restart_checkpoints_complete() {
    complete_beside_a_daemon("RESTART");
}

#[test]
fn its_truncating_checkpoints_complete() {
    complete_beside_a_daemon("TRUNCATE");
}
