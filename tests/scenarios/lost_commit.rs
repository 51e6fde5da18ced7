//! A commit that Litestream 0.5.17 loses without a word: it was made while the daemon was down, checkpointed into the
//! database, and its WAL frames were then overwritten only in part by a shorter commit.

use std::time::Duration;

use walstream_test_support::compare::{assert_same_pages, assert_same_rows};
use walstream_test_support::replica::{file_url, newest_txid};
use walstream_test_support::{App, wait_until};

use crate::walstream;

#[test]
fn a_commit_between_stop_and_start_survives_a_restarted_wal() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, restored) = (folder.path().join("replica"), folder.path().join("restored.db"));
    let url = file_url(&replica);
    let app = App::open(folder.path().join("shop.db"));
    app.sell(300, 500);

    let daemon = walstream().replicate(app.path(), &url).ready();
    wait_until("the replica has the start", Duration::from_secs(30), || newest_txid(&replica) > 0);
    app.sell(20, 500);
    daemon.stop();

    app.execute("UPDATE item SET name = 'while nobody looked' WHERE id = 7");
    let (busy, log, checkpointed) = app.checkpoint("PASSIVE");
    assert_eq!(
        (busy, log),
        (0, checkpointed),
        "the whole WAL is in the database, so the next commit restarts it"
    );
    app.execute("UPDATE setting SET value = -1 WHERE key = 'sold'");

    let daemon = walstream().replicate(app.path(), &url).ready();
    let before = newest_txid(&replica);
    app.sell(1, 10);
    wait_until("the replica goes on", Duration::from_secs(30), || newest_txid(&replica) > before);
    daemon.stop();

    walstream().restore(&url, &restored, &[]);
    assert_same_rows(app.path(), &restored);
    assert_same_pages(app.path(), &restored);
}
