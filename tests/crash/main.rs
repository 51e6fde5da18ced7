//! The daemon is killed again and again at random moments while the application writes on. Nothing that was committed
//! is lost, and every state that the replica lists is a sound database.
//!
//! `WALSTREAM_TEST_KILLS` sets how often, for a longer run: `WALSTREAM_TEST_KILLS=100 cargo nextest run -E 'binary(crash)'`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod traffic;

use std::path::Path;
use std::time::Duration;

use walstream_test_support::compare::{assert_same_pages, assert_same_rows, assert_sound};
use walstream_test_support::replica::{file_url, files, files_below, reachable_txids};
use walstream_test_support::{App, Place, Program, Running, Seed};

use traffic::Traffic;

/// How often the daemon is killed in each test, unless the environment says otherwise.
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

fn kills() -> u32 {
    std::env::var("WALSTREAM_TEST_KILLS").map_or(KILLS, |text| text.parse().expect("a number of kills"))
}

#[test]
fn kills_lose_nothing_and_every_listed_txid_restores() {
    let folder = tempfile::tempdir().unwrap();
    every_listed_txid_survives(folder.path(), &Place::directory(folder.path()));
}

#[test]
fn kills_beside_a_bucket_lose_nothing_and_every_listed_txid_restores_on_moto() {
    let folder = tempfile::tempdir().unwrap();
    every_listed_txid_survives(folder.path(), &Place::s3());
}

fn every_listed_txid_survives(folder: &Path, replica: &Place) {
    killed_again_and_again(folder, replica, "");
    let listed = replica.txids();
    assert!(
        listed.len() >= kills() as usize / 2,
        "the daemons shipped too little to prove anything: TXIDs {listed:?}"
    );
    every_txid_restores(&listed, folder, replica);
}

#[test]
fn kills_amid_compaction_and_retention_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    every_reachable_txid_survives(folder.path(), &Place::directory(folder.path()));
}

#[test]
fn kills_amid_compaction_and_retention_beside_a_bucket_lose_nothing_on_moto() {
    let folder = tempfile::tempdir().unwrap();
    every_reachable_txid_survives(folder.path(), &Place::s3());
}

fn every_reachable_txid_survives(folder: &Path, replica: &Place) {
    killed_again_and_again(folder, replica, QUICK_HISTORY);
    let reachable = reachable_txids(&replica.files());
    assert_eq!(reachable.last(), replica.txids().last(), "nothing leads to the newest TXID");
    every_txid_restores(&reachable, folder, replica);
}

/// Many short lives of the daemon, then one with an orderly end.
fn killed_again_and_again(folder: &Path, replica: &Place, global: &str) {
    let mut seed = Seed::from_environment();
    let (database, config, url) = (folder.join("shop.db"), folder.join("config.yml"), replica.url());
    let dbs = format!(
        "dbs:\n  - path: {}{HASTE}    replica: {{url: '{url}', sync-interval: 100ms}}\n",
        database.display()
    );
    std::fs::write(&config, format!("{global}{dbs}")).unwrap();

    let traffic = Traffic::start(App::open(&database), seed.fork());
    for _ in 0..kills() {
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
}

fn every_txid_restores(txids: &[u64], folder: &Path, replica: &Place) {
    println!("{} TXIDs are restored after {} kills", txids.len(), kills());
    let output = folder.join("at-txid.db");
    for txid in txids {
        walstream().restore(&replica.url(), &output, &["-force", "-txid", &format!("{txid:016x}")]);
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
    while interrupted < kills() / 2 {
        let mut once = walstream().command(["replicate", "-once", app.path().to_str().unwrap(), &url]);
        let process = Running::start(&mut once);
        std::thread::sleep(seed.pause_below(Duration::from_millis(250)));
        process.kill_9();
        if reachable_txids(&files(&replica)).is_empty() {
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
