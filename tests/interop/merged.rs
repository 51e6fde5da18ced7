//! Level-0 files of more than one TXID, which Litestream itself never writes.

use std::fs;
use std::path::Path;
use std::time::Duration;

use walstream_test_support::compare::{assert_same_pages, assert_sound};
use walstream_test_support::replica::{OutOfReach, file_url, ltx_files, newest_txid, txids};
use walstream_test_support::{App, wait_until};

use crate::{litestream, walstream};

const DEADLINE: Duration = Duration::from_secs(60);

/// A database whose replica was out of reach for a while, so that some of its level-0 files are merged ones.
fn replica_with_merged_files(folder: &Path) -> App {
    let (config, replica) = (folder.join("config.yml"), folder.join("replica"));
    let app = App::open(folder.join("shop.db"));
    app.sell(200, 300);
    let dbs = format!(
        "dbs: [{{path: {}, replica: {{url: '{}', sync-interval: 20ms}}}}]",
        app.path().display(),
        file_url(&replica)
    );
    fs::write(&config, dbs).unwrap();
    let daemon = walstream().replicate_config(&config).ready();
    wait_until("the first snapshot", DEADLINE, || {
        !ltx_files(&replica, 9).is_empty() && newest_txid(&replica) > 1
    });
    let outage = OutOfReach::take(&replica);
    let waiting = || newest_txid(&folder.join(".shop.db-litestream"));
    // Fewer would not be worth merging for a directory.
    for step in 0..72 {
        let before = waiting();
        app.sell(5, 300);
        app.execute(if step % 8 == 0 {
            "DELETE FROM item WHERE id % 3 = 0"
        } else if step % 8 == 1 {
            "VACUUM"
        } else {
            "SELECT 1"
        });
        wait_until("the capture", DEADLINE, || waiting() > before);
    }
    drop(outage);
    daemon.stop();
    assert!(ltx_files(&replica, 0).iter().any(|(first, last, _)| last > first), "nothing was merged");
    app
}

#[test]
fn litestream_restores_every_state_of_a_replica_with_merged_files() {
    let folder = tempfile::tempdir().unwrap();
    let app = replica_with_merged_files(folder.path());
    let (replica, output) = (folder.path().join("replica"), folder.path().join("by-litestream.db"));
    let url = file_url(&replica);
    litestream().restore(&url, &output, &[]);
    assert_same_pages(app.path(), &output);
    let ours = folder.path().join("by-walstream.db");
    for txid in txids(&replica) {
        let txid = format!("{txid:016x}");
        litestream().restore(&url, &output, &["-force", "-txid", &txid]);
        walstream().restore(&url, &ours, &["-force", "-txid", &txid]);
        assert!(fs::read(&ours).unwrap() == fs::read(&output).unwrap(), "TXID {txid} differs");
        assert_sound(&output);
    }
}

#[test]
fn litestream_goes_on_after_merged_files() {
    let folder = tempfile::tempdir().unwrap();
    let app = replica_with_merged_files(folder.path());
    let (replica, output) = (folder.path().join("replica"), folder.path().join("restored.db"));
    let url = file_url(&replica);
    let before = newest_txid(&replica);
    let daemon = litestream().replicate(app.path(), &url);
    app.sell(5, 100);
    wait_until("the replica grows", DEADLINE, || newest_txid(&replica) > before);
    daemon.stop();
    for reader in [litestream(), walstream()] {
        reader.restore(&url, &output, &["-force"]);
        assert_same_pages(app.path(), &output);
    }
}
