//! From a path to the first connection: which databases can be replicated, and what is said of the others.
//!
//! Invariant: what comes out is in WAL mode, may be written to, and holds the read lock.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::connection::{Reader, connect, is_busy, open};
use super::database_file::DatabaseFile;
use crate::error::EngineError;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// File format version of a database in rollback mode and in WAL mode.
const ROLLBACK: u8 = 1;
const WAL: u8 = 2;

/// The first connection, with the read lock, on a database that was set to WAL mode if need be.
pub(super) fn first_reader(path: &Path, busy_timeout: Duration) -> Result<Reader, EngineError> {
    let connection = connect(path, busy_timeout)?;
    let format = require_database(&connection, path)?;
    require_writable(&connection, path)?;
    if format != WAL {
        // Of its own, since SQLite parses the whole schema here and would keep it.
        let other = connect(path, busy_timeout)?;
        set_wal_mode(&other, path).map_err(|error| explain_lock(error, format, path))?;
    }
    let mut reader = Reader::new(connection);
    reader.begin().map_err(|error| explain_lock(EngineError::sqlite(path)(error), format, path))?;
    Ok(reader)
}

/// The file format version that its header names.
fn require_database(connection: &Connection, path: &Path) -> Result<u8, EngineError> {
    let mut header = [0; 20];
    let file = DatabaseFile::of(connection);
    file.read_at(&mut header, 0).map_err(EngineError::io("read", path))?;
    if header.starts_with(MAGIC) {
        return Ok(header[18]);
    }
    match file.size().map_err(EngineError::io("read", path))? {
        0 => Err(not_replicable(path, "it is empty; replication begins with its first write")),
        _ => Err(not_replicable(path, "it is not a SQLite database")),
    }
}

/// SQLite opens a database that may not be written to for reading alone, and fails much later.
fn require_writable(connection: &Connection, path: &Path) -> Result<(), EngineError> {
    if connection.is_readonly("main").map_err(EngineError::sqlite(path))? {
        let reason =
            "this user may not write to it; replication reads and writes the database, its -wal and its -shm";
        return Err(not_replicable(path, reason));
    }
    Ok(())
}

fn set_wal_mode(connection: &Connection, path: &Path) -> Result<(), EngineError> {
    let mode = |sql: &str| {
        let mode = connection.query_row(sql, [], |row| row.get::<_, String>(0));
        mode.map_err(EngineError::sqlite(path))
    };
    let before = mode("PRAGMA journal_mode")?;
    let after = mode("PRAGMA journal_mode = wal")?;
    if !after.eq_ignore_ascii_case("wal") {
        let reason = format!("its journal mode is {after} and cannot be set to WAL, which replication needs");
        return Err(not_replicable(path, &reason));
    }
    if before != after {
        tracing::info!(path = %path.display(), from = before, "journal mode set to WAL");
    }
    Ok(())
}

/// A lock that keeps us from opening a database, said so that its owner knows what to change.
fn explain_lock(error: EngineError, format: u8, path: &Path) -> EngineError {
    match error {
        EngineError::Sqlite { source, .. } if is_busy(&source) => {
            let reason = if format == ROLLBACK {
                "its journal mode is not WAL, and cannot be set to WAL, which replication needs, while another \
                 process has the database locked"
            } else {
                "another process has locked it for itself (PRAGMA locking_mode = EXCLUSIVE)"
            };
            not_replicable(path, reason)
        }
        other => other,
    }
}

pub(super) fn not_replicable(path: &Path, reason: &str) -> EngineError {
    EngineError::NotReplicable { path: path.to_owned(), reason: reason.to_owned() }
}

/// Whether a file begins as every SQLite database does. One that cannot be read is none, nor is one that is empty yet.
/// Safe to ask of a database that is being replicated: SQLite keeps its locks where a plain close would drop them.
pub fn is_database(path: &Path) -> bool {
    // Opening a named pipe would wait for a writer.
    if !fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let Ok(connection) = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else { return false };
    let mut magic = [0; MAGIC.len()];
    DatabaseFile::of(&connection).read_at(&mut magic, 0).is_ok() && magic == *MAGIC
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn looking_at_a_database_leaves_the_locks_of_its_connections() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other_name) = (folder.path().join("a.db"), folder.path().join("b.db"));
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
        fs::hard_link(&path, &other_name).unwrap();
        let locks = || fs::read_to_string("/proc/locks").unwrap().matches(&inode(&path)).count();
        let before = locks();
        assert!(is_database(&path) && is_database(&other_name));
        assert_eq!(locks(), before);
        assert!(before > 0, "the connection holds its shared lock");
    }

    /// As `/proc/locks` ends the name of a file, which has no name there.
    fn inode(path: &Path) -> String {
        format!(":{} ", fs::metadata(path).unwrap().ino())
    }

    #[test]
    fn an_empty_file_is_no_database_yet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        fs::write(&path, b"").unwrap();
        assert!(!is_database(&path));
        fs::write(&path, MAGIC).unwrap();
        assert!(is_database(&path));
        assert!(!is_database(folder.path()));
        assert!(!is_database(&folder.path().join("missing")));
    }
}
