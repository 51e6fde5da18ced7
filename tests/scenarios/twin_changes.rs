//! The same change in two pages. The rolling checksum of LTX is an XOR of CRCs, and a CRC is linear: such changes cancel
//! each other, and a database that was changed has the checksum of one that was not. An equal checksum must therefore
//! never be taken for "nothing happened".

use std::path::Path;

use walstream_test_support::App;
use walstream_test_support::compare::assert_same_pages;
use walstream_test_support::replica::file_url;

use crate::walstream;

/// One row a page, all alike but for their number; two of them get the same new flag while no daemon runs.
fn two_twins_change(meanwhile: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().unwrap();
    let (url, restored) = (file_url(&folder.path().join("replica")), folder.path().join("restored.db"));
    let app = App::open(folder.path().join("shop.db"));
    app.execute("CREATE TABLE twin(id INTEGER PRIMARY KEY, flag INTEGER, body BLOB)");
    for id in 1..=20 {
        app.execute(&format!("INSERT INTO twin VALUES ({id}, 2, zeroblob(3000))"));
    }
    walstream().replicate_once(app.path(), &url);

    app.execute("UPDATE twin SET flag = 3 WHERE id IN (5, 15)");
    app.checkpoint("TRUNCATE");
    meanwhile(folder.path());
    walstream().replicate_once(app.path(), &url);
    walstream().restore(&url, &restored, &[]);
    assert_same_pages(app.path(), &restored);
}

#[test]
fn the_same_change_in_two_pages_is_not_taken_for_none() {
    two_twins_change(|_| {});
}

#[test]
fn the_same_change_in_two_pages_is_not_taken_for_none_when_only_the_replica_remembers() {
    two_twins_change(|folder| std::fs::remove_dir_all(folder.join(".shop.db-litestream")).unwrap());
}
