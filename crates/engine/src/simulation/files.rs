//! The files of the database from outside: killed processes, power cuts, replacements, missing files.
//!
//! A process is killed by copying its files aside while they are open, closing everything, and putting the copies
//! back. The copies are made by another process, since closing a descriptor here would drop the locks of this one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::random::Random;

const SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];
const WAL_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// A database and its companions.
pub(super) struct Files {
    database: PathBuf,
    aside: PathBuf,
    /// The salts of the last WAL that lay there closed, and how many frames it may have had. Whoever opens it next no
    /// longer knows which of them a checkpoint has synced.
    closed_wal: (Vec<u8>, usize),
}

impl Files {
    /// `aside` is a folder for copies.
    pub(super) fn new(database: &Path, aside: PathBuf) -> Self {
        fs::create_dir_all(&aside).unwrap();
        Files { database: database.to_owned(), aside, closed_wal: (Vec::new(), 0) }
    }

    fn path(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.database);
        name.push(suffix);
        name.into()
    }

    fn copy(&self, suffix: &str) -> PathBuf {
        self.aside.join(format!("copy{suffix}"))
    }

    /// The WAL as it is; it may be read at any time, since SQLite takes no locks on it.
    pub(super) fn wal(&self) -> Vec<u8> {
        fs::read(self.path("-wal")).unwrap_or_default()
    }

    /// Copies everything aside, while it is open.
    pub(super) fn copy_aside(&self) {
        for suffix in SUFFIXES {
            let _ = fs::remove_file(self.copy(suffix));
            if self.path(suffix).exists() {
                let done = Command::new("cp").arg(self.path(suffix)).arg(self.copy(suffix)).status().unwrap();
                assert!(done.success());
            }
        }
    }

    /// Puts everything back as it was when it was copied, once it is closed. The wal-index is rebuilt by whoever
    /// comes first, and needs no copy.
    pub(super) fn put_back(&self) {
        for suffix in SUFFIXES {
            let _ = fs::remove_file(self.path(suffix));
        }
        for suffix in ["", "-wal"] {
            if self.copy(suffix).exists() {
                fs::copy(self.copy(suffix), self.path(suffix)).unwrap();
            }
        }
    }

    /// Nobody has the database open.
    pub(super) fn note_closed(&mut self) {
        let wal = self.wal();
        if wal.len() > WAL_HEADER {
            self.closed_wal = (wal[16..24].to_vec(), (wal.len() - WAL_HEADER) / frame_size(&wal));
        }
    }

    /// What [`Files::put_back`] put there loses the end of its WAL, from some frame on that no checkpoint has synced.
    pub(super) fn lose_wal_tail(&self, random: &mut Random) {
        let (mut wal, shm) = (self.wal(), fs::read(self.copy("-shm")).unwrap_or_default());
        if wal.len() < WAL_HEADER || shm.len() < 100 {
            return;
        }
        let native = |at: usize| u32::from_ne_bytes(shm[at..at + 4].try_into().unwrap()) as usize;
        let (frames, backfilled) = (native(16), native(96));
        let (closed, closed_frames) = &self.closed_wal;
        let synced = if closed[..] == wal[16..24] { backfilled.max(*closed_frames) } else { backfilled };
        let kept = synced + random.below(frames.saturating_sub(synced) + 1);
        let kept = WAL_HEADER + frame_size(&wal) * kept;
        let kept = kept.min(wal.len());
        if random.percent(50) {
            wal.truncate(kept)
        } else {
            wal[kept..].fill(0)
        }
        fs::write(self.path("-wal"), wal).unwrap();
    }

    /// Another database takes the place of this one, as a person would do it.
    pub(super) fn replace(&self, content: &[u8]) {
        let new = self.path(".new");
        fs::write(&new, content).unwrap();
        for suffix in ["-wal", "-shm"] {
            let _ = fs::remove_file(self.path(suffix));
        }
        fs::rename(new, &self.database).unwrap();
    }

    /// Removes the WAL of a closed database, if everything in it is in the database file as well.
    pub(super) fn remove_wal(&self) -> bool {
        // Whoever closes last copies everything, and leaves the WAL only if told so.
        let connection = rusqlite::Connection::open(&self.database).unwrap();
        let done = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).is_ok();
        drop(connection);
        done && !self.path("-wal").exists()
    }
}

/// Of a WAL that has a header.
fn frame_size(wal: &[u8]) -> usize {
    FRAME_HEADER + u32::from_be_bytes(wal[8..12].try_into().unwrap()) as usize
}
