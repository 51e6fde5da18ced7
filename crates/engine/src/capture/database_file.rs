//! The descriptors that this process has of database files.
//!
//! Invariant: at most one for each file, whatever names it has. Closing any descriptor of a file drops all POSIX locks
//! that the process has on it, those of SQLite's connections too. So whoever wants to read a database file shares the
//! descriptor that is open, and it is closed when the last one has let go of it.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

/// How every SQLite database begins.
pub(super) const MAGIC: [u8; 16] = *b"SQLite format 3\0";

/// A database file that is open.
pub(crate) struct DatabaseFile {
    // Dropped in this order: the entry stays until the descriptor is closed.
    file: File,
    entry: Entry,
}

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Identity(u64, u64);

/// A line in the books, struck out when dropped.
struct Entry(Identity);

type Books = HashMap<Identity, Weak<DatabaseFile>>;

static OPEN: LazyLock<Mutex<Books>> = LazyLock::new(Mutex::default);
static CLOSED: Condvar = Condvar::new();

impl DatabaseFile {
    /// Opens a file for reading, or shares the descriptor that is open.
    pub(super) fn open(path: &Path) -> io::Result<Arc<Self>> {
        let mut open = books();
        loop {
            let identity = Identity::of(&fs::metadata(path)?);
            match open.get(&identity).map(Weak::upgrade) {
                Some(Some(shared)) => return Ok(shared),
                // Its last user has let go of it and is about to close it.
                Some(None) => open = CLOSED.wait(open).unwrap_or_else(PoisonError::into_inner),
                None => {
                    let file = File::open(path)?;
                    if Identity::of(&file.metadata()?) != identity {
                        return Err(io::Error::other("it was replaced while it was opened"));
                    }
                    let file = Arc::new(DatabaseFile { file, entry: Entry(identity) });
                    open.insert(identity, Arc::downgrade(&file));
                    return Ok(file);
                }
            }
        }
    }

    pub(super) fn identity(&self) -> Identity {
        self.entry.0
    }
}

impl Deref for DatabaseFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Identity(metadata.dev(), metadata.ino())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        books().remove(&self.0);
        CLOSED.notify_all();
    }
}

fn books() -> MutexGuard<'static, Books> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a file begins as every SQLite database does. One that cannot be read is none, nor is one that is empty yet.
/// Safe to ask of a database that is being replicated.
pub fn is_database(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    // Opening a named pipe would wait for a writer.
    if !metadata.is_file() || metadata.len() < MAGIC.len() as u64 {
        return false;
    }
    // Held until the file is closed again, so that nobody begins to use it meanwhile.
    let open = books();
    if open.contains_key(&Identity::of(&metadata)) {
        return true;
    }
    let mut magic = [0; MAGIC.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == MAGIC
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_of_a_file_share_one_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let (name, other) = (folder.path().join("a.db"), folder.path().join("b.db"));
        fs::write(&name, b"SQLite format 3\0 and so on").unwrap();
        fs::hard_link(&name, &other).unwrap();
        let first = DatabaseFile::open(&name).unwrap();
        assert!(Arc::ptr_eq(&first, &DatabaseFile::open(&other).unwrap()));
        let identity = first.identity();
        drop(first);
        assert!(!books().contains_key(&identity));
        DatabaseFile::open(&name).unwrap();
    }

    #[test]
    fn looking_at_a_database_leaves_the_locks_of_its_connections() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
        let _replicated = DatabaseFile::open(&path).unwrap();
        let locks = || fs::read_to_string("/proc/locks").unwrap().matches(&inode(&path)).count();
        let before = locks();
        assert!(is_database(&path));
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
    }
}
