//! A commit after a pause is on the replica at once, not at the next slow look at a database that seemed idle.

use std::time::Duration;

use walstream_test_support::App;
use walstream_test_support::replica::{file_url, newest_txid};
use walstream_test_support::wait_until;

use crate::walstream;

/// The file-system event comes with the write to the WAL; with `synchronous = FULL` the commit is published only after
/// an fsync. Whoever looks once, at the event, misses it.
#[test]
fn a_commit_is_not_missed_because_its_event_came_before_it_was_published() {
    let folder = tempfile::tempdir().unwrap();
    let replica = folder.path().join("replica");
    let app = App::open(folder.path().join("shop.db"));
    app.execute("PRAGMA synchronous = FULL");
    let daemon = walstream().replicate(app.path(), &file_url(&replica)).ready();
    for _ in 0..5 {
        // A pause longer than a database counts as busy after a change.
        std::thread::sleep(Duration::from_millis(1500));
        let before = newest_txid(&replica);
        app.sell(1, 100);
        wait_until("the commit on the replica", Duration::from_secs(5), || newest_txid(&replica) > before);
    }
    daemon.stop();
}
