//! The database is replaced while it is being replicated. That is noticed within a second; what differs is the next TXID,
//! and what was before stays restorable.

use std::fs;
use std::time::Duration;

use walstream_test_support::{App, wait_until};

use crate::site::{SOON, Site};
use crate::walstream;

/// A second, and as much again for a busy machine.
const NOTICED: Duration = Duration::from_secs(2);

/// The database of a running daemon is exchanged by `replace`, which returns the application that uses it then.
#[track_caller]
fn goes_on_after(replace: impl FnOnce(&Site, App) -> App) {
    let site = Site::new();
    let app = site.app_with_mebibytes(2);
    let mut daemon = site.daemon();
    site.wait_until_caught_up(&app);
    app.sell(1, 100);
    site.wait_until_caught_up(&app);
    let (history, newest) = (site.history(), site.newest_txid());

    let app = replace(&site, app);
    if !walstream().is_peer() {
        daemon.process.wait_for_output("database is opened anew", NOTICED);
    }
    // The peer may take its time.
    let noticed = if walstream().is_peer() { SOON } else { NOTICED };
    wait_until("the new database is on the replica", noticed, || site.newest_txid() > newest);
    site.wait_until_caught_up(&app);
    app.sell(1, 100);
    site.wait_until_caught_up(&app);
    daemon.stop();
    site.assert_restores();
    site.assert_keeps(&history);
}

/// A database of another life, complete in its file, beside the present one.
fn another_database(site: &Site) -> std::path::PathBuf {
    let path = site.path("other.db");
    let other = App::open(&path);
    other.sell(300, 500);
    other.execute("CREATE TABLE other(x)");
    drop(other);
    path
}

#[test]
fn by_a_rename() {
    goes_on_after(|site, app| {
        let other = another_database(site);
        drop(app);
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(site.path(&format!("shop.db{suffix}")));
        }
        fs::rename(other, site.database()).unwrap();
        site.app()
    });
}

#[test]
fn by_a_new_one_after_it_was_deleted() {
    goes_on_after(|site, app| {
        drop(app);
        site.remove_database();
        let app = site.app();
        app.sell(10, 100);
        app
    });
}

#[test]
fn by_a_new_one_some_time_after_it_was_deleted() {
    goes_on_after(|site, app| {
        drop(app);
        site.remove_database();
        std::thread::sleep(Duration::from_secs(2));
        let app = site.app();
        app.sell(10, 100);
        app
    });
}

#[test]
fn by_an_earlier_state_from_the_replica() {
    goes_on_after(|site, app| {
        drop(app);
        let first = format!("{:016x}", site.history().first_key_value().unwrap().0);
        let database = site.database();
        walstream().restore(&site.url(), &database, &["-force", "-txid", &first]);
        site.app()
    });
}

/// `cp` writes into the file that is there, so that it stays the same file.
#[test]
fn by_a_copy_into_the_same_file() {
    goes_on_after(|site, app| {
        let other = another_database(site);
        drop(app);
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(site.path(&format!("shop.db{suffix}")));
        }
        let copied = std::process::Command::new("cp").arg(other).arg(site.database()).status().unwrap();
        assert!(copied.success());
        site.app()
    });
}

#[test]
fn by_a_copy_of_the_same_content() {
    let site = Site::new();
    let app = site.app_with_mebibytes(2);
    let mut daemon = site.daemon();
    site.wait_until_caught_up(&app);
    app.checkpoint("PASSIVE");
    drop(app);
    let before = site.captured();
    let copy = site.copy(&["shop.db", "shop.db-wal"]);
    site.set_back(&copy);
    if !walstream().is_peer() {
        daemon.process.wait_for_output("database is opened anew", NOTICED);
    }
    let app = site.app();
    app.sell(1, 100);
    site.wait_until_caught_up(&app);
    daemon.stop();
    assert!(site.captured() - before < 200_000, "{} bytes for one row", site.captured() - before);
    site.assert_restores();
}
