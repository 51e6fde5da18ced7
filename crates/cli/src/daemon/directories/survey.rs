//! What is in the watched directories, as of the last look.
//!
//! Invariant: a database is reported as appeared before it is reported as vanished, and neither twice in a row. One
//! that is known is not opened again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use walstream_engine::{FolderNews, FolderWatch, is_database};

use crate::config::{DatabaseConfig, Entries};

/// Two changes that are nearer to each other than this may give a file the same time.
const GRAIN: Duration = Duration::from_secs(2);

/// What happened to a database.
#[derive(Debug)]
pub(super) enum Change {
    Appeared(Box<DatabaseConfig>),
    Vanished(PathBuf),
}

/// The folders, and the databases that are known in them.
pub(super) struct Survey {
    entries: Entries,
    watch: FolderWatch,
    folders: BTreeMap<PathBuf, Folder>,
    databases: BTreeSet<PathBuf>,
    changes: Vec<Change>,
}

/// A folder whose databases are of interest.
struct Folder {
    /// As it was when it was listed; `None` if it may have changed since without showing it.
    listed: Option<Stamp>,
    /// Whether its events can be had.
    listening: bool,
    /// Files with the name of a database that are none yet.
    unripe: BTreeMap<PathBuf, Stamp>,
}

/// If it is the same, so is the file or the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: Option<SystemTime>,
}

impl Survey {
    /// Begins with what is replicated already.
    pub(super) fn new(entries: Entries, watch: FolderWatch, started: &[DatabaseConfig]) -> Self {
        let known = started.iter().filter(|database| entries.newcomer(&database.path).is_some());
        let databases = known.map(|database| database.path.clone()).collect();
        Survey { entries, watch, folders: BTreeMap::new(), databases, changes: Vec::new() }
    }

    /// Waits until something happens in a folder.
    pub(super) async fn news(&self) {
        self.watch.wait().await;
    }

    /// Whether something may change without an event.
    pub(super) fn is_blind(&self) -> bool {
        self.entries.watched().any(|root| !self.folders.contains_key(root))
            || self.folders.values().any(|folder| !folder.listening)
    }

    /// Looks where something happened.
    pub(super) fn look_at_news(&mut self) -> Vec<Change> {
        let FolderNews { paths, missed } = self.watch.take();
        if missed {
            return self.look_everywhere();
        }
        for path in paths {
            self.look_at(&path);
        }
        std::mem::take(&mut self.changes)
    }

    /// Looks at every folder, and lists those that changed.
    pub(super) fn look_everywhere(&mut self) -> Vec<Change> {
        let known: BTreeSet<PathBuf> = self.folders.keys().cloned().collect();
        for folder in &known {
            self.look_at_known_folder(folder);
        }
        let roots: Vec<PathBuf> = self.entries.watched().map(Path::to_owned).collect();
        for root in roots {
            // It may be a symbolic link, which those below it may not.
            if !self.folders.contains_key(&root) && root.is_dir() {
                self.enter(&root);
            }
        }
        std::mem::take(&mut self.changes)
    }

    fn look_at(&mut self, path: &Path) {
        let is_root = self.entries.watched().any(|root| root == path);
        let found = if is_root { fs::metadata(path) } else { fs::symlink_metadata(path) };
        match found {
            Ok(metadata) if metadata.is_dir() => self.enter(path),
            Ok(_) => self.look_at_file(path),
            Err(_) => self.lose(path),
        }
    }

