//! The database from SQLite's side: the read lock, and what is done while it is held.
//!
//! Invariant: a read transaction of ours is always open. While it holds a read mark nobody can restart the WAL; while
//! it holds mark 0 nobody can copy frames into the database file. Either way no frame vanishes uncaptured.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use walstream_ltx::PageSize;

use super::admit::{first_reader, not_replicable};
use super::connection::{Checkpoint, LOCK_STEP, Reader, checkpoint, connect, end, keep_writers_out};
use super::database_file::DatabaseFile;
use super::wal_index::{self, WalEnd};
use crate::error::EngineError;

/// How long writers may be kept out while another process finishes a checkpoint of its own.
const CHECKPOINT_PATIENCE: Duration = Duration::from_millis(20);
/// And while a short reader ends: who wrote the last commit is one for a moment after he let go of the write lock.
const READER_PATIENCE: Duration = Duration::from_millis(5);
/// How long a writer may take to publish a commit before we call its header broken.
const PUBLISH_BUDGET: Duration = Duration::from_secs(5);

/// An open database.
pub(crate) struct Source {
    reader: Reader,
    spare: Option<Connection>,
    /// Lives as long as the read lock that was given to a reader of its own.
    other_reader: Weak<()>,
    path: PathBuf,
    wal_path: PathBuf,
    /// The WAL and its index, as our connections have them open.
    companions: [(PathBuf, Option<Identity>); 2],
    busy_timeout: Duration,
}

/// Device and inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

impl Identity {
    fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Identity(metadata.dev(), metadata.ino()))
    }
}

/// A read transaction of its own, for a reader that outlives the next checkpoint.
pub(crate) struct ReadLock {
    connection: Connection,
    _alive: Arc<()>,
}

