//! A disk that runs full: one sentence, nothing half done, and work goes on once there is room.

use std::fs;
use std::time::Duration;

use walstream_test_support::compare::{assert_same_pages, assert_same_rows};
use walstream_test_support::replica::{file_url, newest_txid};
use walstream_test_support::{App, SmallDisk, wait_until};

use crate::refusal::assert_refused;
use crate::site::Site;
use crate::walstream;

const NO_SPACE: &str = "no space left on device";

#[test]
fn restoring_onto_a_full_disk_leaves_nothing_behind() {
    let Some(disk) = SmallDisk::mount(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = file_url(&folder.path().join("replica"));
    let app = App::open(folder.path().join("shop.db"));
    app.sell(8000, 1000);
    walstream().replicate_once(app.path(), &url);

    let restored = disk.join("restored.db");
    assert_refused(&walstream().try_restore(&url, &restored, &[]), &["restored.db", NO_SPACE]);
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0, "left behind");
    disk.resize(32);
    walstream().restore(&url, &restored, &[]);
    assert_same_pages(app.path(), &restored);
}

#[test]
fn replicating_onto_a_full_disk_goes_on_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = file_url(&disk.join("replica"));
    let app = App::open(folder.path().join("shop.db"));
    app.sell(8000, 1000);
    let finished = walstream().run(["replicate", "-once", app.path().to_str().unwrap(), &url]);
    assert_refused(&finished, &[NO_SPACE]);
    assert_eq!(newest_txid(&disk.join("replica")), 0, "half a file is visible");

    let daemon = walstream().replicate(app.path(), &url).ready();
    app.sell(5, 100);
    disk.resize(64);
    let restored = folder.path().join("restored.db");
    wait_until("the replica can be restored", Duration::from_secs(60), || {
        walstream().try_restore(&url, &restored, &["-force"]).status.success()
    });
    daemon.stop();
    walstream().restore(&url, &restored, &["-force"]);
    assert_same_rows(app.path(), &restored);
}

#[test]
fn local_state_on_a_full_disk_goes_on_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(2) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (config, replica) = (folder.path().join("config.yml"), folder.path().join("replica"));
    let app = App::open(folder.path().join("shop.db"));
    app.sell(8000, 1000);
    let (database, meta, url) = (app.path().display(), disk.join("meta"), file_url(&replica));
    let dbs =
        format!("dbs: [{{path: {database}, meta-path: {}, replica: {{url: '{url}'}}}}]", meta.display());
    fs::write(&config, dbs).unwrap();
    disk.fill();
    let once = ["replicate", "-once", "-config", config.to_str().unwrap()];
    assert_refused(&walstream().run(once), &[NO_SPACE]);

    disk.resize(64);
    walstream().run(once).success();
    let restored = folder.path().join("restored.db");
    walstream().restore(&url, &restored, &[]);
    assert_same_pages(app.path(), &restored);
}

/// The local disk runs full under a running daemon. It says so, the application and what is captured already are not
/// concerned, and it goes on by itself.
#[test]
fn a_disk_that_runs_full_under_a_daemon_is_reported_and_survived() {
    let Some(disk) = SmallDisk::mount(4) else { return };
    let site = Site::new();
    let app = site.app();
    app.sell(3000, 1000);
    // The replica is on a disk with room, and so is the database.
    let mut daemon = site.daemon_with(&format!("meta-path: {}", disk.join("meta").display()), "");
    site.wait_until_caught_up(&app);
    app.sell(10, 100);
    site.wait_until_caught_up(&app);

    disk.fill();
    app.sell(100, 10_000);
    daemon.process.wait_for_output("o space left on device", Duration::from_secs(5));
    for _ in 0..20 {
        app.sell(1, 100);
    }
    site.restore(&[]);
    disk.resize(64);
    site.wait_until_caught_up(&app);
    daemon.process.wait_for_output("sync recovered", Duration::from_secs(5));
    let said = daemon.stop();
    assert_eq!(said.stdout.lines().filter(|line| line.contains("level=ERROR")).count(), 1, "{}", said.stdout);
    assert_eq!(site.snapshots(), 1, "a needless image");
    site.assert_restores();
}

#[test]
fn the_first_snapshot_needs_no_local_copy() {
    let Some(disk) = SmallDisk::mount(1) else { return };
    let site = Site::new();
    let app = site.app_with_mebibytes(8);
    let daemon = site.daemon_with(&format!("meta-path: {}", disk.join("meta").display()), "");
    site.wait_until_caught_up(&app);
    daemon.stop();
    site.assert_restores();
}
