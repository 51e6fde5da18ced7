//! What is at the output path before and after.

use std::fs;

use super::Desk;
use super::model::Model;
use crate::error::EngineError;
use crate::restore::{IntegrityCheck, RestoreOptions, Target, Unwatched, check_output, restore};

/// A real database with some rows, as a model of one TXID.
fn sqlite_model(desk: &Desk) -> (Model, Vec<u8>) {
    let path = desk.folder.path().join("source.db");
    let database = rusqlite::Connection::open(&path).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = wal; CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1), (2), (3);",
        )
        .unwrap();
    drop(database);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();
    let model = Model::new(4096, true);
    model.put(0, 1, 1, super::model::snapshot_of(&bytes));
    (model, bytes)
}

#[tokio::test]
async fn nothing_is_overwritten_without_being_asked() {
    let mut model = Model::new(512, true);
    model.commit(2, &[(1, 1)]);
    let desk = Desk::new();
    let options = RestoreOptions { overwrite: false, ..desk.options(Target::Latest) };
    let out = options.output.display().to_string();
    let refusal = async || restore(model.client(), &options, &Unwatched).await.unwrap_err().to_string();

    fs::write(&options.output, "precious").unwrap();
    assert_eq!(
        refusal().await,
        format!(
            "cannot restore, output path already exists and is not empty: {out}. Use -force to overwrite"
        )
    );
    assert_eq!(fs::read(&options.output).unwrap(), b"precious");

    fs::remove_file(&options.output).unwrap();
    fs::create_dir(&options.output).unwrap();
    let directory = format!("cannot restore, output path is a directory: {out}");
    assert_eq!(refusal().await, directory);
    assert_eq!(check_output(&options.output, true).unwrap_err().to_string(), directory);

    fs::remove_dir(&options.output).unwrap();
    for suffix in ["-wal", "-shm", "-journal"] {
        let sidecar = format!("{out}{suffix}");
        fs::write(&sidecar, "").unwrap();
        assert!(refusal().await.starts_with(&format!("cannot restore, {sidecar} of an earlier database")));
        fs::remove_file(sidecar).unwrap();
    }
    fs::write(&options.output, "").unwrap();
    restore(model.client(), &options, &Unwatched).await.unwrap();
    assert_eq!(fs::read(&options.output).unwrap(), model.image(1), "an empty file may be replaced");
}

#[tokio::test]
async fn overwriting_takes_the_sidecars_away() {
    let mut model = Model::new(512, true);
    model.commit(2, &[(1, 1)]);
    let desk = Desk::new();
    for name in ["out.db", "out.db-wal", "out.db-shm", "out.db-journal"] {
        fs::write(desk.folder.path().join(name), "old").unwrap();
    }
    let (_, database) = desk.restore(&model.client(), Target::Latest).await.unwrap();
    assert_eq!(database, model.image(1));
    assert_eq!(desk.names(), ["out.db"]);
}

#[tokio::test]
async fn a_failed_restore_leaves_the_old_database_alone() {
    let mut model = Model::new(512, true);
    model.commit(2, &[(1, 1)]);
    model.put(0, 1, 1, vec![0; 200]);
    let desk = Desk::new();
    for name in ["out.db", "out.db-wal"] {
        fs::write(desk.folder.path().join(name), "old").unwrap();
    }
    desk.restore(&model.client(), Target::Latest).await.unwrap_err();
    assert_eq!(desk.names(), ["out.db", "out.db-wal"]);
}

#[tokio::test]
async fn what_a_killed_restore_left_is_cleared_away() {
    let mut model = Model::new(512, true);
    model.commit(2, &[(1, 1)]);
    let desk = Desk::new();
    for name in ["out.db.tmp", "out.db.tmp-wal"] {
        fs::write(desk.folder.path().join(name), vec![1; 9000]).unwrap();
    }
    let (_, database) = desk.restore(&model.client(), Target::Latest).await.unwrap();
    assert_eq!(database, model.image(1));
    assert_eq!(desk.names(), ["out.db"]);
}

#[tokio::test]
async fn two_restores_into_one_file_do_not_mix() {
    let mut model = Model::new(512, true);
    model.commit(2, &[(1, 1)]);
    let desk = Desk::new();
    let other = fs::File::create(desk.folder.path().join("out.db.tmp")).unwrap();
    other.lock().unwrap();
    let error = desk.restore(&model.client(), Target::Latest).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot restore, another restore is writing"), "{error}");
    assert_eq!(desk.names(), ["out.db.tmp"], "the other one's file stays");
}

#[tokio::test]
async fn missing_folders_are_made() {
    let mut model = Model::new(512, true);
    model.commit(2, &[(1, 1)]);
    let desk = Desk::new();
    let options = RestoreOptions::new(desk.folder.path().join("a/b/out.db"));
    restore(model.client(), &options, &Unwatched).await.unwrap();
    assert_eq!(fs::read(&options.output).unwrap(), model.image(1));
}

#[tokio::test]
async fn sqlite_may_be_asked_about_the_result() {
    for check in [IntegrityCheck::Quick, IntegrityCheck::Full] {
        let desk = Desk::new();
        let (model, database) = sqlite_model(&desk);
        let options = RestoreOptions { integrity_check: check, ..desk.options(Target::Latest) };
        restore(model.client(), &options, &Unwatched).await.unwrap();
        assert!(fs::read(&options.output).unwrap() == database);
        assert_eq!(desk.names(), ["out.db"], "nothing of the check stays");
    }
}

#[tokio::test]
async fn a_database_that_sqlite_does_not_like_is_removed() {
    let desk = Desk::new();
    let (model, mut database) = sqlite_model(&desk);
    let last_page = database.len() - 4096;
    database[last_page..last_page + 8].fill(0xff);
    model.put(0, 1, 1, super::model::snapshot_of(&database));
    let options = RestoreOptions { integrity_check: IntegrityCheck::Quick, ..desk.options(Target::Latest) };
    let error = restore(model.client(), &options, &Unwatched).await.unwrap_err();
    assert!(matches!(error, EngineError::Verification { .. }), "{error}");
    assert!(error.to_string().contains("post-restore integrity check: "), "{error}");
    assert_eq!(desk.names(), Vec::<String>::new());
}
