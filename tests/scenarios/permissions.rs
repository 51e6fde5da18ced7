//! A daemon of another user, who may not do what replication needs: one clear error, tried again until it may.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use walstream_test_support::{Daemon, Running};

use crate::site::{SOON, Site};
use crate::walstream;

const STRANGER: u32 = 65534;

/// A daemon of a user who owns nothing, with the replica in a folder of its own. Only root can start it.
fn daemon_of_a_stranger(site: &Site) -> Option<Daemon> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TESTED: another user. Run the tests as root, who may start a daemon as somebody else");
        return None;
    }
    fs::create_dir(site.replica()).unwrap();
    chown(site.replica(), Some(STRANGER), Some(STRANGER)).unwrap();
    let (database, url) = (site.database(), site.url());
    let mut command = walstream().command(["replicate".as_ref(), database.as_os_str(), url.as_ref()]);
    command.uid(STRANGER).gid(STRANGER);
    Some(Daemon { process: Running::start(&mut command) }.ready())
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The daemon may not work at first; `permit` changes that.
#[track_caller]
fn waits_for_permission(site: &Site, words: &[&str], permit: impl FnOnce()) {
    let app = site.app();
    app.sell(10, 100);
    let Some(mut daemon) = daemon_of_a_stranger(site) else { return };
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
