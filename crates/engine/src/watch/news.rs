//! What comes and goes in folders.
//!
//! Invariant: news is bounded. Where more happens than is fetched, it says that something was missed, and whoever
//! looks after the folders looks at all of them.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::folders::Ticket;
use super::{Watch, lock};

/// More paths than this are not remembered.
const MOST: usize = 100_000;

/// Paths at which something happened.
#[derive(Debug, Default)]
pub struct FolderNews {
    /// What was created, deleted, renamed or, unless it is a database that is being replicated, written to.
    pub paths: HashSet<PathBuf>,
    /// Something happened that is not among the paths.
    pub missed: bool,
}

/// News that waits to be fetched.
#[derive(Default)]
pub(super) struct News {
    waiting: Mutex<FolderNews>,
    arrived: Notify,
}

/// Looks after some folders.
pub struct FolderWatch {
    watch: Watch,
    news: Arc<News>,
    /// By the path that the caller knows.
    folders: HashMap<PathBuf, Ticket>,
    /// The caller's path of a folder, by the one that events carry.
    names: HashMap<PathBuf, PathBuf>,
}

impl News {
    pub(super) fn add(&self, path: &Path) {
        let mut waiting = lock(&self.waiting);
        if waiting.paths.len() >= MOST {
            *waiting = FolderNews { paths: HashSet::new(), missed: true };
        } else if !waiting.paths.contains(path) {
            waiting.paths.insert(path.to_owned());
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    pub(super) fn missed(&self) {
        lock(&self.waiting).missed = true;
        self.arrived.notify_one();
    }
}

impl FolderWatch {
    pub(crate) fn new(watch: Watch) -> Self {
        FolderWatch { watch, news: Arc::default(), folders: HashMap::new(), names: HashMap::new() }
    }

    /// Looks after one more folder, but not those in it. False: there are no events of it to be had.
    pub fn enter(&mut self, folder: &Path) -> bool {
        self.leave(folder);
        let Ok(real) = std::fs::canonicalize(folder) else { return false };
        let Some(ticket) = self.watch.enter(Some(&real)) else { return false };
        let mut audience = lock(&self.watch.audience);
        audience.folders.entry(real.clone()).or_default().push(Arc::clone(&self.news));
        self.folders.insert(folder.to_owned(), ticket);
        self.names.insert(real, folder.to_owned());
        true
    }

    /// Looks after a folder no longer.
    pub fn leave(&mut self, folder: &Path) {
        let Some(ticket) = self.folders.remove(folder) else { return };
        self.names.remove(ticket.folder());
        let mut audience = lock(&self.watch.audience);
        if let Some(told) = audience.folders.get_mut(ticket.folder()) {
            told.retain(|news| !Arc::ptr_eq(news, &self.news));
            if told.is_empty() {
                audience.folders.remove(ticket.folder());
            }
        }
        drop(audience);
        self.watch.leave(&ticket);
    }

    /// Waits until there is news.
    pub async fn wait(&self) {
        self.news.arrived.notified().await;
    }

    /// What happened since this was last asked, in the caller's own paths.
    pub fn take(&self) -> FolderNews {
        let FolderNews { paths, missed } = mem::take(&mut *lock(&self.news.waiting));
        FolderNews { paths: paths.into_iter().filter_map(|path| self.name(&path)).collect(), missed }
    }

    fn name(&self, real: &Path) -> Option<PathBuf> {
        match self.names.get(real.parent()?) {
            Some(folder) => Some(folder.join(real.file_name()?)),
            None => self.names.get(real).cloned(),
        }
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        let folders: Vec<PathBuf> = self.folders.keys().cloned().collect();
        folders.iter().for_each(|folder| self.leave(folder));
    }
}