impl Source {
    /// Opens a database, sets WAL mode if it is not set, and takes the read lock.
    pub(crate) fn open(path: &Path, busy_timeout: Duration) -> Result<Self, EngineError> {
        let path = fs::canonicalize(path).map_err(EngineError::io("open", path))?;
        let reader = first_reader(&path, busy_timeout)?;
        let beside = |suffix| {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        let wal_path = beside("-wal");
        let companions = [wal_path.clone(), beside("-shm")].map(|path| {
            let identity = Identity::at(&path).ok();
            (path, identity)
        });
        let other_reader = Weak::new();
        Ok(Source { reader, spare: None, other_reader, path, wal_path, companions, busy_timeout })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn wal_path(&self) -> &Path {
        &self.wal_path
    }

    /// The database file.
    pub(crate) fn file(&self) -> DatabaseFile<'_> {
        DatabaseFile::of(&self.reader.connection)
    }

    /// Whether the paths still lead to the files that we have open. Whoever writes over a database in place removes its
    /// WAL and wal-index, and the next application makes new ones that our connections know nothing of. While they are
    /// only missing, an application may still use the ones that we use.
    pub(crate) fn is_current(&self) -> Result<bool, EngineError> {
        let moved = self.file().has_moved().map_err(EngineError::sqlite(&self.path))?;
        let replaced = |(path, known): &(PathBuf, Option<Identity>)| {
            Identity::at(path).is_ok_and(|there| *known != Some(there))
        };
        Ok(!moved && !self.companions.iter().any(replaced))
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
        self.file().read_at(&mut bytes, 16).map_err(EngineError::io("read", &self.path))?;
        let stored = u32::from(u16::from_be_bytes(bytes));
        PageSize::new(if stored == 1 { 65536 } else { stored })
            .ok_or_else(|| not_replicable(&self.path, "it is not a SQLite database"))
    }

    /// Pages in the database file, for the time before the first frame: as many as its header says, by SQLite's rule.
    /// The file may be longer, after a crash before it was truncated.
    pub(crate) fn pages_in_file(&self, page_size: PageSize) -> Result<u32, EngineError> {
        let mut header = [0; 100];
        self.file().read_at(&mut header, 0).map_err(EngineError::io("read", &self.path))?;
        let (changes, valid_for) = (&header[24..28], &header[92..96]);
        let pages = u32::from_be_bytes([header[28], header[29], header[30], header[31]]);
        if pages != 0 && changes == valid_for {
            return Ok(pages);
        }
        let bytes = self.file().size().map_err(EngineError::io("read", &self.path))?;
        Ok(u32::try_from(bytes.div_ceil(u64::from(page_size.get()))).unwrap_or(u32::MAX))
    }

    /// A read transaction of its own on a new connection.
    pub(crate) fn lock_for_reader(&mut self) -> Result<ReadLock, EngineError> {
        let mut reader = Reader::new(connect(&self.path, self.busy_timeout)?);
        reader.begin().map_err(EngineError::sqlite(&self.path))?;
        let alive = Arc::new(());
        self.other_reader = Arc::downgrade(&alive);
        Ok(ReadLock { connection: reader.connection, _alive: alive })
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
        let result = checkpoint(&connection, Checkpoint::Passive).map_err(EngineError::sqlite(&self.path));
        self.spare = Some(connection);
        result.map(|_| ())
    }

    /// Makes the bulk of a checkpoint durable while writers may still write, so that they need not wait for it.
    pub(crate) fn sync_file(&self) -> Result<(), EngineError> {
        self.file().sync().map_err(EngineError::io("sync", &self.path))
    }

    /// How long our connections wait for a lock of somebody else.
    pub(crate) fn busy_timeout(&self) -> Duration {
        self.busy_timeout
    }

    /// Keeps writers out; `false` if none of the tries within the busy timeout got the lock.
    pub(crate) fn keep_writers_out(&mut self) -> Result<bool, EngineError> {
        let patience = self.busy_timeout;
        self.without_waiting(|connection| keep_writers_out(connection, patience))
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

    /// Size of the WAL file.
    pub(crate) fn wal_size(&self) -> Result<u64, EngineError> {
        match fs::metadata(&self.wal_path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(EngineError::io("read", &self.wal_path)(error)),
        }
    }

    /// Cuts the WAL file to nothing, unless somebody reads or writes it just now. Only while our read lock is on mark
    /// 0: it lets nobody copy frames, and this neither. So if a writer was quicker and frames are there that are not
    /// captured, nothing happens.
    pub(crate) fn truncate_wal(&mut self) -> Result<(), EngineError> {
        self.without_waiting(|connection| checkpoint(connection, Checkpoint::Truncate)).map(|_| ())
    }

    /// Does something with the second connection that is not to wait for a lock in SQLite's own way.
    fn without_waiting<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, EngineError> {
        let connection = self.spare_connection()?;
        let outcome = connection.busy_timeout(Duration::ZERO).and_then(|()| work(&connection));
        let restored = connection.busy_timeout(self.busy_timeout);
        self.spare = Some(connection);
        outcome.and_then(|done| restored.map(|()| done)).map_err(EngineError::sqlite(&self.path))
    }

    fn checkpoint_with_patience(&self) -> rusqlite::Result<()> {
        let connection = &self.reader.connection;
        let started = Instant::now();
        loop {
            let patience = if !checkpoint(connection, Checkpoint::Passive)? {
                CHECKPOINT_PATIENCE
            } else if !wal_index::read(connection)?.is_some_and(|end| end.is_in_file()) {
                READER_PATIENCE
            } else {
                return Ok(());
            };
            if started.elapsed() > patience {
                return Ok(());
            }
            std::thread::sleep(LOCK_STEP);
        }
    }

    /// Closes the second connection, which the next checkpoint opens again, and lets go of the wal-index until the
    /// next look.
    pub(crate) fn rest(&mut self) {
        self.spare = None;
        wal_index::release_memory(&self.reader.connection);
    }

    fn spare_connection(&mut self) -> Result<Connection, EngineError> {
        match self.spare.take() {
            Some(connection) => Ok(connection),
            None => connect(&self.path, self.busy_timeout),
        }
    }
}

impl ReadLock {
    /// The database file.
    pub(crate) fn file(&self) -> DatabaseFile<'_> {
        DatabaseFile::of(&self.connection)
    }
}
