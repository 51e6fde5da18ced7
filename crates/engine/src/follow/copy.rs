//! A database that follows a replica, while applications read it.
//!
//! Invariant: pages and mark change in one transaction of SQLite's own, so that every reader sees a state that was
//! captured, whole, and goes on to see it for as long as his transaction lasts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use walstream_ltx::{Checksum, Commit, PageSize, Pgno, page_digest};

use crate::error::EngineError;
use crate::restore::mark::Mark;

/// Readers keep nobody waiting; another writer would.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A followed database.
pub(super) struct LocalCopy {
    path: PathBuf,
    connection: Connection,
}

impl LocalCopy {
    /// Opens a database that is there.
    pub(super) fn open(path: &Path) -> Result<Self, EngineError> {
        let open = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            // What the mark says must survive a power cut together with the pages.
            connection.pragma_update(None, "synchronous", "FULL")?;
            Ok(connection)
        };
        let connection = open().map_err(EngineError::sqlite(path))?;
        Ok(LocalCopy { path: path.to_owned(), connection })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the copy stands, if it was followed before.
    pub(super) fn mark(&self) -> Result<Option<Mark>, EngineError> {
        let page = page(&self.connection, Pgno::FIRST).map_err(EngineError::sqlite(&self.path))?;
        Ok(Mark::of(&page))
    }

    pub(super) fn page_size(&self) -> Result<PageSize, EngineError> {
        let size = self.number("PRAGMA page_size")?;
        PageSize::new(size).ok_or_else(|| self.no_database())
    }

    /// The digest of the database, and how many pages it has. Reads all of it.
    pub(super) fn digest(&self) -> Result<(Checksum, Commit), EngineError> {
        let (lock, pages) = (self.page_size()?.lock_pgno(), self.number("PRAGMA page_count")?);
        let digest = || {
            let mut all = self.connection.prepare("SELECT pgno, data FROM sqlite_dbpage")?;
            let (mut rows, mut digest) = (all.query([])?, Checksum::EMPTY);
            while let Some(row) = rows.next()? {
                let pgno = Pgno::new(row.get(0)?).filter(|&pgno| pgno != lock);
                if let (Some(pgno), Ok(page)) = (pgno, row.get_ref(1)?.as_blob()) {
                    digest = digest.toggle(page_digest(pgno, page));
                }
            }
            Ok(digest)
        };
        Ok((digest().map_err(EngineError::sqlite(&self.path))?, Commit::new(pages)))
    }

    fn number(&self, pragma: &str) -> Result<u32, EngineError> {
        let number = self.connection.query_row(pragma, [], |row| row.get(0));
        number.map_err(EngineError::sqlite(&self.path))
    }

    fn no_database(&self) -> EngineError {
        EngineError::NotReplicable { path: self.path.clone(), reason: "it is no SQLite database".into() }
    }

    /// Begins to change it. Readers see nothing of it before [`Step::commit`], and nothing at all without.
    pub(super) fn begin(&mut self) -> Result<Step<'_>, EngineError> {
        let sqlite = EngineError::sqlite(&self.path);
        begin(&mut self.connection, &self.path).map_err(sqlite)
    }
}

fn begin<'copy>(connection: &'copy mut Connection, path: &'copy Path) -> rusqlite::Result<Step<'copy>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // SQLite must not vacuum at the commit, by what it knew of the database before: what was captured is vacuumed.
    transaction.execute_batch("PRAGMA auto_vacuum = incremental")?;
    let pages = transaction.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    Ok(Step { transaction, path, pages, first: None })
}

/// A change of the copy.
pub(super) struct Step<'copy> {
    transaction: Transaction<'copy>,
    path: &'copy Path,
    /// How many pages there may be by now.
    pages: u32,
    /// The new page 1. It is written last, with the mark.
    first: Option<Vec<u8>>,
}

impl Step<'_> {
    /// Puts a page in place.
    pub(super) fn write(&mut self, pgno: Pgno, data: &[u8]) -> Result<(), EngineError> {
        if pgno == Pgno::FIRST {
            self.first = Some(data.to_owned());
            return Ok(());
        }
        self.put(pgno, Some(data))
    }

    /// The same, if there is something else in its place.
    pub(super) fn write_if_different(&mut self, pgno: Pgno, data: &[u8]) -> Result<(), EngineError> {
        let is_there = pgno.get() <= self.pages;
        if is_there && page(&self.transaction, pgno).map_err(EngineError::sqlite(self.path))? == data {
            return Ok(());
        }
        self.write(pgno, data)
    }

    /// Ends with a database of so many pages that is in the state of `mark`, durably.
    pub(super) fn commit(mut self, pages: Commit, mark: Mark) -> Result<(), EngineError> {
        let sqlite = || EngineError::sqlite(self.path);
        let mut first = match self.first.take() {
            Some(first) => first,
            None => page(&self.transaction, Pgno::FIRST).map_err(sqlite())?,
        };
        mark.put(&mut first);
        self.put(Pgno::FIRST, Some(&first))?;
        if let Some(beyond) =
            Pgno::new(pages.get().saturating_add(1)).filter(|beyond| beyond.get() <= self.pages)
        {
            // Cuts the database off before this page. Only the last thing that is written may do so.
            self.put(beyond, None)?;
        }
        self.transaction.commit().map_err(EngineError::sqlite(self.path))
    }

    fn put(&mut self, pgno: Pgno, data: Option<&[u8]>) -> Result<(), EngineError> {
        self.pages = self.pages.max(pgno.get());
        let sql = "INSERT INTO sqlite_dbpage(pgno, data) VALUES (?1, ?2)";
        let put = || self.transaction.prepare_cached(sql)?.execute((pgno.get(), data));
        put().map(|_| ()).map_err(EngineError::sqlite(self.path))
    }
}

fn page(connection: &Connection, pgno: Pgno) -> rusqlite::Result<Vec<u8>> {
    let mut page = connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")?;
    page.query_row([pgno.get()], |row| row.get(0))
}
