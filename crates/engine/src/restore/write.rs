//! The restored database on disk.
//!
//! Invariant: the output path shows either what was there before or the whole, verified, durable database.
//! All writing goes to `OUT.tmp`, which is gone again after any failure.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OpenFlags};
use walstream_ltx::{Checksum, Header, PageSize, Pgno};

use super::IntegrityCheck;
use super::mark::Mark;
use super::progress::Counts;
use crate::error::EngineError;

/// Consecutive pages are written by one call up to this many bytes.
const RUN: usize = 256 << 10;
/// What SQLite keeps beside a database, and would mix with a restored one.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Refuses an output path that a restore may not or cannot replace.
pub fn check_output(path: &Path, overwrite: bool) -> Result<(), EngineError> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => {
            return Err(refused(format!("output path is a directory: {}", path.display())));
        }
        Ok(found) if found.len() > 0 && !overwrite => {
            return Err(refused(format!(
                "output path already exists and is not empty: {}. Use -force to overwrite",
                path.display()
            )));
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(EngineError::io("read", path)(error)),
    }
    let left_over = SIDECARS.iter().map(|suffix| with_suffix(path, suffix)).find(|path| path.exists());
    match left_over {
        Some(sidecar) if !overwrite => Err(refused(format!(
            "{} of an earlier database exists and would be mixed with the restored one. Use -force to remove it",
            sidecar.display()
        ))),
        _ => Ok(()),
    }
}

fn refused(reason: String) -> EngineError {
    EngineError::Output(format!("cannot restore, {reason}"))
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

fn remove_if_there(path: &Path) -> Result<(), EngineError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(EngineError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A database that is being written. Dropped before [`Output::publish`] succeeded, it leaves nothing behind.
pub(super) struct Output {
    path: PathBuf,
    temporary: PathBuf,
    file: Arc<File>,
    published: bool,
}

impl Output {
    /// Creates the temporary file, and the folders on the way to it.
    pub(super) fn create(path: &Path) -> Result<Output, EngineError> {
        let folder = folder_of(path);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(EngineError::io("create", folder))?;
        let temporary = with_suffix(path, ".tmp");
        let file = create_locked(&temporary)?;
        let output = Output { path: path.to_owned(), temporary, file: Arc::new(file), published: false };
        output.remove_sidecars_of_temporary()?;
        Ok(output)
    }

    /// Gives the file its size. Pages that are never written, such as the lock page, read as zeros.
    pub(super) fn resize(&self, header: &Header, counts: Arc<Counts>) -> Result<PageSink, EngineError> {
        let Header { page_size, commit, .. } = *header;
        let size = u64::from(commit.get()) * u64::from(page_size.get());
        self.file.set_len(size).map_err(EngineError::io("resize", &self.temporary))?;
        let (file, path) = (Arc::clone(&self.file), self.temporary.as_path().into());
        Ok(PageSink { file, path, page_size, counts, spare: Arc::default() })
    }

    /// The temporary file.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// For `map_err`: an error of the temporary file.
    pub(super) fn io(&self, action: &'static str) -> impl FnOnce(io::Error) -> EngineError {
        EngineError::io(action, &self.temporary)
    }

    /// Creates a WAL beside the temporary file, for [`Output::checkpoint`].
    pub(super) fn create_wal(&self) -> Result<File, EngineError> {
        let path = with_suffix(&self.temporary, "-wal");
        let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
        options.open(&path).map_err(EngineError::io("create", &path))
    }

    /// Lets SQLite apply the WAL and returns how many of its frames were valid.
    pub(super) fn checkpoint(&self) -> Result<u64, EngineError> {
        let applied = open(&self.temporary).and_then(|database| {
            database.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(1))
        });
        let applied = applied.map_err(EngineError::sqlite(&self.path));
        self.remove_sidecars_of_temporary()?;
        Ok(u64::try_from(applied?).unwrap_or_default())
    }

    /// The error for pages that do not add up to the database that was captured.
    pub(super) fn mismatch(&self, expected: Checksum, found: Checksum) -> EngineError {
        let reason = format!("the captured database has the checksum {expected}, its pages give {found}");
        EngineError::Verification { path: self.path.clone(), reason }
    }

    /// Lets SQLite look at every page of the temporary file.
    pub(super) fn check_integrity(&self, check: IntegrityCheck) -> Result<(), EngineError> {
        let pragma = match check {
            IntegrityCheck::None => return Ok(()),
            IntegrityCheck::Quick => "quick_check",
            IntegrityCheck::Full => "integrity_check",
        };
        let answer = first_row(&self.temporary, pragma).map_err(EngineError::sqlite(&self.path));
        self.remove_sidecars_of_temporary()?;
        match answer?.as_str() {
            "ok" => Ok(()),
            problem => Err(EngineError::Verification {
                path: self.path.clone(),
                reason: format!("post-restore integrity check: {problem}"),
            }),
        }
    }

    /// Notes in the database which state it is in.
    pub(super) fn mark(&self, mark: Mark) -> Result<(), EngineError> {
        let mut header = [0; Mark::HEADER_SIZE];
        self.file.read_exact_at(&mut header, 0).map_err(self.io("read"))?;
        mark.put(&mut header);
        self.file.write_all_at(&header, 0).map_err(self.io("write"))
    }

    /// Makes the database durable and gives it its name, in the place of a database that was there before.
    ///
    /// Crash points: until the rename the old database is there, but without its WAL once the sidecars are
    /// removed (they would be mixed with the new database); after it, the new one is.
    pub(super) fn publish(mut self) -> Result<(), EngineError> {
        let folder = folder_of(&self.path);
        self.file.sync_all().map_err(EngineError::io("sync", &self.temporary))?;
        for suffix in SIDECARS {
            remove_if_there(&with_suffix(&self.path, suffix))?;
        }
        fs::rename(&self.temporary, &self.path).map_err(EngineError::io("rename", &self.temporary))?;
        self.published = true;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(EngineError::io("sync", folder))
    }

    fn remove_sidecars_of_temporary(&self) -> Result<(), EngineError> {
        SIDECARS.iter().try_for_each(|suffix| remove_if_there(&with_suffix(&self.temporary, suffix)))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.published {
            // The error that ended the restore is the one to tell.
            let _ = fs::remove_file(&self.temporary);
            let _ = self.remove_sidecars_of_temporary();
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Creates a file that no other restore is writing; what one left behind that was killed is removed.
fn create_locked(path: &Path) -> Result<File, EngineError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let file = match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let left_over = options.open(path).map_err(EngineError::io("open", path))?;
            lock(&left_over, path)?;
            remove_if_there(path)?;
            options.create_new(true).open(path).map_err(EngineError::io("create", path))?
        }
        other => other.map_err(EngineError::io("create", path))?,
    };
    lock(&file, path)?;
    Ok(file)
}

fn lock(file: &File, path: &Path) -> Result<(), EngineError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(refused(format!("another restore is writing {}; wait for it or stop it", path.display())))
        }
        // A file system without locks: nothing can be said about other restores.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(EngineError::io("lock", path)(error)),
    }
}

