//! The application holds locks. Whatever the daemon cannot do meanwhile it does later, says little about it, and the
//! application never sees an error.

use std::time::Duration;

use walstream_test_support::{App, AppProcess};

use crate::site::{SOON, Site};
use crate::walstream;

const HASTE: &str = "checkpoint-interval: 100ms, min-checkpoint-page-count: 10, busy-timeout: 100ms";

fn errors(said: &str) -> usize {
    said.lines().filter(|line| line.contains("level=ERROR")).count()
}

#[test]
fn exclusive_transactions_without_pause() {
    let site = Site::new();
    let app = site.app();
    let daemon = site.daemon_with(HASTE, "");
    for _ in 0..8 {
        app.execute("BEGIN EXCLUSIVE; INSERT INTO item(name, body) VALUES ('slow', randomblob(20000))");
        std::thread::sleep(Duration::from_millis(300));
        app.execute("COMMIT");
    }
    site.wait_until_caught_up(&app);
    let said = daemon.stop();
    assert_eq!(errors(&said.stdout), 0, "{}", said.stdout);
    site.assert_restores();
}

#[test]
fn changes_of_the_schema() {
    let site = Site::new();
    let app = site.app();
    let daemon = site.daemon_with(HASTE, "");
    for n in 0..30 {
        app.execute(&format!(
            "CREATE TABLE passing{n}(x); ALTER TABLE item ADD COLUMN extra{n}; DROP TABLE passing{n}"
        ));
        std::thread::sleep(Duration::from_millis(30));
    }
    site.wait_until_caught_up(&app);
    let said = daemon.stop();
    assert_eq!(errors(&said.stdout), 0, "{}", said.stdout);
    site.assert_restores();
}

/// A writer that waits for nobody would be refused while somebody else writes; with a timeout it never is.
#[test]
fn many_small_commits_beside_frequent_checkpoints() {
    let site = Site::new();
    let app = site.app();
    app.connection().busy_timeout(Duration::from_secs(2)).unwrap();
    let daemon = site.daemon_with(HASTE, "");
    for _ in 0..1500 {
        app.sell(1, 100);
    }
    site.wait_until_caught_up(&app);
    daemon.stop();
    site.assert_restores();
}

/// An application in exclusive locking mode lets nobody in, not even to read.
#[test]
fn an_application_that_lets_nobody_in() {
    let site = Site::new();
    drop(site.app());
    let mut app = AppProcess::open(&site.database());
    app.execute("PRAGMA locking_mode = EXCLUSIVE; INSERT INTO item(name) VALUES ('alone')");
    let mut daemon = site.daemon();
    std::thread::sleep(Duration::from_secs(5));
    app.execute("INSERT INTO item(name) VALUES ('still alone')");
    let said = daemon.process.stdout();
    if !walstream().is_peer() {
        assert_eq!(errors(&said), 1, "{said}");
        assert!(said.contains("shop.db: another process has locked it for itself"), "{said}");
    }
    app.close();
    let app = App::open(site.database());
    if !walstream().is_peer() {
        daemon.process.wait_for_output("database opened", 2 * SOON);
    }
    site.wait_until_caught_up(&app);
    daemon.stop();
    site.assert_restores();
}
