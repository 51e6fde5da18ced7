//! A database that is not in WAL mode: the mode is set and logged. Where the application forbids that for a while, one
//! clear error says so, and it is tried again until it works.

use std::time::Duration;

use walstream_test_support::{AppProcess, Running, wait_until};

use crate::site::{SOON, Site};
use crate::walstream;

/// A database in rollback mode with one row, and the application that has it open.
fn in_rollback_mode(site: &Site) -> AppProcess {
    let mut app = AppProcess::open(&site.database());
    app.execute("CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT); INSERT INTO item VALUES (1, 'first')");
    app
}

fn lines_with<'a>(said: &'a str, word: &str) -> Vec<&'a str> {
    said.lines().filter(|line| line.contains(word)).collect()
}

#[test]
fn an_idle_application_in_rollback_mode() {
    let site = Site::new();
    let mut app = in_rollback_mode(&site);
    let mut daemon = site.daemon();
    if !walstream().is_peer() {
        daemon.process.wait_for_output("journal mode set to WAL", SOON);
    }
    wait_until("the first snapshot", SOON, || site.newest_txid() > 0);
    // A connection learns of the new mode when it reads again.
    app.execute("INSERT INTO item VALUES (2, 'second')");
    assert_eq!(app.execute("PRAGMA journal_mode"), "wal");
    app.close();
    daemon.stop();
    site.assert_restores();
}

/// `hold` keeps the mode from being changed, `release` ends that.
#[track_caller]
fn waits_for(hold: &str, release: &str) {
    let site = Site::new();
    let mut app = in_rollback_mode(&site);
    app.execute(hold);
    let mut daemon = walstream().replicate(&site.database(), &site.url()).ready();
    std::thread::sleep(Duration::from_secs(4));
    let said = said(&daemon.process);
    let errors = lines_with(&said, "level=ERROR");
    assert_eq!(errors.len(), 1, "{said}");
    assert!(errors[0].contains("shop.db"), "{said}");
    if !walstream().is_peer() {
        assert!(errors[0].contains("its journal mode is not WAL"), "{said}");
    }

    app.execute(release);
    app.execute("INSERT INTO item(name) VALUES ('last')");
    if !walstream().is_peer() {
        daemon.process.wait_for_output("database opened", 2 * SOON);
    }
    wait_until("the first snapshot", 2 * SOON, || site.newest_txid() > 0);
    app.execute("INSERT INTO item(name) VALUES ('very last')");
    daemon.stop();
    site.assert_restores();
    app.close();
}

fn said(process: &Running) -> String {
    process.stdout() + &process.stderr()
}

#[test]
fn an_application_with_an_open_read_transaction() {
    waits_for("BEGIN; SELECT count(*) FROM item", "COMMIT");
}

#[test]
fn an_application_with_an_open_write_transaction() {
    waits_for("BEGIN IMMEDIATE; INSERT INTO item VALUES (5, 'open')", "COMMIT");
}

#[test]
fn an_application_that_wants_the_database_for_itself() {
    waits_for(
        "PRAGMA locking_mode = EXCLUSIVE; INSERT INTO item VALUES (6, 'alone')",
        "PRAGMA locking_mode = NORMAL; SELECT count(*) FROM item",
    );
}
