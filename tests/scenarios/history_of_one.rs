//! Settings of the history that are said of one database.

use std::fs;

use walstream_test_support::replica::ltx_files;
use walstream_test_support::{App, wait_until};

use crate::site::SOON;
use crate::walstream;

#[test]
fn each_database_has_the_history_that_is_said_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yml");
    let text = format!(
        "
levels: [{{interval: 1s}}]
l0-retention: 1s
l0-retention-check-interval: 1s
dbs:
  - path: {0}/merged.db
    replica: {{path: {0}/merged, sync-interval: 50ms}}
  - path: {0}/kept.db
    levels: []
    l0-retention: 0s
    snapshot: {{interval: 1s}}
    replica: {{path: {0}/kept, sync-interval: 50ms}}
",
        folder.path().display()
    );
    fs::write(&config, text).unwrap();
    let apps = ["merged.db", "kept.db"].map(|name| App::open(folder.path().join(name)));
    let daemon = walstream().replicate_config(&config).ready();
    let files = |replica: &str, level| ltx_files(&folder.path().join(replica), level).len();
    let oldest_kept = || ltx_files(&folder.path().join("kept"), 0).first().map(|&(first, _, _)| first);
    apps.iter().for_each(|app| app.sell(1, 100));
    wait_until("the first change is on the replica", SOON, || oldest_kept().is_some());
    let first = oldest_kept();
    let mut sold = 0;
    wait_until("either has the history that it should have", SOON, || {
        apps.iter().for_each(|app| app.sell(1, 100));
        sold += 1;
        files("merged", 1) >= 3 && files("merged", 0) < sold && files("kept", 9) >= 3
    });
    assert_eq!(files("merged", 9), 1, "its next snapshot is due at midnight");
    assert_eq!(files("kept", 1), 0, "it has no levels");
    assert_eq!(oldest_kept(), first, "its changes are kept for ever");
    daemon.stop();
}
