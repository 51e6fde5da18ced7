//! A container without a disk of its own: it restores the database and then replicates it again.

use walstream_test_support::replica::ltx_files;
use walstream_test_support::{App, Moto, wait_until};

use crate::site::{SOON, Site, remove};
use crate::walstream;

/// The replica has some history; then everything else is lost, and the database is restored.
fn moved_to_a_new_container(site: &Site, url: &str) {
    let app = site.app_with_mebibytes(4);
    walstream().replicate_once(app.path(), url);
    for _ in 0..2 {
        app.sell(1, 100);
        walstream().replicate_once(app.path(), url);
    }
    drop(app);
    site.remove_database();
    remove(&site.meta());
    walstream().restore(url, &site.database(), &[]);
}

#[test]
fn a_restored_database_goes_on_at_the_txid_of_the_replica_and_uploads_nothing() {
    let site = Site::new();
    moved_to_a_new_container(&site, &site.url());
    let (before, newest, history) = (site.captured(), site.newest_txid(), site.history());
    // Compaction may find something to do, but that is not of the database.
    let files = || [0, 9].map(|level| ltx_files(&site.replica(), level));
    let listed = files();

    let daemon = site.daemon();
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(files(), listed, "something was uploaded");

    let app = site.app();
    app.sell(1, 100);
    wait_until("the next TXID", SOON, || site.newest_txid() == newest + 1);
    daemon.stop();
    assert!(site.captured() - before < 100_000, "{} bytes for one row", site.captured() - before);
    site.assert_restores();
    site.assert_keeps(&history);
}

#[test]
fn a_restored_database_goes_on_where_a_bucket_ends_on_moto() {
    let (site, moto) = (Site::new(), Moto::start());
    let url = moto.replica_url("shop");
    moved_to_a_new_container(&site, &url);
    let keys = moto.keys("shop/");

    walstream().replicate_once(&site.database(), &url);
    assert_eq!(moto.keys("shop/"), keys, "something was uploaded");
    let app = App::open(site.database());
    app.sell(1, 100);
    walstream().replicate_once(&site.database(), &url);
    assert_eq!(moto.keys("shop/").len(), keys.len() + 1);
}
