//! Whatever is wrong with the command line or the configuration is answered with one clear sentence on
//! stderr, a non-zero exit code and nothing on stdout, and nothing is written.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{application, files, run, walstream};

#[test]
fn mistakes_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, sentence) in [
        ("frobnicate", "walstream frobnicate: unknown command"),
        ("-config x replicate", "-config must be positioned after a command"),
        ("restore -bogus x", "flag provided but not defined: -bogus"),
        ("restore -o", "flag needs an argument: -o"),
        ("restore", "database path or replica URL required"),
        ("restore file:///x", "-o is required when restoring from a replica URL"),
        ("restore -o out -txid 1 file:///x", "invalid value \"1\" for flag -txid"),
        ("restore -o out -timestamp noon file:///x", "invalid value \"noon\" for flag -timestamp"),
        (
            "restore -o out -txid 0000000000000001 -timestamp 2026-01-01T00:00:00Z file:///x",
            "cannot specify both -txid and -timestamp",
        ),
        ("restore -o out -config c.yml file:///x", "cannot specify a replica URL and the -config flag"),
        ("restore -o out a b", "too many arguments"),
        ("restore -f -timestamp -5m -o out file:///x", "cannot specify -f with -txid or -timestamp"),
        ("restore -delta -o out file:///x", "cannot specify -delta flag without -force"),
        ("restore -exec true -o out file:///x", "cannot specify -exec flag without -f"),
        ("restore -o out ftp://host/x", "unknown replica type in config: \"ftp\""),
        ("restore -o out s3:///x", "bucket"),
        ("restore -o out gs:///x", "no bucket given, expected gs://BUCKET/PATH"),
        ("ltx", "database path or replica URL required"),
        ("databases extra", "too many arguments"),
        ("config check extra", "too many arguments"),
        ("status a b", "too many arguments"),
        ("reset", "database path required"),
        ("reset none.db", "database does not exist: "),
        ("replicate app.db", "must specify at least one replica URL for app.db"),
        ("replicate app.db not-a-url", "\"not-a-url\" is not a replica URL"),
        ("replicate app.db file:///a file:///b", "multiple replicas on a single database"),
        ("replicate -config c.yml app.db file:///a", "cannot specify a replica URL and the -config flag"),
        ("replicate -force-snapshot app.db file:///a", "cannot specify -force-snapshot flag without -once"),
        ("replicate -once -exec true app.db file:///a", "cannot specify -once flag with -exec"),
    ] {
        let run = run(folder.path(), arguments);
        run.assert_refused(sentence);
        assert_eq!(run.stdout, "", "{arguments}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was written");
}

#[test]
fn mistakes_in_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.yml");
    for (text, sentence) in [
        ("dbs:\n  - path: a\n    replcia: {path: b}\n", "c.yml:3: unknown key \"replcia\""),
        ("dbs:\n  - path: [a\n", "c.yml:"),
        ("dbs: [{path: a, replica: {url: 's3://'}}]", "bucket"),
        ("dbs: [{path: a, replica: {path: b, sync-interval: 5}}]", "duration \"5\" has no unit"),
        ("snapshot: {interval: 0s}", "snapshot.interval: snapshot interval must be greater than 0 (got 0s)"),
        ("logging: {type: xml}", "logging.type: unknown type (got \"xml\")"),
    ] {
        fs::write(&file, text).unwrap();
        for command in ["databases", "config check", "replicate"] {
            let run = run(folder.path(), &format!("{command} -config c.yml"));
            run.assert_refused(sentence);
            assert_eq!(run.stdout, "", "{text}");
        }
    }
    fs::write(&file, b"dbs: \xff").unwrap();
    run(folder.path(), "databases -config c.yml").assert_refused("c.yml: the file is not UTF-8 text");
}

#[test]
fn a_configuration_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.yml");
    let sentence = format!("config file not found: {}", missing.display());
    run(folder.path(), "replicate -config none.yml").assert_refused(&sentence);
    run(folder.path(), "databases -config .").assert_refused("cannot read config file");
    let output = walstream().env("LITESTREAM_CONFIG", &missing).arg("databases").output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains(&sentence), "the environment names the file");
}

#[test]
fn an_unknown_database_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.yml"), "dbs: [{path: app.db, replica: {path: r}}]").unwrap();
    for command in ["restore", "ltx"] {
        run(folder.path(), &format!("{command} -config c.yml other.db"))
            .assert_refused("database not found in config");
    }
}

#[test]
fn a_command_that_cannot_be_executed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    let url = format!("file://{}/r", folder.path().display());
    let refused = run(folder.path(), &format!("replicate -log-level error -exec /no/such/app app.db {url}"));
    refused.assert_refused("cannot start exec command \"/no/such/app\"");
}

#[test]
fn a_file_that_is_no_database() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("app.db"), "just some text, long enough to be looked at ".repeat(50))
        .unwrap();
    let url = format!("file://{}/r", folder.path().display());
    run(folder.path(), &format!("replicate -once app.db {url}")).assert_refused("app.db");
    run(folder.path(), &format!("replicate -once missing.db {url}")).assert_refused("missing.db");
    assert!(files(&folder.path().join("r"), 0).is_empty());
}

#[test]
fn a_store_that_does_not_answer() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    let config = "access-key-id: a\nsecret-access-key: b\ndbs: [{path: app.db, replica: {url: \
                  's3://bucket/x?endpoint=http://127.0.0.1:1'}}]";
    fs::write(folder.path().join("c.yml"), config).unwrap();
    let started = Instant::now();
    run(folder.path(), "replicate -once -config c.yml").assert_refused("s3://bucket/x");
    run(folder.path(), "ltx -config c.yml app.db").assert_refused("s3://bucket/x");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// A replica with several level-0 files, and its URL.
fn replica(folder: &Path) -> String {
    let app = application(folder);
    let url = format!("file://{}/r", folder.display());
    for value in 2..6 {
        app.execute("INSERT INTO t VALUES (?1)", [value]).unwrap();
        assert_eq!(run(folder, &format!("replicate -once app.db {url}")).code, Some(0));
    }
    url
}

#[test]
fn a_restore_that_cannot_succeed_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let url = replica(folder.path());
    let before = fs::read_dir(folder.path()).unwrap().count();
    for (arguments, sentence) in [
        (format!("restore -o out.db {url}-none"), "no matching backup files available"),
        (format!("restore -o out.db -txid 00000000000000ff {url}"), "TXID 00000000000000ff"),
        (format!("restore -o out.db -timestamp 2020-01-01T00:00:00Z {url}"), "time 2020-01-01"),
        (format!("restore -o app.db {url}"), "output path already exists and is not empty"),
        (format!("restore -o . -force {url}"), "output path is a directory"),
    ] {
        run(folder.path(), &arguments).assert_refused(sentence);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before);
    assert_eq!(common::rows(&folder.path().join("app.db")), 5, "the database is untouched");
}

#[test]
fn a_hole_in_the_replica_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let url = replica(folder.path());
    let files = files(&folder.path().join("r"), 0);
    assert!(files.len() >= 3, "{files:?}");
    fs::remove_file(&files[files.len() - 2]).unwrap();
    run(folder.path(), &format!("restore -o out.db {url}")).assert_refused("missing");
    assert!(!folder.path().join("out.db").exists());
}

#[test]
fn a_damaged_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let url = replica(folder.path());
    let newest = files(&folder.path().join("r"), 0).pop().unwrap();
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&newest, bytes).unwrap();
    run(folder.path(), &format!("restore -o out.db {url}")).assert_refused("damaged");
    assert!(!folder.path().join("out.db").exists());
}
