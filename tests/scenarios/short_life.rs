//! A daemon that is stopped soon after its first start has still done its work.

use std::time::Duration;

use walstream_test_support::App;
use walstream_test_support::compare::assert_same_pages;
use walstream_test_support::replica::{file_url, ltx_files, newest_txid};
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
