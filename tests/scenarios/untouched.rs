//! The user's data is the user's: the daemon adds no table, no row, no frame.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use walstream_test_support::compare::{folded_copy, rows, with_suffix};
use walstream_test_support::replica::{file_url, newest_txid};
use walstream_test_support::{App, wait_until};

use crate::walstream;

/// Everything about a database that its owner can see and did not change.
#[derive(Debug, PartialEq)]
struct Visible {
    schema: Vec<String>,
    pragmas: Vec<i64>,
}

fn visible(database: &Path) -> Visible {
    let connection = Connection::open(database).unwrap();
    let mut statement =
        connection.prepare("SELECT name || ' ' || rootpage || coalesce(sql, '') FROM sqlite_schema").unwrap();
    let schema = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0)).unwrap();
    let pragmas =
        ["user_version", "application_id", "schema_version", "page_count", "freelist_count"].map(pragma);
    Visible { schema, pragmas: pragmas.into() }
}

#[test]
fn an_idle_database_and_its_wal_keep_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let replica = folder.path().join("replica");
    let app = App::open(folder.path().join("shop.db"));
    app.execute("PRAGMA user_version = 7; PRAGMA application_id = 4711; PRAGMA wal_autocheckpoint = 0");
    app.sell(200, 500);
    let (schema, wal) = (visible(app.path()), fs::read(with_suffix(app.path(), "-wal")).unwrap());

    let daemon = walstream().replicate(app.path(), &file_url(&replica)).ready();
    wait_until("the replica has the database", Duration::from_secs(30), || newest_txid(&replica) > 0);
    // The start is over; then some rounds of every timer of the daemon, in which it must find nothing to do.
    std::thread::sleep(Duration::from_secs(2));
    let newest = newest_txid(&replica);
    std::thread::sleep(Duration::from_secs(3));
    daemon.stop();

    assert_eq!(visible(app.path()), schema);
    let wal_after = fs::read(with_suffix(app.path(), "-wal")).unwrap();
    assert!(
        wal.starts_with(&wal_after),
        "the WAL grew or changed: {} → {} bytes",
        wal.len(),
        wal_after.len()
    );
    assert_eq!(newest_txid(&replica), newest, "an idle database has nothing to replicate");
}

/// The same commits on two databases, one of them replicated and checkpointed by the daemon all the while: at the end
/// the files are the same, but for the change counters, which count commits per connection and not per database.
#[test]
fn a_replicated_database_is_the_one_that_would_have_been() {
    let folder = tempfile::tempdir().unwrap();
    let alone = App::open(folder.path().join("alone.db"));
    trade_in_fixed_order(&alone);

    let watched = App::open(folder.path().join("watched.db"));
    let config = folder.path().join("config.yml");
    let url = file_url(&folder.path().join("replica"));
    let settings = "monitor-interval: 20ms, checkpoint-interval: 100ms, min-checkpoint-page-count: 20";
    let database = watched.path().display();
    fs::write(&config, format!("dbs: [{{path: {database}, {settings}, replica: {{url: '{url}'}}}}]"))
        .unwrap();
    let daemon = walstream().replicate_config(&config).ready();
    trade_in_fixed_order(&watched);
    daemon.stop();

    assert_eq!(rows(watched.path()), rows(alone.path()));
    assert!(without_counters(watched.path()) == without_counters(alone.path()), "some pages differ");
}

fn trade_in_fixed_order(app: &App) {
    for n in 0..300 {
        app.execute(&format!(
            "INSERT INTO item(name, body) VALUES ('fixed {n}', zeroblob({}))",
            n * 13 % 4000
        ));
        app.execute(&format!("UPDATE setting SET value = {n} WHERE key = 'sold'"));
        if n % 10 == 9 {
            app.execute(&format!("DELETE FROM item WHERE id % 10 = {}", n / 10 % 10));
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The file with its WAL folded in, without the file change counter and version-valid-for (format of page 1).
fn without_counters(database: &Path) -> Vec<u8> {
    let mut bytes = fs::read(folded_copy(database).path().join("copy")).unwrap();
    bytes[24..28].fill(0);
    bytes[92..96].fill(0);
    bytes
}
