//! The system's own watches: one per folder, shared by everybody who is interested in it.
//!
//! Invariant: a folder is watched for as long as somebody holds a ticket for it that is not void.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use notify::{ErrorKind, Event, RecommendedWatcher, RecursiveMode, Watcher};

/// After the system has refused another watch, it is asked again after this time.
const REFUSED: Duration = Duration::from_secs(60);

pub(super) struct Folders {
    watcher: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, Users>,
    /// Tells the watches of a folder apart that was lost and came back.
    watches: u64,
    refused: Option<Instant>,
}

struct Users {
    count: usize,
    watch: u64,
}

/// A share in the watch of a folder.
#[derive(Debug)]
pub(super) struct Ticket {
    folder: PathBuf,
    watch: u64,
}

impl Ticket {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Folders {
    pub(super) fn new(told: impl Fn(notify::Result<Event>) + Send + 'static) -> Self {
        let watcher = notify::recommended_watcher(told);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "file-system events are not available, looking for changes by the clock");
        }
        Folders { watcher: watcher.ok(), watched: HashMap::new(), watches: 0, refused: None }
    }

    /// Watches a folder; `None` if that is not possible.
    pub(super) fn enter(&mut self, folder: &Path) -> Option<Ticket> {
        if let Some(users) = self.watched.get_mut(folder) {
            users.count += 1;
            return Some(Ticket { folder: folder.to_owned(), watch: users.watch });
        }
        if self.refused.is_some_and(|refused| refused.elapsed() < REFUSED) {
            return None;
        }
        match self.watcher.as_mut()?.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watches += 1;
                self.watched.insert(folder.to_owned(), Users { count: 1, watch: self.watches });
                Some(Ticket { folder: folder.to_owned(), watch: self.watches })
            }
            Err(error) => {
                self.refused(folder, &error);
                None
            }
        }
    }

    fn refused(&mut self, folder: &Path, error: &notify::Error) {
        let folder = folder.display();
        if matches!(error.kind, ErrorKind::MaxFilesWatch) {
            self.refused = Some(Instant::now());
            tracing::warn!(%folder, "no more folders can be watched, looking by the clock; raise fs.inotify.max_user_watches");
        } else {
            // Mostly it is not there, of which whoever waits for it knows.
            tracing::debug!(%folder, %error, "folder cannot be watched, looking by the clock");
        }
    }

    /// Gives a share back; true if it was the last one.
    pub(super) fn leave(&mut self, ticket: &Ticket) -> bool {
        let users = self.watched.get_mut(&ticket.folder).filter(|users| users.watch == ticket.watch);
        let Some(users) = users else { return false };
        users.count -= 1;
        let last = users.count == 0;
        if last {
            self.forget(&ticket.folder);
        }
        last
    }

    /// Ends the watch of a folder, which makes its tickets void.
    pub(super) fn forget(&mut self, folder: &Path) {
        self.watched.remove(folder);
        if let Some(watcher) = &mut self.watcher {
            // A folder that is gone needs no farewell.
            let _ = watcher.unwatch(folder);
        }
    }
}
