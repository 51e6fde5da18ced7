//! Everything that can be given wrongly: one clear sentence, exit code 1, soon, and nothing is changed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use walstream_test_support::compare::assert_same_rows;
use walstream_test_support::replica::file_url;
use walstream_test_support::{App, Finished, Moto};

use crate::refusal::assert_refused;
use crate::walstream;

fn replicate_once(database: &Path, url: &str) -> Finished {
    walstream().run(["replicate", "-once", database.to_str().unwrap(), url])
}

fn replicate_config(text: &str) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yml");
    fs::write(&config, text).unwrap();
    walstream().run(["replicate", "-once", "-config", config.to_str().unwrap()])
}

#[test]
fn a_missing_config() {
    let finished = walstream().run(["replicate", "-config", "/no/such/file.yml"]);
    assert_refused(&finished, &["config file not found", "/no/such/file.yml"]);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_its_neighbour() {
    let finished = replicate_config(
        "dbs:\n  - path: /tmp/shop.db\n    replica:\n      url: file:///tmp/x\n      sync-intervall: 1s\n",
    );
    assert_refused(&finished, &["sync-intervall", "sync-interval", "5"]);
}

#[test]
fn a_config_that_is_no_yaml() {
    assert_refused(&replicate_config("dbs: [\n"), &["config.yml"]);
}

#[test]
fn a_url_of_an_unknown_kind() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path().join("shop.db"));
    assert_refused(&replicate_once(app.path(), "floppy://a/b"), &["floppy"]);
    assert_refused(&walstream().try_restore("floppy://a/b", &folder.path().join("out.db"), &[]), &["floppy"]);
}

#[test]
fn an_s3_url_without_a_bucket() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path().join("shop.db"));
    assert_refused(&replicate_once(app.path(), "s3:///path"), &["bucket"]);
}

/// Runs `replicate -once` against an S3 store that cannot work, and afterwards against a directory, which must.
fn refused_by_s3(url: &str, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path().join("shop.db"));
    app.sell(10, 100);
    let start = Instant::now();
    assert_refused(&replicate_once(app.path(), url), words);
    assert!(start.elapsed() < Duration::from_secs(20), "it took {:?}", start.elapsed());
    assert_refused(&walstream().try_restore(url, &folder.path().join("restored.db"), &[]), words);

    let (good, restored) = (file_url(&folder.path().join("replica")), folder.path().join("restored.db"));
    walstream().replicate_once(app.path(), &good);
    walstream().restore(&good, &restored, &[]);
    assert_same_rows(app.path(), &restored);
}

#[test]
fn an_unreachable_bucket() {
    // Port 1 refuses at once.
    refused_by_s3("s3://bkt/shop?endpoint=http://127.0.0.1:1&region=us-east-1", &["127.0.0.1:1"]);
}

#[test]
fn a_missing_bucket_on_moto() {
    let moto = Moto::start();
    refused_by_s3(&format!("s3://other/shop?endpoint={}&region=us-east-1", moto.endpoint()), &["other"]);
}

#[test]
fn wrong_credentials_on_moto() {
    let moto = Moto::start_denying();
    refused_by_s3(&moto.replica_url("shop"), &["access denied"]);
}

#[test]
fn a_database_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let (text, url) = (folder.path().join("notes.txt"), file_url(&folder.path().join("replica")));
    let content = "Dear diary, today I was taken for a database.\n".repeat(200);
    fs::write(&text, &content).unwrap();
    assert_refused(&replicate_once(&text, &url), &["notes.txt"]);
    assert_eq!(fs::read_to_string(&text).unwrap(), content);
    assert_refused(&replicate_once(folder.path(), &url), &[folder.path().to_str().unwrap()]);
    assert_refused(&replicate_once(&folder.path().join("missing.db"), &url), &["missing.db"]);
    assert!(!folder.path().join("missing.db").exists());
}

#[test]
fn an_existing_output_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (url, output) = (file_url(&folder.path().join("replica")), folder.path().join("precious.db"));
    let app = App::open(folder.path().join("shop.db"));
    walstream().replicate_once(app.path(), &url);
    fs::write(&output, "precious").unwrap();
    let finished = walstream().try_restore(&url, &output, &[]);
    assert_refused(&finished, &["precious.db", "already exists", "-force"]);
    assert_eq!(fs::read_to_string(&output).unwrap(), "precious");
    assert_refused(&walstream().try_restore(&url, folder.path(), &["-force"]), &["directory"]);
}

#[test]
fn an_empty_replica() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("restored.db");
    let finished = walstream().try_restore(&file_url(&folder.path().join("replica")), &output, &[]);
    assert_refused(&finished, &["no matching backup files available"]);
    assert!(!output.exists());
}
