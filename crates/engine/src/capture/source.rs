//! The database from SQLite's side: our connections, the read lock, the one descriptor of ours.
//!
//! Invariants:
//! - A read transaction of ours is always open. While it holds a read mark nobody can restart the WAL; while it
//!   holds mark 0 nobody can copy frames into the database file. Either way no frame vanishes uncaptured.
//! - The database file is opened once by us ([`super::database_file`]) and closed after our connections: closing any
//!   descriptor of a file drops all POSIX locks that the process has on it. The `-shm` file is never opened by us.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};
use walstream_ltx::PageSize;

use super::database_file::{DatabaseFile, Identity, MAGIC};
use super::wal_index::{self, WalEnd};
use crate::error::EngineError;

/// How long to wait between two tries for a lock. Short, since a busy application lets go of it for no longer.
const LOCK_STEP: Duration = Duration::from_micros(100);
/// How long writers may be kept out while another process finishes a checkpoint of its own.
const CHECKPOINT_PATIENCE: Duration = Duration::from_millis(20);
/// How long a writer may take to publish a commit before we call its header broken.
const PUBLISH_BUDGET: Duration = Duration::from_secs(5);

/// An open database.
pub(crate) struct Source {
    // Fields are dropped in this order: connections first, the descriptor last.
    reader: Reader,
    spare: Option<Connection>,
    /// Lives as long as the read lock that was given to a reader of its own.
    other_reader: Weak<()>,
    file: Arc<DatabaseFile>,
    path: PathBuf,
    wal_path: PathBuf,
    /// The WAL and its index, as our connections have them open.
    companions: [(PathBuf, Option<Identity>); 2],
    busy_timeout: Duration,
}

/// A connection that holds a read transaction, or lost it for a moment.
struct Reader {
    connection: Connection,
    locked: bool,
    /// Whether the whole WAL was in the database file when the lock was taken, so that it is on mark 0.
    on_file: bool,
}

/// A read transaction of its own, for a reader that outlives the next checkpoint.
pub(crate) struct ReadLock {
    _connection: Connection,
    file: Arc<DatabaseFile>,
    _alive: Arc<()>,
}

