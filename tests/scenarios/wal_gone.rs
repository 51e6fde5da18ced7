//! The application commits and checkpoints while no daemon runs, so that the WAL which the daemon knew is gone, restarted
//! or partly overwritten. Nothing is lost, and what is uploaded is proportional to what changed.

use std::fs;

use walstream_test_support::App;
use walstream_test_support::compare::with_suffix;

use crate::site::Site;

/// A database of 8 MiB is replicated by a daemon that then stops; `meanwhile` happens; the next daemon catches up.
#[track_caller]
fn costs_little(meanwhile: impl FnOnce(App) -> App) {
    let site = Site::new();
    let app = site.app_with_mebibytes(8);
    let daemon = site.daemon();
    site.wait_until_caught_up(&app);
    app.sell(50, 1000);
    daemon.stop();
    let (before, history) = (site.captured(), site.history());

    let app = meanwhile(app);
    let daemon = site.daemon();
    site.wait_until_caught_up(&app);
    app.sell(1, 10);
    site.wait_until_caught_up(&app);
    daemon.stop();
    site.assert_restores();
    site.assert_keeps(&history);
    let shipped = site.captured() - before;
    assert!(shipped < 1 << 20, "{shipped} bytes for some rows");
    assert_eq!(site.snapshots(), 1, "a needless image");
}

/// Changes ten rows all over the database, checkpoints, and perhaps writes less into the WAL than was there.
fn change_and_checkpoint(mode: &'static str, go_on: bool) -> impl FnOnce(App) -> App {
    move |app| {
        app.execute("UPDATE item SET name = name || '?' WHERE id % 800 = 5");
        app.checkpoint(mode);
        if go_on {
            app.execute("UPDATE setting SET value = -1 WHERE key = 'sold'");
        }
        app
    }
}

#[test]
fn a_passive_checkpoint() {
    costs_little(change_and_checkpoint("PASSIVE", false));
    costs_little(change_and_checkpoint("PASSIVE", true));
}

#[test]
fn a_full_checkpoint() {
    costs_little(change_and_checkpoint("FULL", false));
    costs_little(change_and_checkpoint("FULL", true));
}

#[test]
fn a_restart_checkpoint() {
    costs_little(change_and_checkpoint("RESTART", false));
    costs_little(change_and_checkpoint("RESTART", true));
}

#[test]
fn a_truncating_checkpoint() {
    costs_little(change_and_checkpoint("TRUNCATE", false));
    costs_little(change_and_checkpoint("TRUNCATE", true));
}

#[test]
fn several_generations_of_the_wal() {
    costs_little(|app| {
        for _ in 0..5 {
            app.sell(3, 100);
            app.checkpoint("RESTART");
        }
        app
    });
}

#[test]
fn the_application_ends_and_its_wal_with_it() {
    costs_little(|app| {
        app.execute("UPDATE item SET name = name || '?' WHERE id % 800 = 5");
        let path = app.path().to_owned();
        drop(app);
        assert!(!with_suffix(&path, "-wal").exists(), "SQLite removes the WAL with the last connection");
        App::open(path)
    });
}

#[test]
fn an_empty_wal_is_removed_by_hand() {
    costs_little(|app| {
        app.execute("UPDATE item SET name = name || '?' WHERE id % 800 = 5");
        let path = app.path().to_owned();
        app.execute("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE");
        drop(app);
        ["-wal", "-shm"].iter().for_each(|suffix| drop(fs::remove_file(with_suffix(&path, suffix))));
        App::open(path)
    });
}
