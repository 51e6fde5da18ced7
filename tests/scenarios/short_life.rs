//! A daemon that is stopped soon after its first start has still done its work.

use std::time::Duration;

use walstream_test_support::App;
use walstream_test_support::compare::{assert_same_pages, assert_sound};
use walstream_test_support::replica::{file_url, ltx_files, newest_txid, txids};
use walstream_test_support::wait_until;

use crate::walstream;

#[test]
fn stopped_soon_after_its_first_start_it_leaves_a_replica_that_restores() {
    for life_ms in [0, 5, 20, 100, 400] {
        let folder = tempfile::tempdir().unwrap();
        let (url, restored) = (file_url(&folder.path().join("replica")), folder.path().join("restored.db"));
        let app = App::open(folder.path().join("shop.db"));
        app.sell(8000, 1000);
        let daemon = walstream().replicate(app.path(), &url).ready();
        std::thread::sleep(Duration::from_millis(life_ms));
        app.sell(1, 10);
        daemon.stop();
        walstream().restore(&url, &restored, &[]);
        assert_same_pages(app.path(), &restored);
    }
}

#[test]
fn a_new_replica_gets_one_snapshot_and_not_another_with_the_first_commit() {
    let folder = tempfile::tempdir().unwrap();
    let replica = folder.path().join("replica");
    let app = App::open(folder.path().join("shop.db"));
    let daemon = walstream().replicate(app.path(), &file_url(&replica)).ready();
    let deadline = Duration::from_secs(20);
    wait_until("the first snapshot", deadline, || !ltx_files(&replica, 9).is_empty());
    for _ in 0..2 {
        let before = newest_txid(&replica);
        app.sell(1, 10);
        wait_until("the commit on the replica", deadline, || newest_txid(&replica) > before);
    }
    daemon.stop();
    assert_eq!(ltx_files(&replica, 9).len(), 1);
}

#[test]
fn a_replica_that_lost_everything_begins_anew_and_lists_nothing_that_cannot_be_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, restored) = (folder.path().join("replica"), folder.path().join("restored.db"));
    let url = file_url(&replica);
    let app = App::open(folder.path().join("shop.db"));
    let daemon = walstream().replicate(app.path(), &url).ready();
    for _ in 0..3 {
        let before = newest_txid(&replica);
        app.sell(1, 10);
        wait_until("the commit on the replica", Duration::from_secs(20), || newest_txid(&replica) > before);
    }
    daemon.stop();
    assert!(
        ltx_files(&folder.path().join(".shop.db-litestream"), 0).len() > 2,
        "local files wait to be uploaded"
    );
    std::fs::remove_dir_all(&replica).unwrap();

    walstream().replicate(app.path(), &url).ready().stop();
    for txid in txids(&replica) {
        walstream().restore(&url, &restored, &["-force", "-txid", &format!("{txid:016x}")]);
    }
    walstream().restore(&url, &restored, &["-force"]);
    assert_same_pages(app.path(), &restored);
}

#[test]
fn what_is_shipped_while_the_first_snapshot_is_under_way_restores_too() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, restored) = (folder.path().join("replica"), folder.path().join("restored.db"));
    let url = file_url(&replica);
    let app = App::open(folder.path().join("shop.db"));
    app.sell(60_000, 1000);
    let daemon = walstream().replicate(app.path(), &url).ready();
    wait_until("the first snapshot", Duration::from_secs(60), || {
        app.sell(1, 10);
        !ltx_files(&replica, 9).is_empty()
    });
    daemon.stop();
    for txid in txids(&replica) {
        walstream().restore(&url, &restored, &["-force", "-txid", &format!("{txid:016x}")]);
        assert_sound(&restored);
    }
}
