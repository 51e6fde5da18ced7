//! A disk that fails on command, and that forgets at a power cut what nobody made durable.
//!
//! It writes to the real file system, since the engine reads with the standard library, and keeps a journal of what
//! a power cut may take back: contents that were not synced, and names in folders that were not synced.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::random::Random;
use crate::fs::{Disk, DiskFile};

/// What will go wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// So many operations succeed before.
    pub(super) after: usize,
    pub(super) kind: io::ErrorKind,
    /// Every later operation fails too: the process has been killed, and only does not know it yet.
    pub(super) for_good: bool,
}

/// A change of names that a power cut may take back.
enum Change {
    Created(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
    Removed(PathBuf, Vec<u8>),
}

impl Change {
    fn folder(&self) -> Option<&Path> {
        let (Change::Created(path) | Change::Renamed { to: path, .. } | Change::Removed(path, _)) = self;
        path.parent()
    }

    fn take_back(self) {
        // What is not there any more need not be taken back.
        let _ = match self {
            Change::Created(path) => fs::remove_file(path),
            Change::Renamed { from, to, replaced } => {
                let renamed = fs::rename(&to, from);
                replaced.map_or(renamed, |content| fs::write(to, content))
            }
            Change::Removed(path, content) => fs::write(path, content),
        };
    }
}

#[derive(Default)]
struct State {
    failure: Option<Failure>,
    failed: usize,
    unsynced: BTreeSet<PathBuf>,
    journal: Vec<Change>,
}

/// The disk that holds the metadata folder. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct FragileDisk {
    state: Arc<Mutex<State>>,
}

impl FragileDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.state().failure = Some(failure);
    }

    pub(super) fn heal(&self) {
        self.state().failure = None;
    }

    /// How many operations have failed so far.
    pub(super) fn failed(&self) -> usize {
        self.state().failed
    }

    /// Whether the process that uses this disk is as good as dead.
    pub(super) fn is_dead(&self) -> bool {
        self.state().failure.is_some_and(|failure| failure.for_good && failure.after == 0)
    }

    /// Some of what was not made durable is gone, the latest first.
    pub(super) fn cut_power(&self, random: &mut Random) {
        let mut state = self.state();
        let keep = random.below(state.journal.len() + 1);
        let lost = state.journal.split_off(keep);
        lost.into_iter().rev().for_each(Change::take_back);
        for path in std::mem::take(&mut state.unsynced) {
            let Ok(mut content) = fs::read(&path) else { continue };
            let kept = random.below(content.len() + 1);
            if random.percent(50) {
                content.truncate(kept)
            } else {
                content[kept..].fill(0)
            }
            fs::write(path, content).unwrap();
        }
        state.journal.clear();
    }

    /// Counts an operation, and says whether it fails.
    fn operate(&self) -> io::Result<()> {
        let mut state = self.state();
        let Some(failure) = &mut state.failure else { return Ok(()) };
        if failure.after > 0 {
            failure.after -= 1;
            return Ok(());
        }
        let (kind, for_good) = (failure.kind, failure.for_good);
        state.failed += 1;
        if !for_good {
            state.failure = None;
        }
        Err(kind.into())
    }
}

impl Disk for FragileDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.operate()?;
        let is_new = !path.exists();
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        let mut state = self.state();
        state.unsynced.insert(path.to_owned());
        if is_new {
            state.journal.push(Change::Created(path.to_owned()));
        }
        Ok(Box::new(FragileFile { disk: self.clone(), path: path.to_owned(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate()?;
        let replaced = fs::read(to).ok();
        fs::rename(from, to)?;
        let mut state = self.state();
        state.unsynced.remove(to);
        if state.unsynced.remove(from) {
            state.unsynced.insert(to.to_owned());
        }
        state.journal.push(Change::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.operate()?;
        self.state().journal.retain(|change| change.folder() != Some(folder));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate()?;
        let content = fs::read(path)?;
        fs::remove_file(path)?;
        let mut state = self.state();
        state.unsynced.remove(path);
        state.journal.push(Change::Removed(path.to_owned(), content));
        Ok(())
    }
}

struct FragileFile {
    disk: FragileDisk,
    path: PathBuf,
    file: File,
}

impl Write for FragileFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.disk.operate() {
            Ok(()) => self.file.write(bytes),
            Err(error) => {
                // A disk that is full, or a process that is killed, has taken a part.
                self.file.write_all(&bytes[..bytes.len() / 2])?;
                Err(error)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskFile for FragileFile {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.operate()?;
        self.disk.state().unsynced.remove(&self.path);
        Ok(())
    }
}