    fn look_at_file(&mut self, path: &Path) {
        if self.folders.contains_key(path) {
            self.lose(path);
        }
        if self.databases.contains(path) {
            return;
        }
        let Some(database) = self.entries.newcomer(path) else { return };
        let stamp = fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata));
        let ripe = is_database(path);
        let folder = path.parent().and_then(|folder| self.folders.get_mut(folder));
        if let (Some(folder), Some(stamp)) = (folder, stamp) {
            folder.unripe.remove(path);
            if !ripe {
                folder.unripe.insert(path.to_owned(), stamp);
            }
        }
        if ripe {
            self.databases.insert(path.to_owned());
            self.changes.push(Change::Appeared(Box::new(database)));
        }
    }

    fn look_at_known_folder(&mut self, path: &Path) {
        let Some(folder) = self.folders.get(path) else { return };
        let Ok(metadata) = fs::metadata(path) else { return self.lose(path) };
        let same_folder = folder.listed.is_none_or(|listed| listed.inode == metadata.ino());
        if !folder.listening || !same_folder {
            return self.enter(path);
        }
        let grown = |(file, stamp): (&PathBuf, &Stamp)| {
            let now = fs::metadata(file).ok().map(|metadata| Stamp::of(&metadata));
            (now != Some(*stamp)).then(|| file.clone())
        };
        let grown: Vec<PathBuf> = folder.unripe.iter().filter_map(grown).collect();
        if folder.listed != Some(Stamp::of(&metadata)) {
            self.list(path);
        }
        for file in grown {
            self.look_at(&file);
        }
    }

    /// Watches a folder and those below it, from anew if it is known, and lists them.
    fn enter(&mut self, path: &Path) {
        if !self.entries.watches_folder(path) {
            return;
        }
        // Before it is listed, so that nothing appears unseen in between.
        let listening = self.watch.enter(path);
        let folder = Folder { listed: None, listening, unripe: BTreeMap::new() };
        self.folders.insert(path.to_owned(), folder);
        self.list(path);
    }

    fn list(&mut self, path: &Path) {
        let stamp = fs::metadata(path).ok().and_then(|metadata| Stamp::of(&metadata).if_settled());
        let Ok(listing) = fs::read_dir(path) else { return self.lose(path) };
        let mut present = HashSet::new();
        for entry in listing.flatten() {
            let path = entry.path();
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.look_at_file(&path);
            } else if !self.folders.contains_key(&path) {
                self.enter(&path);
            }
            present.insert(path);
        }
        for gone in self.known_in(path).filter(|path| !present.contains(path)).collect::<Vec<_>>() {
            self.lose(&gone);
        }
        if let Some(folder) = self.folders.get_mut(path) {
            folder.listed = stamp;
        }
    }

    /// The databases and folders that are known directly in a folder.
    fn known_in<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        let databases = below(folder, self.databases.range(folder.to_owned()..));
        let folders = below(folder, self.folders.range(folder.to_owned()..).map(|(path, _)| path));
        databases.chain(folders).filter(|path| path.parent() == Some(folder)).cloned()
    }

    /// A path leads nowhere any more, nor does what was below it.
    fn lose(&mut self, path: &Path) {
        if let Some(folder) = path.parent().and_then(|folder| self.folders.get_mut(folder)) {
            folder.unripe.remove(path);
        }
        let from = path.to_owned()..;
        for folder in
            below(path, self.folders.range(from.clone()).map(|(path, _)| path)).cloned().collect::<Vec<_>>()
        {
            self.watch.leave(&folder);
            self.folders.remove(&folder);
        }
        for database in below(path, self.databases.range(from)).cloned().collect::<Vec<_>>() {
            self.databases.remove(&database);
            self.changes.push(Change::Vanished(database));
        }
    }
}

/// Of paths in order, from a path on: those at or below it. They are one stretch.
fn below<'a>(path: &Path, from: impl Iterator<Item = &'a PathBuf>) -> impl Iterator<Item = &'a PathBuf> {
    from.take_while(move |other| other.starts_with(path))
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Stamp { inode: metadata.ino(), size: metadata.size(), modified: metadata.modified().ok() }
    }

    /// Itself, if what changes from now on will show.
    fn if_settled(self) -> Option<Self> {
        let age = self.modified?.elapsed().ok()?;
        (age >= GRAIN).then_some(self)
    }
}
