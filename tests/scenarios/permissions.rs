//! Daemon and application are of two users. Where the daemon may not do what replication needs: one clear error, and it is
//! tried again until it may. What a daemon of root's makes never keeps the application out.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use walstream_test_support::{AppProcess, Daemon, Running, Stranger, wait_until};

use crate::site::{SOON, Site};
use crate::walstream;

/// A daemon of a user who owns nothing but the replica's folder.
fn daemon_of(stranger: Stranger, site: &Site) -> Daemon {
    fs::create_dir(site.replica()).unwrap();
    stranger.owns(&site.replica());
    let (database, url) = (site.database(), site.url());
    let mut command = walstream().command(["replicate".as_ref(), database.as_os_str(), url.as_ref()]);
    stranger.runs(&mut command);
    Daemon { process: Running::start(&mut command) }.ready()
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The daemon may not work at first; `permit` changes that.
#[track_caller]
fn waits_for_permission(site: &Site, words: &[&str], permit: impl FnOnce()) {
    let app = site.app();
    app.sell(10, 100);
    let Some(stranger) = Stranger::meet() else { return };
    let mut daemon = daemon_of(stranger, site);
    std::thread::sleep(Duration::from_secs(4));
    app.sell(1, 100);
    let said = daemon.process.stdout();
    let errors: Vec<_> = said.lines().filter(|line| line.contains("level=ERROR")).collect();
    if !walstream().is_peer() {
        assert_eq!(errors.len(), 1, "{said}");
        words.iter().for_each(|word| assert!(errors[0].contains(word), "{word} is missing in {said}"));
    }
    permit();
    if !walstream().is_peer() {
        daemon.process.wait_for_output("database opened", 2 * SOON);
    }
    site.wait_until_caught_up(&app);
    app.sell(1, 100);
    site.wait_until_caught_up(&app);
    daemon.stop();
    site.assert_restores();
}

#[test]
fn a_folder_that_is_closed() {
    let site = Site::new();
    let folder = site.path("");
    let open_all = || {
        allow(&folder, 0o777);
        ["shop.db", "shop.db-wal", "shop.db-shm"].iter().for_each(|name| allow(&site.path(name), 0o666));
    };
    waits_for_permission(&site, &["shop.db", "ermission denied"], open_all);
}

#[test]
fn a_folder_that_is_read_only() {
    let site = Site::new();
    let folder = site.path("");
    allow(&folder, 0o755);
    let open_all = || {
        allow(&folder, 0o777);
        ["shop.db", "shop.db-wal", "shop.db-shm"].iter().for_each(|name| allow(&site.path(name), 0o666));
    };
    waits_for_permission(&site, &["shop.db", "ermission denied"], open_all);
}

#[test]
fn a_database_of_another_owner() {
    let site = Site::new();
    allow(&site.path(""), 0o777);
    let open_all =
        || ["shop.db", "shop.db-wal", "shop.db-shm"].iter().for_each(|name| allow(&site.path(name), 0o666));
    waits_for_permission(&site, &["shop.db", "may not write to it"], open_all);
}

/// SQLite gives files that root makes to the owner of the database; so does walstream.
#[test]
fn a_daemon_of_root_keeps_no_application_out() {
    let Some(stranger) = Stranger::meet() else { return };
    let site = Site::new();
    allow(&site.path(""), 0o755);
    stranger.owns(&site.path(""));
    let mut app = AppProcess::open_as(stranger, &site.database());
    app.execute("PRAGMA journal_mode = WAL; CREATE TABLE item(name)");
    app.close();
    assert!(!site.path("shop.db-wal").exists());

    let daemon = site.daemon();
    wait_until("the first snapshot", SOON, || site.newest_txid() > 0);
    let mut app = AppProcess::open_as(stranger, &site.database());
    for n in 0..20 {
        app.execute(&format!("INSERT INTO item VALUES ('sold {n}'); PRAGMA wal_checkpoint(PASSIVE)"));
    }
    daemon.stop();
    app.execute("INSERT INTO item VALUES ('alone again'); PRAGMA wal_checkpoint(TRUNCATE)");
    site.replicate_once();
    app.execute("INSERT INTO item VALUES ('after all')");
    site.replicate_once();
    site.assert_restores();
}