/// Opens a temporary file for SQLite. It is ours alone, so nothing is locked and no `-shm` file is made.
pub(super) fn open(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags_and_vfs(path, flags, c"unix-none")?;
    database.pragma_update(None, "locking_mode", "exclusive")?;
    Ok(database)
}

fn first_row(path: &Path, pragma: &str) -> Result<String, rusqlite::Error> {
    open(path)?.query_row(&format!("PRAGMA {pragma}(1)"), [], |row| row.get(0))
}

/// Takes pages to their place in the file; one for each thread.
#[derive(Clone)]
pub(super) struct PageSink {
    file: Arc<File>,
    path: Arc<Path>,
    page_size: PageSize,
    counts: Arc<Counts>,
    /// Runs that were written, to be filled again.
    spare: Arc<Mutex<Vec<Run>>>,
}

impl PageSink {
    pub(super) fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// An empty run.
    pub(super) fn run(&self) -> Run {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Run::new(self.page_size))
    }

    /// Writes the pages of a run.
    pub(super) fn write(&self, mut run: Run) -> Result<(), EngineError> {
        let pages = &run.bytes[..run.filled];
        let written = self.file.write_all_at(pages, self.page_size.offset_of(run.first));
        written.map_err(EngineError::io("write", &self.path))?;
        self.counts.add_written(run.pages());
        run.filled = 0;
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(run);
        Ok(())
    }
}

/// Consecutive pages that are written together.
pub(super) struct Run {
    page_size: PageSize,
    first: Pgno,
    bytes: Box<[u8]>,
    filled: usize,
}

impl Run {
    fn new(page_size: PageSize) -> Self {
        Run { page_size, first: Pgno::FIRST, bytes: vec![0; RUN].into_boxed_slice(), filled: 0 }
    }

    /// How many pages it holds.
    fn pages(&self) -> usize {
        self.filled / self.page_size.bytes()
    }

    /// Whether a page can follow those that are there.
    pub(super) fn accepts(&self, pgno: Pgno) -> bool {
        let next = self.first.index() + self.pages();
        self.filled == 0 || (pgno.index() == next && self.filled < self.bytes.len())
    }

    /// Room for a page that the run accepts, to be filled by the caller.
    pub(super) fn push(&mut self, pgno: Pgno) -> &mut [u8] {
        debug_assert!(self.accepts(pgno));
        if self.filled == 0 {
            self.first = pgno;
        }
        let start = self.filled;
        self.filled += self.page_size.bytes();
        &mut self.bytes[start..self.filled]
    }
}
