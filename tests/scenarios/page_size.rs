//! The page size changes. The next TXID is a snapshot, no compaction crosses the border, and both sides can be restored.

use std::fs;

use walstream_test_support::App;
use walstream_test_support::replica::ltx_files;
use walstream_test_support::wait_until;

use crate::site::{SOON, Site};

const QUICK_LEVELS: &str = "levels: [{interval: 300ms}, {interval: 1s}]\nl0-retention: 0s";

/// Sells until the coarser level has a file that ends after `after`.
fn trade_until_compacted(site: &Site, app: &App, after: u64) {
    wait_until("compaction on two levels", SOON, || {
        app.sell(1, 50);
        ltx_files(&site.replica(), 2).last().is_some_and(|&(_, last, _)| last > after)
    });
    site.wait_until_caught_up(app);
}

#[track_caller]
fn assert_border(site: &Site, before: u64) {
    for level in 1..9 {
        for (first, last, path) in ltx_files(&site.replica(), level) {
            assert!(last <= before || first > before, "{} crosses the border", path.display());
        }
    }
    assert!(ltx_files(&site.replica(), 9).iter().any(|&(_, last, _)| last > before), "no snapshot after it");
}

fn set_page_size(app: &App, bytes: u32) {
    app.execute(&format!("PRAGMA journal_mode = DELETE; PRAGMA page_size = {bytes}; VACUUM"));
    app.execute("PRAGMA journal_mode = WAL");
    assert_eq!(app.query("PRAGMA page_size"), bytes.to_string());
}

#[test]
fn while_no_daemon_runs() {
    let site = Site::new();
    let app = site.app();
    app.sell(300, 500);
    let daemon = site.daemon_with("", QUICK_LEVELS);
    trade_until_compacted(&site, &app, 0);
    daemon.stop();
    let (before, history) = (site.newest_txid(), site.history());

    for (bytes, border) in [(8192, before), (512, 0)] {
        set_page_size(&app, bytes);
        let border = border.max(site.newest_txid());
        let daemon = site.daemon_with("", QUICK_LEVELS);
        trade_until_compacted(&site, &app, border + 1);
        daemon.stop();
        assert_border(&site, border);
        site.assert_restores();
    }
    site.assert_keeps(&history);
}

#[test]
fn by_a_rename_while_a_daemon_runs() {
    let site = Site::new();
    let app = site.app();
    app.sell(300, 500);
    let daemon = site.daemon_with("", QUICK_LEVELS);
    trade_until_compacted(&site, &app, 0);
    let copy = site.path("copy.db");
    app.execute(&format!("PRAGMA page_size = 1024; VACUUM INTO '{}'", copy.display()));
    drop(app);
    let copied = App::open_with(&copy, "PRAGMA journal_mode = DELETE");
    set_page_size(&copied, 1024);
    drop(copied);
    let (before, history) = (site.newest_txid(), site.history());
    ["-wal", "-shm"].iter().for_each(|suffix| drop(fs::remove_file(site.path(&format!("shop.db{suffix}")))));
    fs::rename(copy, site.database()).unwrap();

    let app = site.app();
    trade_until_compacted(&site, &app, before + 1);
    daemon.stop();
    assert_border(&site, before);
    site.assert_restores();
    site.assert_keeps(&history);
}
