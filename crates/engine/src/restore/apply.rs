//! From LTX files on disk to a database, without a replica.
//!
//! Invariant: the database appears, or changes, as a whole and only when every file was proven by its own checksum,
//! continued the one before it, and left what it promises, where it promises anything. A database that is in use is
//! left alone.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use walstream_ltx::{
    Checksum, Commit, Decoder, Header, PageSize, Pgno, Timestamp, Trailer, Txid, merged_header,
    page_checksum, page_digest,
};

use super::rolling::rolling;
use super::write::{Output, check_output, with_suffix};
use crate::error::EngineError;

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// A database that files were applied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How many files were applied. Those whose changes the database had already are not among them.
    pub files: usize,
    /// Its state.
    pub txid: Txid,
    /// When that state was captured.
    pub created_at: Timestamp,
    /// Size of its pages.
    pub page_size: PageSize,
    /// How many they are.
    pub commit: Commit,
    /// Whether a checksum of the whole database proved the result. Files of Litestream carry none.
    pub verified: bool,
}

/// Applies files, given in any order, to a database or, if there is none, to an empty one. The result takes the place
/// of the database when it is complete.
///
/// Crash points: until the last rename the database is as it was, beside a temporary file that the next call removes.
pub fn apply(files: &[PathBuf], database: &Path) -> Result<Applied, EngineError> {
    let files = open_all(files)?;
    let (Some(first), Some(last)) = (files.first(), files.last()) else {
        return Err(refused("there are no files to apply".to_owned()));
    };
    let base = Base::take(database)?;
    let files = match &base {
        Some(base) => base.newer(&files, database)?,
        None if first.header.is_snapshot() => &files,
        None => {
            let reason = "it holds only changes, and there is no database yet that they could be applied to";
            return Err(first.error(reason));
        }
    };
    let output = Output::create(database)?;
    let mut state = match (&base, files.first()) {
        (Some(base), Some(first)) => base.copy_to(&output, first, database)?,
        _ => State::default(),
    };
    for file in files {
        state = file.write_to(&output, state)?;
    }
    let verified = last.check_result(&output, state)?;
    if let Some(base) = &base {
        base.leave_wal_alone(database)?;
    }
    output.publish()?;
    let Header { page_size, commit, timestamp: created_at, txids, .. } = last.header;
    let (files, txid) = (files.len(), txids.max());
    Ok(Applied { files, txid, created_at, page_size, commit, verified })
}

fn refused(reason: String) -> EngineError {
    EngineError::Output(format!("cannot apply, {reason}"))
}

/// What the files before left behind.
#[derive(Clone, Copy, Default)]
struct State {
    commit: Commit,
    /// The format's own checksum of the database, where it is known.
    tracked: Option<Checksum>,
}

/// One file on disk.
struct LtxFile {
    path: PathBuf,
    header: Header,
}

