//! An application that knows nothing of replication.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

/// A small shop with its database in WAL mode, as SQLite's documentation recommends and nothing else.
///
/// It runs in the test's own process. POSIX locks are per process, so this is right next to a daemon of its own
/// process; next to an engine *inside* the test process use [`crate::AppProcess`].
pub struct App {
    connection: Connection,
    path: PathBuf,
}

impl App {
    /// Creates the database with its schema, or opens it.
    pub fn open(path: impl Into<PathBuf>) -> App {
        App::open_with(path, "")
    }

    /// Creates the database after some pragmas that must come first, such as `PRAGMA page_size = 512`.
    pub fn open_with(path: impl Into<PathBuf>, pragmas: &str) -> App {
        let path = path.into();
        let connection = Connection::open(&path).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
        let app = App { connection, path };
        app.execute(pragmas);
        app.execute(SCHEMA);
        app
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its connection, for what the helpers do not cover.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Runs SQL.
    #[track_caller]
    pub fn execute(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// One commit that adds `rows` items of about `bytes` bytes each and touches the rest of the shop.
    pub fn sell(&self, rows: u32, bytes: u32) {
        self.execute(&format!(
            "BEGIN IMMEDIATE;
             WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
               INSERT INTO item(name, body) SELECT printf('item %d', abs(random() % 100000)), randomblob({bytes}) FROM n;
             UPDATE setting SET value = value + {rows} WHERE key = 'sold';
             COMMIT"
        ));
    }

    /// A checkpoint in one of SQLite's modes, as an application may run one at any time; (busy, log, checkpointed).
    pub fn checkpoint(&self, mode: &str) -> (i64, i64, i64) {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        self.connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap()
    }

    /// The first value of the first row, as text.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        let value: rusqlite::types::Value = self.connection.query_row(sql, [], |row| row.get(0)).unwrap();
        match value {
            rusqlite::types::Value::Integer(number) => number.to_string(),
            rusqlite::types::Value::Text(text) => text,
            other => panic!("{sql}: unexpected value {other:?}"),
        }
    }
}

const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS item(id INTEGER PRIMARY KEY, name TEXT NOT NULL, body BLOB);
    CREATE INDEX IF NOT EXISTS item_by_name ON item(name);
    CREATE TABLE IF NOT EXISTS setting(key TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
    INSERT OR IGNORE INTO setting VALUES ('sold', 0);
";
