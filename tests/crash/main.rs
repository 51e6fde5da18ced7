//! The daemon is killed again and again at random moments while the application writes on. Nothing that was committed
//! is lost, and every state that the replica lists is a sound database.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod traffic;

use std::path::Path;
use std::time::Duration;

use walstream_test_support::compare::{assert_same_pages, assert_same_rows, assert_sound};
use walstream_test_support::replica::{file_url, files_below, reachable_txids, txids};
use walstream_test_support::{App, Program, Running, Seed};

use traffic::Traffic;

const KILLS: u32 = 30;
const LONGEST_LIFE: Duration = Duration::from_millis(900);

fn walstream() -> Program {
    Program::walstream(env!("CARGO_BIN_EXE_walstream"))
}

/// Replicates often and checkpoints often, so that a kill has many moments to hit.
const HASTE: &str = "
    monitor-interval: 100ms
    checkpoint-interval: 200ms
    min-checkpoint-page-count: 60
";

/// Compacts, snapshots and deletes every few moments.
const QUICK_HISTORY: &str = "
levels: [{interval: 300ms}, {interval: 1s}]
snapshot: {interval: 2s, retention: 5s}
l0-retention: 1s
l0-retention-check-interval: 400ms
";

#[test]
fn thirty_kills_lose_nothing_and_every_listed_txid_restores() {
    let folder = tempfile::tempdir().unwrap();
    let replica = killed_again_and_again(folder.path(), "");
    let listed = txids(&replica);
    assert!(listed.len() >= 30, "the daemons shipped too little to prove anything: TXIDs {listed:?}");
    every_txid_restores(&listed, &replica);
}

#[test]
fn thirty_kills_amid_compaction_and_retention_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let replica = killed_again_and_again(folder.path(), QUICK_HISTORY);
    let reachable = reachable_txids(&replica);
    assert_eq!(reachable.last(), txids(&replica).last(), "nothing leads to the newest TXID");
    every_txid_restores(&reachable, &replica);
}

/// Thirty short lives of the daemon, then one with an orderly end; returns the replica.
fn killed_again_and_again(folder: &Path, global: &str) -> std::path::PathBuf {
    let mut seed = Seed::from_environment();
    let (database, replica, config) =
        (folder.join("shop.db"), folder.join("replica"), folder.join("config.yml"));
    let url = file_url(&replica);
    let dbs = format!(
        "dbs:\n  - path: {}{HASTE}    replica: {{url: '{url}', sync-interval: 100ms}}\n",
        database.display()
    );
    std::fs::write(&config, format!("{global}{dbs}")).unwrap();

    let traffic = Traffic::start(App::open(&database), seed.fork());
    for _ in 0..KILLS {
        let daemon = walstream().replicate_config(&config);
        std::thread::sleep(seed.pause_below(LONGEST_LIFE));
        daemon.kill_9();
        std::thread::sleep(seed.pause_below(LONGEST_LIFE / 10));
    }
    let app = traffic.stop();
    walstream().replicate_config(&config).ready().stop();

    let restored = folder.join("restored.db");
    walstream().restore(&url, &restored, &[]);
    assert_same_pages(app.path(), &restored);
    assert_same_rows(app.path(), &restored);
    replica
}

fn every_txid_restores(txids: &[u64], replica: &Path) {
    let output = replica.with_file_name("at-txid.db");
    for txid in txids {
        walstream().restore(&file_url(replica), &output, &["-force", "-txid", &format!("{txid:016x}")]);
        assert_sound(&output);
    }
}

/// The first snapshot is the largest single upload there is. Killed in the middle of it, nothing half done is visible,
/// and what the dead run left behind does not stay.
#[test]
fn kills_during_the_first_snapshot_leave_no_half_file_and_no_litter() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, restored) = (folder.path().join("replica"), folder.path().join("restored.db"));
    let url = file_url(&replica);
    let mut seed = Seed::from_environment();
    let app = App::open(folder.path().join("shop.db"));
    app.sell(40_000, 1000);
    let mut interrupted = 0;
    while interrupted < KILLS / 2 {
        let mut once = walstream().command(["replicate", "-once", app.path().to_str().unwrap(), &url]);
        let process = Running::start(&mut once);
        std::thread::sleep(seed.pause_below(Duration::from_millis(250)));
        process.kill_9();
        if reachable_txids(&replica).is_empty() {
            interrupted += 1;
        } else {
            walstream().restore(&url, &restored, &["-force"]);
            assert_same_pages(app.path(), &restored);
            std::fs::remove_dir_all(&replica).unwrap();
            std::fs::remove_dir_all(folder.path().join(".shop.db-litestream")).unwrap();
        }
    }
    walstream().replicate_once(app.path(), &url);
    walstream().restore(&url, &restored, &["-force"]);
    assert_same_pages(app.path(), &restored);
    let litter: Vec<_> =
        files_below(&replica).into_iter().filter(|file| file.extension() != Some("ltx".as_ref())).collect();
    assert!(litter.is_empty(), "left behind: {litter:?}");
}
