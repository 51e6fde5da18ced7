//! A store that takes connections and never answers: the daemon must end in time all the same, and say what is missing.

use std::fs;
use std::time::{Duration, Instant};

use walstream_test_support::compare::assert_same_pages;
use walstream_test_support::replica::newest_txid;
use walstream_test_support::{App, Line, Moto, wait_until};

use crate::walstream;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn a_daemon_whose_store_hangs_ends_in_time_and_names_what_is_not_there() {
    let (moto, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    let line = Line::to(moto.address());
    let (config, meta) = (folder.path().join("config.yml"), folder.path().join(".shop.db-litestream"));
    let app = App::open(folder.path().join("shop.db"));
    let url = |endpoint: &str| format!("s3://{}/shop?endpoint={endpoint}&region=us-east-1", Moto::BUCKET);
    let settings = format!(
        "shutdown-sync-timeout: 3s\ndbs: [{{path: {}, replica: {{url: '{}'}}}}]",
        app.path().display(),
        url(&line.endpoint())
    );
    fs::write(&config, settings).unwrap();
    let daemon = walstream().replicate_config(&config).ready();
    wait_until("the replica is whole", DEADLINE, || {
        moto.keys("shop/0009/").len() == 1 && moto.keys("shop/0000/").len() == 1
    });

    line.go_dead();
    for _ in 0..3 {
        let before = newest_txid(&meta);
        app.sell(2, 100);
        wait_until("the capture", DEADLINE, || newest_txid(&meta) > before);
    }
    let asked = Instant::now();
    let ended = daemon.process.stop(Duration::from_secs(30));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(8), "it took {took:?}");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    // The line may have gone dead before the answer to the last upload came, so that it counts as missing.
    let newest = newest_txid(&meta);
    let named = |first: u64| format!("TXIDs {first:016x} to {newest:016x} ({})", newest - first + 1);
    let said = [2, 3].into_iter().any(|first| ended.stderr.contains(&named(first)));
    assert!(said, "{:?} is not said: {}", named(3), ended.stderr);

    // Nothing is lost: the next start uploads it.
    let restored = folder.path().join("restored.db");
    walstream().replicate_once(app.path(), &url(&moto.endpoint()));
    walstream().restore(&url(&moto.endpoint()), &restored, &[]);
    assert_same_pages(app.path(), &restored);
}

#[test]
fn a_daemon_that_never_reached_its_store_ends_in_time() {
    let (moto, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    let line = Line::to(moto.address());
    line.go_dead();
    let config = folder.path().join("config.yml");
    let app = App::open(folder.path().join("shop.db"));
    let (database, endpoint) = (app.path().display(), line.endpoint());
    let url = format!("s3://{}/shop?endpoint={endpoint}&region=us-east-1", Moto::BUCKET);
    let settings =
        format!("shutdown-sync-timeout: 2s\ndbs: [{{path: {database}, replica: {{url: '{url}'}}}}]");
    fs::write(&config, settings).unwrap();
    let daemon = walstream().replicate_config(&config).ready();
    let asked = Instant::now();
    let ended = daemon.process.stop(Duration::from_secs(30));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(8), "it took {took:?}");
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.contains("shop.db"), "{}", ended.stderr);
}
