//! A power cut: files are as they were some time ago, each for itself. The next TXID carries what the database really
//! holds, and the TXIDs before it stay what they were.
//!
//! Where the local state survived, that costs what differs. Where it is as old as the rest, a full copy is the price: what
//! the replica holds beyond it is not known page by page.

use crate::site::Site;

const DATABASE: [&str; 2] = ["shop.db", "shop.db-wal"];
const LOCAL: &str = ".shop.db-litestream";

/// A daemon captures some commits and is killed; then the files of `lost` are as they were before the last of them.
/// Returns how many bytes are captured because of that.
#[track_caller]
fn goes_on_after(lost: &[&str]) -> u64 {
    let site = Site::new();
    let app = site.app_with_mebibytes(4);
    let daemon = site.daemon();
    site.wait_until_caught_up(&app);
    app.sell(2, 100);
    site.wait_until_caught_up(&app);
    let before = site.copy(lost);
    app.execute("UPDATE item SET name = 'lost' WHERE id % 700 = 1");
    site.wait_until_caught_up(&app);
    app.sell(3, 300);
    site.wait_until_caught_up(&app);
    daemon.kill_9();
    if lost.contains(&"shop.db") {
        drop(app);
    }
    site.set_back(&before);
    let (before, history) = (site.captured(), site.history());

    let app = site.app();
    app.execute("UPDATE item SET name = 'kept' WHERE id = 1");
    let daemon = site.daemon();
    site.wait_until_caught_up(&app);
    app.sell(1, 100);
    site.wait_until_caught_up(&app);
    daemon.stop();
    site.assert_restores();
    site.assert_keeps(&history);
    assert!(site.newest_txid() > *history.last_key_value().unwrap().0);
    site.captured() - before
}

#[test]
fn the_end_of_the_wal_is_lost() {
    let captured = goes_on_after(&DATABASE);
    assert!(captured < 1 << 20, "{captured} bytes");
}

#[test]
fn the_local_files_are_lost() {
    goes_on_after(&[LOCAL]);
}

#[test]
fn everything_here_is_set_back_and_the_replica_is_ahead() {
    goes_on_after(&[DATABASE[0], DATABASE[1], LOCAL]);
}
