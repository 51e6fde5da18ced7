//! The database file, through the descriptor that SQLite has open anyway.
//!
//! Invariant: nobody opens the database file beside SQLite. Closing any descriptor of a file drops all POSIX locks
//! that the process has on it, the read lock among them (<https://sqlite.org/howtocorrupt.html>, 2.2). And a
//! descriptor less is one less for each of ten thousand databases.

use std::ffi::{c_int, c_void};
use std::io;
use std::ptr;

use rusqlite::{Connection, ffi};

/// At most so much is asked for at once; SQLite's own reads are never longer than a page of 64 KiB.
const LONGEST_READ: usize = 64 << 10;

/// The number of the lock of writers (<https://sqlite.org/walformat.html>, "The WAL locks").
const WRITE_LOCK: c_int = 0;

/// The file of a connection's main database. The methods are those of `sqlite3_io_methods` in sqlite.h.
#[derive(Clone, Copy)]
pub(crate) struct DatabaseFile<'a> {
    connection: &'a Connection,
}

impl<'a> DatabaseFile<'a> {
    pub(crate) fn of(connection: &'a Connection) -> Self {
        DatabaseFile { connection }
    }

    /// Fills the buffer; what the file does not reach is zero, as SQLite sees it.
    pub(crate) fn read_at(self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let (file, methods) = self.open()?;
        let Some(read) = methods.xRead else { return Err(unsupported()) };
        let pieces = (offset..).step_by(LONGEST_READ).zip(buffer.chunks_mut(LONGEST_READ));
        for (offset, piece) in pieces {
            let offset = i64::try_from(offset).map_err(io::Error::other)?;
            // SAFETY: `file` is open (see `open`), and the piece is as long as is said.
            let code = unsafe { read(file, piece.as_mut_ptr().cast(), piece.len() as c_int, offset) };
            if code != ffi::SQLITE_OK && code != ffi::SQLITE_IOERR_SHORT_READ {
                return Err(failure(code));
            }
        }
        Ok(())
    }

    /// Its size in bytes.
    pub(crate) fn size(self) -> io::Result<u64> {
        let (file, methods) = self.open()?;
        let mut size = 0;
        let Some(file_size) = methods.xFileSize else { return Err(unsupported()) };
        // SAFETY: `file` is open (see `open`); the size is an i64.
        let code = unsafe { file_size(file, &raw mut size) };
        if code == ffi::SQLITE_OK {
            u64::try_from(size).map_err(io::Error::other)
        } else {
            Err(failure(code))
        }
    }

    /// Makes what was written to it durable.
    pub(crate) fn sync(self) -> io::Result<()> {
        let (file, methods) = self.open()?;
        let Some(sync) = methods.xSync else { return Err(unsupported()) };
        // SAFETY: `file` is open (see `open`).
        let code = unsafe { sync(file, ffi::SQLITE_SYNC_NORMAL | ffi::SQLITE_SYNC_DATAONLY) };
        if code == ffi::SQLITE_OK { Ok(()) } else { Err(failure(code)) }
    }

    /// Whether its path leads to another file now, or to none.
    pub(crate) fn has_moved(self) -> rusqlite::Result<bool> {
        let mut moved: c_int = 0;
        control(self.connection, ffi::SQLITE_FCNTL_HAS_MOVED, (&raw mut moved).cast())?;
        Ok(moved != 0)
    }

    /// The first region of the wal-index as the connection has it mapped, from its first read to its end.
    pub(crate) fn wal_index(self, size: c_int) -> rusqlite::Result<*const u8> {
        let (file, methods) = self.open().map_err(|_| code_error(ffi::SQLITE_CANTOPEN))?;
        let mut region: *mut c_void = ptr::null_mut();
        let code = match methods.xShmMap {
            // SAFETY: `file` is open (see `open`). xShmMap returns the address of a region that stays mapped while
            // the connection has the wal-index open. `extend` is 0: nothing is ever created.
            Some(map) if methods.iVersion >= 2 => unsafe { map(file, 0, size, 0, &raw mut region) },
            _ => ffi::SQLITE_CANTOPEN,
        };
        match code {
            ffi::SQLITE_OK if !region.is_null() => Ok(region.cast()),
            ffi::SQLITE_OK => Err(code_error(ffi::SQLITE_CANTOPEN)),
            code => Err(code_error(code)),
        }
    }

    /// Takes the lock that each writer of a WAL takes; false if somebody has it. Who has it this way reads nothing, and
    /// so keeps no frame from being copied, as a write transaction may. The connection must have the wal-index open and
    /// do nothing else until [`DatabaseFile::unlock_writers`].
    pub(super) fn lock_writers(self) -> rusqlite::Result<bool> {
        match self.change_write_lock(ffi::SQLITE_SHM_LOCK) {
            ffi::SQLITE_OK => Ok(true),
            ffi::SQLITE_BUSY => Ok(false),
            code => Err(code_error(code)),
        }
    }

    /// Lets go of the lock of [`DatabaseFile::lock_writers`].
    pub(super) fn unlock_writers(self) {
        // There is nothing that could fail, and nothing to be done if it did.
        let _ = self.change_write_lock(ffi::SQLITE_SHM_UNLOCK);
    }

    fn change_write_lock(self, change: c_int) -> c_int {
        let Ok((file, methods)) = self.open() else { return ffi::SQLITE_CANTOPEN };
        match methods.xShmLock {
            // SAFETY: `file` is open (see `open`) and has the wal-index open. The lock is one that wal.c names.
            Some(lock) if methods.iVersion >= 2 => unsafe {
                lock(file, WRITE_LOCK, 1, change | ffi::SQLITE_SHM_EXCLUSIVE)
            },
            _ => ffi::SQLITE_CANTOPEN,
        }
    }

    /// SQLite's file and its methods. Both live as long as the connection.
    fn open(self) -> io::Result<(*mut ffi::sqlite3_file, &'a ffi::sqlite3_io_methods)> {
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        control(self.connection, ffi::SQLITE_FCNTL_FILE_POINTER, (&raw mut file).cast())
            .map_err(io::Error::other)?;
        // SAFETY: SQLITE_FCNTL_FILE_POINTER stored the `sqlite3_file` of the main database, whose first field points
        // to its methods, or to nothing if it is not open.
        let methods = unsafe { file.as_ref().and_then(|file| file.pMethods.as_ref()) };
        methods.map(|methods| (file, methods)).ok_or_else(unsupported)
    }
}

/// `sqlite3_file_control` on the main database.
pub(super) fn control(
    connection: &Connection,
    operation: c_int,
    argument: *mut c_void,
) -> rusqlite::Result<()> {
    // SAFETY: the handle is open while `connection` is borrowed; callers pass what the operation takes.
    let code =
        unsafe { ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), operation, argument) };
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(code_error(code)) }
}

fn code_error(code: c_int) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
}

fn failure(code: c_int) -> io::Error {
    match code {
        ffi::SQLITE_FULL => io::ErrorKind::StorageFull.into(),
        code => io::Error::other(code_error(code)),
    }
}

fn unsupported() -> io::Error {
    io::ErrorKind::Unsupported.into()
}
