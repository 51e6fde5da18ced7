//! Followers of real databases, step by step. The application's connection is closed while the engine looks, since the
//! locks of both belong to one process here.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use walstream_ltx::{Level, Timestamp, Txid};
use walstream_storage::ReplicaClient;

use super::{Followed, Follower};
use crate::error::EngineError;
use crate::metrics::Metrics;
use crate::options::DatabaseOptions;
use crate::restore::{RestoreOptions, Unwatched, restore};
use crate::testing::MemoryReplica;
use crate::{OnceOptions, sync_once};

/// A database, its replica, and where the copy is to be.
struct Site {
    folder: tempfile::TempDir,
    replica: Arc<MemoryReplica>,
}

impl Site {
    async fn with(sql: &str) -> Site {
        let site = Site { folder: tempfile::tempdir().unwrap(), replica: Arc::default() };
        site.write(sql).await;
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self) -> Arc<dyn ReplicaClient> {
        Arc::clone(&self.replica) as Arc<dyn ReplicaClient>
    }

    /// Commits, and brings it to the replica.
    async fn write(&self, sql: &str) -> Txid {
        Connection::open(self.path("app.db")).unwrap().execute_batch(sql).unwrap();
        self.sync(OnceOptions::default()).await
    }

    async fn sync(&self, once: OnceOptions) -> Txid {
        sync_once(DatabaseOptions::new(self.path("app.db"), self.client()), once).await.unwrap().txid
    }

    fn options(&self) -> RestoreOptions {
        RestoreOptions::new(self.path("copy.db"))
    }

    async fn follow(&self) -> Result<Follower, EngineError> {
        Follower::start(self.client(), self.options(), &Unwatched, &Metrics::default()).await
    }

    /// The copy is what a restore gives, but for what SQLite and the mark write into the header of page 1.
    async fn copy_must_be_what_is_stored(&self) {
        let restored = self.path("restored.db");
        restore(self.client(), &RestoreOptions::new(&restored), &Unwatched).await.unwrap();
        let copy = content(&self.path("copy.db"));
        let expected = content(&restored);
        fs::remove_file(restored).unwrap();
        assert_eq!(copy.len(), expected.len(), "pages");
        let differ = copy.iter().zip(&expected).position(|(ours, theirs)| ours != theirs);
        assert_eq!(differ.map(|index| index + 1), None, "the first page that differs");
        let check: String =
            reader(&self.path("copy.db")).query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}

fn reader(path: &Path) -> Connection {
    Connection::open(path).unwrap()
}

/// Every page, that of the copy without what is its own.
fn content(path: &Path) -> Vec<Vec<u8>> {
    let connection = reader(path);
    let mut pages = connection.prepare("SELECT data FROM sqlite_dbpage").unwrap();
    let mut pages: Vec<Vec<u8>> =
        pages.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    [18..20, 24..28, 72..100].into_iter().for_each(|own| pages[0][own].fill(0));
    pages
}

fn count(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
}

const ROWS: &str = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 500)
                    INSERT INTO t SELECT NULL, hex(randomblob(200)) FROM n";
const TABLE: &str = "CREATE TABLE t(id INTEGER PRIMARY KEY, x)";

#[tokio::test]
async fn a_copy_goes_wherever_the_database_goes() {
    let site = Site::with(&format!("{TABLE}; {ROWS}")).await;
    let mut follower = site.follow().await.unwrap();
    site.copy_must_be_what_is_stored().await;
    assert_eq!(follower.step().await.unwrap(), None, "nothing is new");
    let deeds = [
        ROWS,
        "DELETE FROM t WHERE id % 3",
        "VACUUM",
        "CREATE TABLE u(a UNIQUE); INSERT INTO u VALUES(1), (2)",
        "DROP TABLE t; VACUUM",
        "PRAGMA auto_vacuum = FULL; VACUUM",
        &format!("{TABLE}; {ROWS}; {ROWS}"),
        "DELETE FROM t WHERE id > 10",
        "PRAGMA auto_vacuum = INCREMENTAL; DELETE FROM t WHERE id > 2; DROP TABLE u",
    ];
    for deed in deeds {
        let txid = site.write(deed).await;
        let followed = follower.step().await.unwrap();
        assert_eq!(followed.map(|followed| followed.txid), Some(txid), "{deed}");
        site.copy_must_be_what_is_stored().await;
    }
}

#[tokio::test]
async fn many_files_are_one_step() {
    let site = Site::with(TABLE).await;
    let mut follower = site.follow().await.unwrap();
    for _ in 0..20 {
        site.write(ROWS).await;
    }
    let txid = site.write("DELETE FROM t WHERE id > 100; VACUUM").await;
    assert_eq!(follower.step().await.unwrap().map(|followed| followed.txid), Some(txid));
    site.copy_must_be_what_is_stored().await;
}

#[tokio::test]
async fn a_reader_keeps_what_he_sees() {
    let site = Site::with(&format!("{TABLE}; {ROWS}")).await;
    let mut follower = site.follow().await.unwrap();
    let old = reader(&site.path("copy.db"));
    old.execute_batch("BEGIN").unwrap();
    assert_eq!(count(&old), 500);
    site.write(&format!("{ROWS}; CREATE INDEX i ON t(x)")).await;
    follower.step().await.unwrap();
    site.write("DELETE FROM t WHERE id > 10; VACUUM").await;
    follower.step().await.unwrap();
    assert_eq!(count(&old), 500);
    old.execute_batch("COMMIT").unwrap();
    assert_eq!(count(&old), 10);
}

