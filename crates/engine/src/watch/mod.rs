//! Waking databases when their files change, and telling who looks after a folder what comes and goes in it.
//!
//! Invariant: an event is a hint and nothing more. Missing one delays a capture until the next slow look;
//! a false one costs a glance at the wal-index.
//!
//! One watch per folder, however many databases are in it.

mod folders;
mod news;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind};
use tokio::sync::Notify;

use folders::{Folders, Ticket};
use news::News;
pub use news::{FolderNews, FolderWatch};

/// Watches the folders of databases. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watch {
    audience: Arc<Mutex<Audience>>,
    folders: Arc<Mutex<Folders>>,
}

/// Who is told of what. The thread that brings events locks this and nothing else, and nobody holds this while
/// asking that thread for anything.
#[derive(Default)]
struct Audience {
    /// By the path of the database; an event of its WAL wakes it too.
    databases: HashMap<PathBuf, Arc<Sleeper>>,
    /// Who looks after which folder.
    folders: HashMap<PathBuf, Vec<Arc<News>>>,
    /// The folders that are watched.
    watched: HashSet<PathBuf>,
    /// Those that were deleted or renamed since, so that their watch is one on something else, or on nothing.
    lost: HashSet<PathBuf>,
}

#[derive(Default)]
struct Sleeper {
    notify: Notify,
    muted: AtomicBool,
}

/// Being woken; ends when dropped.
pub(crate) struct Wake {
    sleeper: Arc<Sleeper>,
    path: PathBuf,
    watch: Watch,
    ticket: Option<Ticket>,
}

impl Watch {
    /// A watch on nothing yet. Where the system offers none, databases are looked at by the clock alone.
    pub(crate) fn new() -> Self {
        let audience = Arc::<Mutex<Audience>>::default();
        let told = Arc::clone(&audience);
        let folders = Folders::new(move |event| lock(&told).tell(event));
        Watch { audience, folders: Arc::new(Mutex::new(folders)) }
    }

    /// Wakes the caller whenever a database or its WAL changes.
    pub(crate) fn database(&self, path: &Path) -> Wake {
        let path = real_path(path);
        let sleeper = Arc::new(Sleeper::default());
        lock(&self.audience).databases.insert(path.clone(), Arc::clone(&sleeper));
        let ticket = self.enter(path.parent());
        Wake { sleeper, path, watch: self.clone(), ticket }
    }

    /// Watches a folder, given by its real path; `None`: there are no events to be had.
    fn enter(&self, folder: Option<&Path>) -> Option<Ticket> {
        let folder = folder?;
        let mut folders = lock(&self.folders);
        if lock(&self.audience).lost.remove(folder) {
            folders.forget(folder);
        }
        let ticket = folders.enter(folder)?;
        lock(&self.audience).watched.insert(folder.to_owned());
        Some(ticket)
    }

    fn leave(&self, ticket: &Ticket) {
        let mut folders = lock(&self.folders);
        if folders.leave(ticket) {
            let mut audience = lock(&self.audience);
            audience.watched.remove(ticket.folder());
            audience.lost.remove(ticket.folder());
        }
    }
}

impl Wake {
    /// Waits for the next change.
    pub(crate) async fn wait(&self) {
        self.sleeper.notify.notified().await;
    }

    /// Whether events can be expected. If not, the database must be looked at more often.
    pub(crate) fn is_listening(&self) -> bool {
        self.ticket.is_some()
    }

    /// Asks for no more events: while a database is busy, looking at it by the clock costs less than an event
    /// for every write.
    pub(crate) fn mute(&mut self) {
        self.sleeper.muted.store(true, Ordering::Relaxed);
        if let Some(ticket) = self.ticket.take() {
            self.watch.leave(&ticket);
        }
    }

    /// Asks for events again; false: there are none to be had. Whoever calls this looks at the database once more
    /// afterwards.
    pub(crate) fn listen(&mut self) -> bool {
        self.sleeper.muted.store(false, Ordering::Relaxed);
        if self.ticket.is_none() {
            self.ticket = self.watch.enter(self.path.parent());
        }
        self.ticket.is_some()
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        let mut audience = lock(&self.watch.audience);
        if audience.databases.get(&self.path).is_some_and(|other| Arc::ptr_eq(other, &self.sleeper)) {
            audience.databases.remove(&self.path);
        }
        drop(audience);
        self.mute();
    }
}

impl Sleeper {
    fn wake(&self) {
        if !self.muted.load(Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }
}

impl Audience {
    fn tell(&mut self, event: notify::Result<Event>) {
        let Ok(event) = event else { return };
        if event.need_rescan() {
            self.databases.values().for_each(|sleeper| sleeper.wake());
            self.folders.values().flatten().for_each(|news| news.missed());
            return;
        }
        let named = match event.kind {
            EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => true,
            EventKind::Modify(ModifyKind::Metadata(_)) | EventKind::Access(_) => return,
            _ => false,
        };
        let renamed = event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::From));
        for path in &event.paths {
            let known = self.wake_database(path);
            // A write to a file that nobody knows may be what makes it a database.
            if named || !known {
                self.tell_folder(path);
            }
            if (renamed || matches!(event.kind, EventKind::Remove(_))) && self.watched.remove(path) {
                self.lost.insert(path.clone());
                // What is deleted is told of by its own name; what moves with its folder is not.
                let moved = self.databases.iter().filter(|(database, _)| database.parent() == Some(path));
                moved.for_each(|(_, sleeper)| sleeper.wake());
            }
        }
    }

    /// Wakes whose file this is; false if it is nobody's.
    fn wake_database(&self, path: &Path) -> bool {
        let of_wal = || self.databases.get(&database_of_wal(path)?);
        let Some(sleeper) = self.databases.get(path).or_else(of_wal) else { return false };
        sleeper.wake();
        true
    }

    fn tell_folder(&self, path: &Path) {
        if is_side_file(path) {
            return;
        }
        let of_folder = path.parent().and_then(|folder| self.folders.get(folder));
        of_folder.into_iter().chain(self.folders.get(path)).flatten().for_each(|news| news.add(path));
    }
}

/// The database that a path is the WAL of, if it is one's.
fn database_of_wal(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    Some(path.with_file_name(name.strip_suffix("-wal")?))
}

/// Whether SQLite made this file beside a database.
fn is_side_file(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    [&b"-wal"[..], b"-shm", b"-journal"].iter().any(|suffix| name.ends_with(suffix))
}

/// The path that events carry: that of the folder that was watched, which must be the real one, and the name.
fn real_path(path: &Path) -> PathBuf {
    let of_folder = || Some(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
    std::fs::canonicalize(path).ok().or_else(of_folder).unwrap_or_else(|| path.to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
