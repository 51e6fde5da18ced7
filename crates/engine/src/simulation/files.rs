//! What people do to the files of a database, past SQLite: put another one in its place, delete it, set the machine
//! back to an earlier moment.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::disk::FragileDisk;

/// The wal-index is rebuilt by whoever comes first, and needs no copy.
const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];

/// A database, its companions and its metadata folder.
pub(super) struct Files {
    database: PathBuf,
    meta: PathBuf,
    aside: PathBuf,
    disk: FragileDisk,
}

impl Files {
    /// `aside` is a folder for copies.
    pub(super) fn new(database: &Path, meta: &Path, aside: PathBuf, disk: FragileDisk) -> Self {
        Files { database: database.to_owned(), meta: meta.to_owned(), aside, disk }
    }

    fn path(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.database);
        name.push(suffix);
        name.into()
    }

    /// The WAL as it is; it may be read at any time, since SQLite takes no locks on it.
    pub(super) fn wal(&self) -> Vec<u8> {
        fs::read(self.path("-wal")).unwrap_or_default()
    }

    /// Another database takes the place of this one, as a person would do it.
    pub(super) fn replace(&self, content: &[u8]) {
        let new = self.path(".new");
        fs::write(&new, content).unwrap();
        self.delete_companions();
        fs::rename(new, &self.database).unwrap();
        self.disk.make_durable(&self.database);
    }

    /// The same, in the same file. Nobody may have it open.
    pub(super) fn overwrite(&self, content: &[u8]) {
        self.delete_companions();
        fs::write(&self.database, content).unwrap();
        self.disk.make_durable(&self.database);
    }

    /// The database is no more.
    pub(super) fn delete(&self) {
        self.delete_companions();
        let _ = fs::remove_file(&self.database);
        self.disk.make_durable(&self.database);
    }

    fn delete_companions(&self) {
        for suffix in ["-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(self.path(suffix));
            self.disk.make_durable(&self.path(suffix));
        }
    }

    /// Removes the WAL of a closed database, if everything in it is in the database file as well.
    pub(super) fn remove_wal(&self) -> bool {
        // Whoever closes last copies everything, and leaves the WAL only if told so.
        let connection = rusqlite::Connection::open(&self.database).unwrap();
        let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).is_ok();
        drop(connection);
        done && !self.path("-wal").exists()
    }

    /// Copies everything aside, while it is open: by another process, since closing a descriptor here would drop the
    /// locks of this one.
    pub(super) fn copy_aside(&self) {
        let _ = fs::remove_dir_all(&self.aside);
        fs::create_dir_all(&self.aside).unwrap();
        let copy = |from: &Path, to: &str| {
            if from.exists() {
                let done = Command::new("cp").arg("-r").arg(from).arg(self.aside.join(to)).status().unwrap();
                assert!(done.success());
            }
        };
        SUFFIXES.iter().for_each(|suffix| copy(&self.path(suffix), &format!("copy{suffix}")));
        copy(&self.meta, "meta");
    }

    /// Puts everything back as it was when it was copied. Nobody may have it open. False: it was never copied.
    pub(super) fn put_back(&self) -> bool {
        if !self.aside.join("copy").exists() {
            return false;
        }
        self.delete();
        for suffix in SUFFIXES {
            let copy = self.aside.join(format!("copy{suffix}"));
            if copy.exists() {
                fs::copy(copy, self.path(suffix)).unwrap();
            }
        }
        let _ = fs::remove_dir_all(&self.meta);
        let copy = self.aside.join("meta");
        if copy.exists() {
            let done = Command::new("cp").arg("-r").arg(copy).arg(&self.meta).status().unwrap();
            assert!(done.success());
        }
        true
    }
}
