//! Waking databases when their files change.
//!
//! Invariant: an event is a hint and nothing more. Missing one delays a capture until the next slow look;
//! a false one costs a glance at the wal-index.
//!
//! One watch per folder, however many databases are in it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Who is woken by a change of which file.
type Sleepers = Arc<Mutex<HashMap<PathBuf, Arc<Notify>>>>;

/// Watches the folders of databases. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Watch {
    sleepers: Sleepers,
    folders: Arc<Mutex<Folders>>,
}

struct Folders {
    watcher: Option<RecommendedWatcher>,
    users: HashMap<PathBuf, usize>,
}

/// Being woken; ends when dropped.
pub(crate) struct Wake {
    notify: Arc<Notify>,
    files: [PathBuf; 2],
    watch: Watch,
    listening: bool,
}

impl Watch {
    /// A watch on nothing yet. Where the system offers none, databases are looked at by the clock alone.
    pub(crate) fn new() -> Self {
        let sleepers = Sleepers::default();
        let woken = Arc::clone(&sleepers);
        let watcher = notify::recommended_watcher(move |event| wake(&woken, event));
        if let Err(error) = &watcher {
            tracing::warn!(%error, "file-system events are not available, looking for changes by the clock");
        }
        let folders = Folders { watcher: watcher.ok(), users: HashMap::new() };
        Watch { sleepers, folders: Arc::new(Mutex::new(folders)) }
    }

    /// Wakes the caller whenever a database or its WAL changes.
    pub(crate) fn database(&self, path: &Path) -> Wake {
        // Events carry the path that was watched, so it must be the real one.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut wal = path.clone().into_os_string();
        wal.push("-wal");
        let files = [path, PathBuf::from(wal)];
        let notify = Arc::new(Notify::new());
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        for file in &files {
            sleepers.insert(file.clone(), Arc::clone(&notify));
        }
        drop(sleepers);
        let listening = self.enter(files[0].parent());
        Wake { notify, files, watch: self.clone(), listening }
    }

    fn enter(&self, folder: Option<&Path>) -> bool {
        let Some(folder) = folder else { return false };
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(users) = folders.users.get_mut(folder) {
            *users += 1;
            return true;
        }
        let Some(watcher) = &mut folders.watcher else { return false };
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {
                folders.users.insert(folder.to_owned(), 1);
                true
            }
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "folder cannot be watched, looking by the clock");
                false
            }
        }
    }

    fn leave(&self, folder: Option<&Path>) {
        let Some(folder) = folder else { return };
        let mut folders = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(users) = folders.users.get_mut(folder) else { return };
        *users -= 1;
        if *users == 0 {
            folders.users.remove(folder);
            if let Some(watcher) = &mut folders.watcher {
                // A folder that is gone needs no farewell.
                let _ = watcher.unwatch(folder);
            }
        }
    }
}

impl Wake {
    /// Waits for the next change.
    pub(crate) async fn wait(&self) {
        self.notify.notified().await;
    }

    /// Whether events can be expected. If not, the database must be looked at more often.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening
    }

    /// Asks for no more events: while a database is busy, looking at it by the clock costs less than an event
    /// for every write.
    pub(crate) fn mute(&mut self) {
        if std::mem::take(&mut self.listening) {
            self.watch.leave(self.files[0].parent());
        }
    }

    /// Asks for events again. Whoever calls this looks at the database once more afterwards.
    pub(crate) fn listen(&mut self) {
        if !self.listening {
            self.listening = self.watch.enter(self.files[0].parent());
        }
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        let mut sleepers = self.watch.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        for file in &self.files {
            if sleepers.get(file).is_some_and(|notify| Arc::ptr_eq(notify, &self.notify)) {
                sleepers.remove(file);
            }
        }
        drop(sleepers);
        self.mute();
    }
}

fn wake(sleepers: &Sleepers, event: notify::Result<Event>) {
    let Ok(event) = event else { return };
    let sleepers = sleepers.lock().unwrap_or_else(PoisonError::into_inner);
    if event.need_rescan() {
        sleepers.values().for_each(|sleeper| sleeper.notify_one());
        return;
    }
    let content = match event.kind {
        EventKind::Create(_) | EventKind::Remove(_) => true,
        EventKind::Modify(kind) => !matches!(kind, ModifyKind::Metadata(_)),
        _ => false,
    };
    if content {
        event.paths.iter().filter_map(|path| sleepers.get(path)).for_each(|sleeper| sleeper.notify_one());
    }
}