#[tokio::test]
async fn a_follower_goes_on_where_it_was_killed() {
    let site = Site::with(TABLE).await;
    let first = site.follow().await.unwrap().txid();
    let second = site.write(ROWS).await;
    let mut follower = site.follow().await.unwrap();
    assert_eq!(follower.txid(), first);
    follower.step().await.unwrap();
    drop(follower);
    assert_eq!(site.follow().await.unwrap().txid(), second);
    site.copy_must_be_what_is_stored().await;
}

#[tokio::test]
async fn where_files_are_gone_it_goes_on_from_a_snapshot() {
    let site = Site::with(&format!("{TABLE}; {ROWS}")).await;
    let mut follower = site.follow().await.unwrap();
    site.write(ROWS).await;
    site.write("DELETE FROM t WHERE id < 700").await;
    site.sync(OnceOptions { force_snapshot: true, ..OnceOptions::default() }).await;
    let newest = site.write(ROWS).await;
    let gone: Vec<_> = site.replica.names(Level::L0).into_iter().rev().skip(1).collect();
    gone.into_iter().for_each(|file| site.replica.remove(Level::L0, file));
    assert_eq!(follower.step().await.unwrap().map(|followed| followed.txid), Some(newest));
    site.copy_must_be_what_is_stored().await;
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_changes_nothing() {
    let site = Site::with(&format!("{TABLE}; {ROWS}")).await;
    let mut follower = site.follow().await.unwrap();
    let damaged = site.write(ROWS).await;
    let file = *site.replica.names(Level::L0).last().unwrap();
    let sound = site.replica.content(Level::L0, file).unwrap();
    let mut content = sound.to_vec();
    let last = content.len() - 40;
    content[last] ^= 1;
    site.replica.insert(Level::L0, file, Timestamp::from_millis(0), content);

    let before = follower.txid();
    assert!(
        matches!(follower.step().await, Err(EngineError::Damaged { txids, .. }) if txids.max() == damaged)
    );
    let again = follower.step().await.map(|followed| followed.map(|Followed { txid, .. }| txid));
    assert!(again.is_err(), "nothing else leads on: {again:?}");
    assert_eq!((follower.txid(), count(&reader(&site.path("copy.db")))), (before, 500));

    let newest = site.sync(OnceOptions { force_snapshot: true, ..OnceOptions::default() }).await;
    assert_eq!(follower.step().await.unwrap().map(|followed| followed.txid), Some(newest));
    site.copy_must_be_what_is_stored().await;
}

#[tokio::test]
async fn pages_of_another_size_replace_the_copy() {
    let site = Site::with(&format!("{TABLE}; {ROWS}")).await;
    let mut follower = site.follow().await.unwrap();
    let change = "PRAGMA journal_mode = DELETE; PRAGMA page_size = 8192; VACUUM; PRAGMA journal_mode = WAL";
    let txid = site.write(change).await;
    assert_eq!(follower.step().await.unwrap().map(|followed| followed.txid), Some(txid));
    site.copy_must_be_what_is_stored().await;
    site.write(ROWS).await;
    follower.step().await.unwrap();
    site.copy_must_be_what_is_stored().await;
}

#[tokio::test]
async fn an_older_restored_database_is_followed_as_it_is() {
    let site = Site::with(&format!("{TABLE}; {ROWS}")).await;
    restore(site.client(), &site.options(), &Unwatched).await.unwrap();
    let newest = site.write(ROWS).await;
    site.replica.take_requests();
    let mut follower = site.follow().await.unwrap();
    assert!(follower.txid() < newest);
    follower.step().await.unwrap();
    site.copy_must_be_what_is_stored().await;
}

#[tokio::test]
async fn what_is_no_state_of_the_replica_is_refused_and_left_alone() {
    let site = Site::with(TABLE).await;
    let foreign = site.path("copy.db");
    reader(&foreign).execute_batch("CREATE TABLE foreign_to_it(x)").unwrap();
    let error = site.follow().await.err().unwrap().to_string();
    assert!(error.contains("is no state of this replica"), "{error}");
    assert_eq!(count_tables(&foreign), 1);
    let forced = RestoreOptions { overwrite: true, ..site.options() };
    Follower::start(site.client(), forced, &Unwatched, &Metrics::default()).await.unwrap();
    site.copy_must_be_what_is_stored().await;
}

fn count_tables(path: &Path) -> i64 {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = 'foreign_to_it'";
    reader(path).query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_copy_of_another_replica_is_refused() {
    let (site, other) = (Site::with(TABLE).await, Site::with("CREATE TABLE t(y)").await);
    site.follow().await.unwrap();
    other.write("INSERT INTO t VALUES(1)").await;
    let theirs = RestoreOptions::new(site.path("copy.db"));
    let mut follower =
        Follower::start(other.client(), theirs, &Unwatched, &Metrics::default()).await.unwrap();
    let error = follower.step().await.unwrap_err().to_string();
    assert!(error.contains("is not what the replica was at TXID"), "{error}");
}

#[tokio::test]
async fn a_replica_that_ends_before_the_copy_is_an_error() {
    let site = Site::with(TABLE).await;
    site.write(ROWS).await;
    let mut follower = site.follow().await.unwrap();
    let newest = *site.replica.names(Level::L0).last().unwrap();
    site.replica.remove(Level::L0, newest);
    let error = follower.step().await.unwrap_err().to_string();
    assert!(error.contains("the replica ends at"), "{error}");
}

#[tokio::test]
async fn a_look_that_finds_nothing_costs_one_request() {
    let site = Site::with(TABLE).await;
    let mut follower = site.follow().await.unwrap();
    follower.step().await.unwrap();
    site.replica.take_requests();
    assert_eq!(follower.step().await.unwrap(), None);
    assert_eq!(site.replica.take_requests().len(), 1);
}
