//! Connections of ours to a database: what they must never do, and how little memory they may take.
//!
//! Invariant: a connection of ours writes nothing of its own: it checkpoints only when told to, and closing it leaves
//! the WAL as it is.

use std::ffi::c_int;
use std::path::Path;
use std::ptr;
use std::sync::Once;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};

use super::database_file::control;
use super::wal_index;
use crate::error::EngineError;

/// Opens a connection as SQLite sees it, without a look at the file. Whatever opens one here begins with this, since
/// SQLite can be told to take little memory only before its first connection.
pub(super) fn open(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    static SMALL: Once = Once::new();
    SMALL.call_once(take_little_memory);
    Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// Opens a connection of ours. The database must be there.
pub(super) fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection, EngineError> {
    let connect = || {
        let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.set_transaction_behavior(TransactionBehavior::Deferred);
        connection.busy_timeout(busy_timeout)?;
        // Nothing of ours may checkpoint unasked, neither after a commit nor when the connection closes.
        connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
        keep_wal_on_close(&connection)?;
        Ok(connection)
    };
    connect().map_err(EngineError::sqlite(path))
}

/// A connection for a thread of its own, which waits for nobody. A connection opens its WAL when it first reads; this
/// one has.
pub(super) fn connect_to_wal(path: &Path) -> Result<Connection, EngineError> {
    let mut reader = Reader::new(connect(path, Duration::ZERO)?);
    reader.begin().and_then(|()| reader.end()).map_err(EngineError::sqlite(path))?;
    Ok(reader.connection)
}

/// By default every connection comes with some 130 KiB for small objects and for twenty pages. Ours parse no schema
/// and read one page. If SQLite is at work in this process already, it stays as it is.
fn take_little_memory() {
    let nothing: c_int = 0;
    // SAFETY: the arguments are those that sqlite.h names: SQLITE_CONFIG_LOOKASIDE takes two ints,
    // SQLITE_CONFIG_PAGECACHE a pointer and two ints. SQLite refuses both once it is initialized.
    unsafe {
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_LOOKASIDE, nothing, nothing);
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_PAGECACHE, ptr::null_mut::<u8>(), nothing, nothing);
    }
}

/// Makes the WAL survive the close of the last connection.
fn keep_wal_on_close(connection: &Connection) -> rusqlite::Result<()> {
    let mut on: c_int = 1;
    control(connection, ffi::SQLITE_FCNTL_PERSIST_WAL, (&raw mut on).cast())
}

/// A connection that holds a read transaction, or lost it for a moment.
pub(super) struct Reader {
    pub(super) connection: Connection,
    pub(super) locked: bool,
    /// Whether the whole WAL was in the database file when the lock was taken, so that it is on mark 0.
    pub(super) on_file: bool,
}

impl Reader {
    pub(super) fn new(connection: Connection) -> Self {
        Reader { connection, locked: false, on_file: false }
    }

    /// Begins a read transaction. Reading the schema version touches page 1 and parses nothing of the user's.
    pub(super) fn begin(&mut self) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN DEFERRED")?;
        let read = self.connection.query_row("PRAGMA schema_version", [], |_| Ok(()));
        if read.is_err() {
            end(&self.connection)?;
            return read;
        }
        self.locked = true;
        self.on_file = wal_index::read(&self.connection)?.is_some_and(|wal| wal.is_in_file());
        Ok(())
    }

    pub(super) fn end(&mut self) -> rusqlite::Result<()> {
        self.locked = false;
        end(&self.connection)
    }
}

pub(super) fn end(connection: &Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") }
}

/// How a checkpoint deals with readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checkpoint {
    /// Goes as far as they allow.
    Passive,
    /// Waits for them, then cuts the WAL file to nothing.
    Truncate,
}

/// Checkpoints; false if somebody else's lock was in the way. The connection must have read before, which opened its
/// WAL. The pragma would do the same, but not before it had parsed the whole schema.
pub(super) fn checkpoint(connection: &Connection, how: Checkpoint) -> rusqlite::Result<bool> {
    let mode = match how {
        Checkpoint::Passive => ffi::SQLITE_CHECKPOINT_PASSIVE,
        Checkpoint::Truncate => ffi::SQLITE_CHECKPOINT_TRUNCATE,
    };
    // SAFETY: the handle is open while `connection` is borrowed; SQLite takes null for counts nobody wants.
    let code = unsafe {
        let handle = connection.handle();
        ffi::sqlite3_wal_checkpoint_v2(handle, c"main".as_ptr(), mode, ptr::null_mut(), ptr::null_mut())
    };
    match code & 0xff {
        ffi::SQLITE_OK => Ok(true),
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => Ok(false),
        _ => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

/// How long to wait between two tries for a lock. Short, since a busy application lets go of it for no longer.
pub(super) const LOCK_STEP: Duration = Duration::from_micros(100);

/// Takes the write lock; false if none of the tries within `patience` got it. The connection's own busy timeout must
/// be zero, since SQLite's pauses are longer than the gaps between two transactions.
pub(super) fn keep_writers_out(connection: &Connection, patience: Duration) -> rusqlite::Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        match connection.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => return Ok(true),
            Err(error) if is_busy(&error) && Instant::now() < deadline => std::thread::sleep(LOCK_STEP),
            Err(error) if is_busy(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Whether an error means that somebody else holds a lock, so that trying again helps.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