/// Reads the headers and puts the files in the order of their TXIDs, which must follow each other.
fn open_all(paths: &[PathBuf]) -> Result<Vec<LtxFile>, EngineError> {
    let mut files = paths.iter().map(|path| LtxFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(|file| (file.header.txids.min(), file.header.txids.max()));
    for pair in files.windows(2) {
        merged_header(&[pair[0].header.clone(), pair[1].header.clone()])
            .map_err(|error| pair[1].error(error))?;
    }
    Ok(files)
}

impl LtxFile {
    fn open(path: &Path) -> Result<LtxFile, EngineError> {
        let mut bytes = Vec::with_capacity(Header::SIZE);
        let read = File::open(path).and_then(|file| file.take(Header::SIZE as u64).read_to_end(&mut bytes));
        read.map_err(EngineError::io("read", path))?;
        match Header::parse(&bytes) {
            Ok(header) => Ok(LtxFile { path: path.to_owned(), header }),
            Err(error) => Err(EngineError::File { path: path.to_owned(), reason: error.to_string() }),
        }
    }

    fn error(&self, reason: impl ToString) -> EngineError {
        EngineError::File { path: self.path.clone(), reason: reason.to_string() }
    }

    /// Writes its pages over those of the state before and reads the file to its end.
    fn write_to(&self, output: &Output, before: State) -> Result<State, EngineError> {
        let Header { page_size, commit, .. } = self.header;
        self.check_tracked(before.tracked)?;
        let input = File::open(&self.path).map_err(EngineError::io("read", &self.path))?;
        let mut decoder = Decoder::new(BufReader::with_capacity(BUFFER, input)).map_err(|e| self.error(e))?;
        if *decoder.header() != self.header {
            return Err(self.error("it was changed while it was applied"));
        }
        let size = u64::from(commit.get()) * u64::from(page_size.get());
        output.file().set_len(size).map_err(output.io("resize"))?;
        let mut grown = 0;
        while let Some(page) = decoder.next_page().map_err(|error| self.error(error))? {
            grown += u32::from(!before.commit.contains(page.pgno));
            let written = output.file().write_all_at(page.data, page_size.offset_of(page.pgno));
            written.map_err(output.io("write"))?;
        }
        let Trailer { post_apply: tracked, .. } =
            decoder.finish().map_err(|error| self.error(error))?.trailer;
        let needed = commit.stored_pages(page_size).saturating_sub(before.commit.stored_pages(page_size));
        if grown < needed {
            return Err(self.error(format!("it lacks {} of the pages that it adds", needed - grown)));
        }
        Ok(State { commit, tracked })
    }

    /// Whether the file expects what is there, where both are known.
    fn check_tracked(&self, found: Option<Checksum>) -> Result<(), EngineError> {
        match (self.header.pre_apply, found) {
            (Some(expected), Some(found)) if expected != found => Err(self.does_not_apply(expected, found)),
            _ => Ok(()),
        }
    }

    fn does_not_apply(&self, expected: Checksum, found: Checksum) -> EngineError {
        self.error(format!(
            "it applies to a database with the checksum {expected}, but the one that is there has {found}"
        ))
    }

    /// Compares the database with what this file, the last one, promises; false if it promises nothing.
    fn check_result(&self, output: &Output, state: State) -> Result<bool, EngineError> {
        let Header { page_size, commit, ref lineage, .. } = self.header;
        let promises = [
            (lineage.post_apply, page_digest as fn(Pgno, &[u8]) -> Checksum),
            (state.tracked, page_checksum as fn(Pgno, &[u8]) -> Checksum),
        ];
        let mut verified = false;
        for (promised, of_page) in promises {
            let Some(expected) = promised else { continue };
            let found = rolling(output.file(), page_size, commit, of_page).map_err(output.io("read"))?;
            if found != expected {
                return Err(output.mismatch(expected, found));
            }
            verified = true;
        }
        Ok(verified)
    }
}

/// A database that is there already, locked against every other use.
struct Base {
    /// Holds the lock. It is closed before `file`, as fields are dropped in this order.
    connection: Connection,
    /// Stays open as long as the lock is needed: to close any descriptor of a file ends all locks that the process
    /// holds on it.
    file: File,
    page_size: PageSize,
    commit: Commit,
}

impl Base {
    /// `None` if there is no database, or an empty file.
    fn take(path: &Path) -> Result<Option<Base>, EngineError> {
        if !fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0) {
            return check_output(path, false).map(|()| None);
        }
        let left_over = ["-wal", "-journal"].map(|suffix| with_suffix(path, suffix));
        if let Some(log) = left_over.iter().find(|log| fs::metadata(log).is_ok_and(|log| log.len() > 0)) {
            return Err(refused(format!(
                "{} belongs to a database that is in use or was not closed; close it first",
                log.display()
            )));
        }
        let file = File::open(path).map_err(EngineError::io("read", path))?;
        let (connection, page_size) = lock(path)?;
        let length = file.metadata().map_err(EngineError::io("read", path))?.len();
        let shape = PageSize::new(page_size).map(|size| (size, length / u64::from(size.get())));
        match shape.and_then(|(size, pages)| Some((size, u32::try_from(pages).ok()?))) {
            Some((page_size, pages)) => {
                Ok(Some(Base { connection, file, page_size, commit: Commit::new(pages) }))
            }
            None => Err(refused(format!("{} is no SQLite database", path.display()))),
        }
    }

    /// The files whose changes the database does not have: those from the one that applies to its digest. Where
    /// digests are unknown, all of them.
    fn newer<'f>(&self, files: &'f [LtxFile], path: &Path) -> Result<&'f [LtxFile], EngineError> {
        let (Some(first), Some(last)) = (files.first(), files.last()) else { return Ok(files) };
        if first.header.page_size != self.page_size {
            return Err(first.error(format!(
                "it holds pages of {} bytes, but those of {} have {}",
                first.header.page_size,
                path.display(),
                self.page_size
            )));
        }
        let digest = self.rolling(page_digest, path)?;
        if last.header.lineage.post_apply == Some(digest) {
            let txid = last.header.txids.max();
            return Err(refused(format!(
                "{} is at TXID {txid} already, and the files go no further",
                path.display()
            )));
        }
        let applies = |file: &LtxFile| file.header.lineage.pre_apply == Some(digest);
        match (files.iter().rposition(applies), first.header.lineage.pre_apply) {
            (Some(place), _) => Ok(&files[place..]),
            (None, Some(expected)) => Err(first.does_not_apply(expected, digest)),
            (None, None) if first.header.is_snapshot() => {
                let reason = format!("it holds a whole database, and {} exists already", path.display());
                Err(first.error(format!("{reason}; leave it out, or name a new database")))
            }
            (None, None) => Ok(files),
        }
    }

    /// Copies the database to the output, for the first file to be applied to it.
    fn copy_to(&self, output: &Output, first: &LtxFile, path: &Path) -> Result<State, EngineError> {
        let tracked = first.header.pre_apply.map(|_| self.rolling(page_checksum, path)).transpose()?;
        let permissions = self.file.metadata().map_err(EngineError::io("read", path))?.permissions();
        output.file().set_permissions(permissions).map_err(output.io("create"))?;
        io::copy(&mut &self.file, &mut output.file().as_ref()).map_err(output.io("write"))?;
        Ok(State { commit: self.commit, tracked })
    }

    fn rolling(&self, of_page: fn(Pgno, &[u8]) -> Checksum, path: &Path) -> Result<Checksum, EngineError> {
        rolling(&self.file, self.page_size, self.commit, of_page).map_err(EngineError::io("read", path))
    }

    /// Before the new database takes the place of this one: closing this one must not touch the files of that.
    fn leave_wal_alone(&self, path: &Path) -> Result<(), EngineError> {
        let set = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        set.map(|_| ()).map_err(EngineError::sqlite(path))
    }
}

/// Takes SQLite's exclusive lock, and tells the size of the pages.
fn lock(path: &Path) -> Result<(Connection, u32), EngineError> {
    let lock = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        connection.pragma_update(None, "locking_mode", "exclusive")?;
        connection.execute_batch("BEGIN EXCLUSIVE")?;
        let page_size = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        Ok((connection, page_size))
    };
    lock().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            refused(format!("{} is in use; stop what uses it, or apply to a copy", path.display()))
        }
        _ => EngineError::sqlite(path)(error),
    })
}