impl Source {
    /// Opens a database, sets WAL mode if it is not set, and takes the read lock.
    pub(crate) fn open(path: &Path, busy_timeout: Duration) -> Result<Self, EngineError> {
        let path = fs::canonicalize(path).map_err(EngineError::io("open", path))?;
        let file = DatabaseFile::open(&path).map_err(EngineError::io("open", &path))?;
        require_database(&file, &path)?;
        let reader = first_reader(&path, busy_timeout).map_err(|error| explain_lock(error, &file, &path))?;
        let beside = |suffix| {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let wal_path = beside("-wal");
        let companions = [wal_path.clone(), beside("-shm")].map(|path| {
            let identity = fs::metadata(&path).ok().as_ref().map(Identity::of);
            (path, identity)
        });
        Ok(Source {
            reader,
            spare: None,
            other_reader: Weak::new(),
            file,
            wal_path,
            path,
            companions,
            busy_timeout,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn wal_path(&self) -> &Path {
        &self.wal_path
    }

    /// The descriptor of the database file. Nobody may open another one.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the paths still lead to the files that we have open. Whoever writes over a database in place removes its
    /// WAL and wal-index, and the next application makes new ones that our connections know nothing of. While they are
    /// only missing, an application may still use the ones that we use.
    pub(crate) fn is_current(&self) -> Result<bool, EngineError> {
        let there = match fs::metadata(&self.path) {
            Ok(there) => Identity::of(&there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(EngineError::io("read", &self.path)(error)),
        };
        let replaced = |(path, known): &(PathBuf, Option<Identity>)| {
            fs::metadata(path).is_ok_and(|there| *known != Some(Identity::of(&there)))
        };
        Ok(there == self.file.identity() && !self.companions.iter().any(replaced))
    }

    /// What is committed now, and whether it can be looked at without waiting. `None`: a writer is publishing.
    pub(crate) fn peek(&self) -> Result<Option<WalEnd>, EngineError> {
        wal_index::read(&self.reader.connection).map_err(EngineError::sqlite(&self.path))
    }

    /// What is committed now. Takes the read lock first if an earlier error has cost us the lock.
    pub(crate) fn committed(&mut self) -> Result<WalEnd, EngineError> {
        if !self.reader.locked {
            self.reader.begin().map_err(EngineError::sqlite(&self.path))?;
        }
        self.published()
    }

    /// [`Source::committed`], if need be without the read lock.
    pub(crate) fn published(&self) -> Result<WalEnd, EngineError> {
        let started = Instant::now();
        loop {
            match self.peek()? {
                Some(end) => return Ok(end),
                None if started.elapsed() > PUBLISH_BUDGET => {
                    let reason = "its header stays invalid; a writer died while committing".to_owned();
                    return Err(EngineError::Wal { path: self.wal_path.clone(), reason });
                }
                None => std::thread::sleep(LOCK_STEP),
            }
        }
    }

    /// Whether the read lock is held without interruption.
    pub(crate) fn is_locked(&self) -> bool {
        self.reader.locked
    }

    /// Whether the read lock is on mark 0, where it keeps nobody from restarting a WAL that is wholly copied.
    pub(crate) fn is_locked_on_file(&self) -> bool {
        self.reader.on_file
    }

    /// The page size as the database file says, for the time before the first frame.
    pub(crate) fn page_size(&self, end: &WalEnd) -> Result<PageSize, EngineError> {
        if let (Some(page_size), true) = (end.page_size, end.frames.0 > 0) {
            return Ok(page_size);
        }
        let mut bytes = [0; 2];
        self.file.read_exact_at(&mut bytes, 16).map_err(EngineError::io("read", &self.path))?;
        let stored = u32::from(u16::from_be_bytes(bytes));
        PageSize::new(if stored == 1 { 65536 } else { stored }).ok_or_else(|| self.not_a_database())
    }

    fn not_a_database(&self) -> EngineError {
        not_replicable(&self.path, "it is not a SQLite database")
    }

    /// Pages in the database file, for the time before the first frame: as many as its header says, by SQLite's rule.
    /// The file may be longer, after a crash before it was truncated.
    pub(crate) fn pages_in_file(&self, page_size: PageSize) -> Result<u32, EngineError> {
        let mut header = [0; 100];
        self.file.read_exact_at(&mut header, 0).map_err(EngineError::io("read", &self.path))?;
        let (changes, valid_for) = (&header[24..28], &header[92..96]);
        let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
        if pages != 0 && changes == valid_for {
            return Ok(pages);
        }
        let bytes = self.file.metadata().map_err(EngineError::io("read", &self.path))?.len();
        Ok(u32::try_from(bytes.div_ceil(u64::from(page_size.get()))).unwrap_or(u32::MAX))
    }

    /// A read transaction of its own on a new connection.
    pub(crate) fn lock_for_reader(&mut self) -> Result<ReadLock, EngineError> {
        let mut reader = Reader::new(connect(&self.path, self.busy_timeout)?);
        reader.begin().map_err(EngineError::sqlite(&self.path))?;
        let alive = Arc::new(());
        self.other_reader = Arc::downgrade(&alive);
        Ok(ReadLock { _connection: reader.connection, file: Arc::clone(&self.file), _alive: alive })
    }

    /// Whether a lock of [`Source::lock_for_reader`] is still held.
    pub(crate) fn has_other_reader(&self) -> bool {
        self.other_reader.strong_count() > 0
    }

    /// Opens a newer read transaction beside the present one; [`Source::end_older_lock`] ends the older.
    /// Between the two calls the caller captures everything up to the newer one.
    pub(crate) fn begin_newer_lock(&mut self) -> Result<(), EngineError> {
        let connection = self.spare_connection()?;
        let mut newer = Reader::new(connection);
        newer.begin().map_err(EngineError::sqlite(&self.path))?;
        let older = std::mem::replace(&mut self.reader, newer);
        self.spare = Some(older.connection);
        Ok(())
    }

    /// Ends the read transaction that [`Source::begin_newer_lock`] left behind.
    pub(crate) fn end_older_lock(&mut self) -> Result<(), EngineError> {
        let connection = self.spare_connection()?;
        end(&connection).map_err(EngineError::sqlite(&self.path))?;
        self.spare = Some(connection);
        Ok(())
    }

    /// Copies frames into the database file as far as readers allow, without stopping writers.
    pub(crate) fn checkpoint_beside_lock(&mut self) -> Result<(), EngineError> {
        let connection = self.spare_connection()?;
        let result = checkpoint(&connection).map_err(EngineError::sqlite(&self.path));
        self.spare = Some(connection);
        result.map(|_| ())
    }

    /// Makes the bulk of a checkpoint durable while writers may still write, so that they need not wait for it.
    pub(crate) fn sync_file(&self) -> Result<(), EngineError> {
        self.file.sync_data().map_err(EngineError::io("sync", &self.path))
    }

    /// Keeps writers out; `false` if none of the tries within the busy timeout got the lock.
    pub(crate) fn keep_writers_out(&mut self) -> Result<bool, EngineError> {
        let connection = self.spare_connection()?;
        let deadline = Instant::now() + self.busy_timeout;
        connection.busy_timeout(Duration::ZERO).map_err(EngineError::sqlite(&self.path))?;
        let outcome = loop {
            match connection.execute_batch("BEGIN IMMEDIATE") {
                Ok(()) => break Ok(true),
                Err(error) if is_busy(&error) && Instant::now() < deadline => std::thread::sleep(LOCK_STEP),
                Err(error) if is_busy(&error) => break Ok(false),
                Err(error) => break Err(EngineError::sqlite(&self.path)(error)),
            }
        };
        connection.busy_timeout(self.busy_timeout).map_err(EngineError::sqlite(&self.path))?;
        self.spare = Some(connection);
        outcome
    }

    /// Lets writers in again. The transaction wrote nothing, so nothing reaches the WAL.
    pub(crate) fn let_writers_in(&mut self) -> Result<(), EngineError> {
        let connection = self.spare_connection()?;
        end(&connection).map_err(EngineError::sqlite(&self.path))?;
        self.spare = Some(connection);
        Ok(())
    }

    /// Ends the read lock, checkpoints, and takes the lock again. Only while writers are kept out. Tries for a
    /// moment if the application is checkpointing by itself just then.
    pub(crate) fn checkpoint_without_lock(&mut self) -> Result<(), EngineError> {
        self.reader.end().map_err(EngineError::sqlite(&self.path))?;
        let checkpointed = self.checkpoint_with_patience();
        self.reader.begin().map_err(EngineError::sqlite(&self.path))?;
        checkpointed.map_err(EngineError::sqlite(&self.path))
    }

    fn checkpoint_with_patience(&self) -> rusqlite::Result<()> {
        let deadline = Instant::now() + CHECKPOINT_PATIENCE;
        while !checkpoint(&self.reader.connection)? && Instant::now() < deadline {
            std::thread::sleep(LOCK_STEP);
        }
        Ok(())
    }

    /// Closes the second connection; the next checkpoint opens it again.
    pub(crate) fn close_spare(&mut self) {
        self.spare = None;
    }

    fn spare_connection(&mut self) -> Result<Connection, EngineError> {
        match self.spare.take() {
            Some(connection) => Ok(connection),
            None => connect(&self.path, self.busy_timeout),
        }
    }
}

impl ReadLock {
    /// The descriptor of the database file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Reader {
    fn new(connection: Connection) -> Self {
        Reader { connection, locked: false, on_file: false }
    }

    /// Begins a read transaction. Reading the schema version touches page 1 and parses nothing of the user's.
    fn begin(&mut self) -> rusqlite::Result<()> {
        self.connection.execute_batch("BEGIN DEFERRED")?;
        let read = self.connection.query_row("PRAGMA schema_version", [], |_| Ok(()));
        if read.is_err() {
            end(&self.connection)?;
            return read;
        }
        self.locked = true;
        self.on_file = wal_index::read(&self.connection)?.is_some_and(|wal| wal.frames == wal.backfilled);
        Ok(())
    }

    fn end(&mut self) -> rusqlite::Result<()> {
        self.locked = false;
        end(&self.connection)
    }
}

fn end(connection: &Connection) -> rusqlite::Result<()> {
    if connection.is_autocommit() { Ok(()) } else { connection.execute_batch("ROLLBACK") }
}

/// Checkpoints as far as readers allow; false if another process was checkpointing.
fn checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i32>(0))
        .map(|busy| busy == 0)
}

/// Whether an error means that somebody else holds a lock, so that trying again helps.
fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn connect(path: &Path, busy_timeout: Duration) -> Result<Connection, EngineError> {
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.set_transaction_behavior(TransactionBehavior::Deferred);
        connection.busy_timeout(busy_timeout)?;
        // Nothing of ours may checkpoint unasked, neither after a commit nor when the connection closes.
        connection.query_row("PRAGMA wal_autocheckpoint = 0", [], |_| Ok(()))?;
        connection.execute_batch("PRAGMA cache_size = 4")?;
        keep_wal_on_close(&connection)?;
        Ok(connection)
    };
    open().map_err(EngineError::sqlite(path))
}

/// Makes the WAL survive the close of the last connection.
fn keep_wal_on_close(connection: &Connection) -> rusqlite::Result<()> {
    let mut on: std::ffi::c_int = 1;
    // SAFETY: the handle is open while `connection` is borrowed; SQLITE_FCNTL_PERSIST_WAL takes an int.
    let code = unsafe {
        let argument = (&raw mut on).cast();
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_PERSIST_WAL,
            argument,
        )
    };
    if code == ffi::SQLITE_OK {
        Ok(())
    } else {
        Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    }
}

fn set_wal_mode(connection: &Connection, path: &Path) -> Result<(), EngineError> {
    let mode = |sql: &str| {
        let mode = connection.query_row(sql, [], |row| row.get::<_, String>(0));
        mode.map_err(EngineError::sqlite(path))
    };
    let before = mode("PRAGMA journal_mode")?;
    if before.eq_ignore_ascii_case("wal") {
        return Ok(());
    }
    let after = mode("PRAGMA journal_mode = wal")?;
    if !after.eq_ignore_ascii_case("wal") {
        let reason = format!("its journal mode is {after} and cannot be set to WAL, which replication needs");
        return Err(not_replicable(path, &reason));
    }
    tracing::info!(path = %path.display(), from = before, "journal mode set to WAL");
    Ok(())
}

/// The first connection, with the read lock, on a database in WAL mode.
fn first_reader(path: &Path, busy_timeout: Duration) -> Result<Reader, EngineError> {
    let connection = connect(path, busy_timeout)?;
    require_writable(&connection, path)?;
    set_wal_mode(&connection, path)?;
    let mut reader = Reader::new(connection);
    reader.begin().map_err(EngineError::sqlite(path))?;
    Ok(reader)
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

/// A lock that keeps us from opening a database, said so that its owner knows what to change.
fn explain_lock(error: EngineError, file: &File, path: &Path) -> EngineError {
    match error {
        EngineError::Sqlite { source, .. } if is_busy(&source) => {
            let mut file_format = [0; 1];
            let is_rollback = file.read_exact_at(&mut file_format, 18).is_ok() && file_format == [1];
            let reason = if is_rollback {
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

fn require_database(file: &File, path: &Path) -> Result<(), EngineError> {
    let mut magic = [0; MAGIC.len()];
    match file.read_exact_at(&mut magic, 0) {
        Ok(()) if magic == MAGIC => Ok(()),
        Ok(()) => Err(not_replicable(path, "it is not a SQLite database")),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(not_replicable(path, "it is empty; replication begins with its first write"))
        }
        Err(error) => Err(EngineError::io("read", path)(error)),
    }
}

fn not_replicable(path: &Path, reason: &str) -> EngineError {
    EngineError::NotReplicable { path: path.to_owned(), reason: reason.to_owned() }
}
