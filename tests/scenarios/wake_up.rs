//! A commit after a pause is on the replica at once, not at the next slow look at a database that seemed idle. And one
//! that is idle is left alone.

use std::fs;
use std::time::Duration;

use walstream_test_support::replica::{file_url, newest_txid};
use walstream_test_support::{App, Daemon, wait_until};

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

/// How often its threads have gone to sleep, and so, how often they were awake.
fn naps(daemon: &Daemon) -> u64 {
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.process.id())).unwrap();
    let of_thread = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    // A thread may end while they are looked at.
    threads
        .filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).ok())
        .map(of_thread)
        .sum()
}

/// Whether its checkpoint is due is asked only when there is something to checkpoint.
#[test]
fn an_idle_database_that_its_application_has_checkpointed_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, config) = (folder.path().join("replica"), folder.path().join("litestream.yml"));
    let app = App::open(folder.path().join("shop.db"));
    let entry = format!(
        "path: {}, checkpoint-interval: 1s, replica: {{path: {}}}",
        app.path().display(),
        replica.display()
    );
    fs::write(&config, format!("dbs: [{{{entry}}}]")).unwrap();
    app.sell(10, 100);
    app.checkpoint("PASSIVE");
    let daemon = walstream().replicate_config(&config).ready();
    wait_until("the database is replicated", Duration::from_secs(30), || newest_txid(&replica) > 0);
    // Until it counts as idle and the checkpoint would be due.
    std::thread::sleep(Duration::from_secs(3));
    let before = naps(&daemon);
    std::thread::sleep(Duration::from_secs(2));
    let naps = naps(&daemon) - before;
    assert!(naps < 200, "{naps} times awake in two seconds");
    daemon.stop();
}
