//! What `dbs` lists: databases one by one, and directories of them.
//!
//! Invariant: of several entries that a database belongs to, one of its own wins, and then the first directory.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::{ConfigError, DatabaseConfig};

/// The entries, in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    entries: Vec<Entry>,
    /// Databases with an entry of their own.
    singles: HashSet<PathBuf>,
}

/// One entry.
#[derive(Debug)]
pub(super) enum Entry {
    Single(DatabaseConfig),
    Directory(Directory),
}

impl Entries {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let single = |entry: &Entry| match entry {
            Entry::Single(database) => Some(database.path.clone()),
            Entry::Directory(_) => None,
        };
        Entries { singles: entries.iter().filter_map(single).collect(), entries }
    }

    /// Each entry.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Every database, with directories searched.
    pub(crate) fn databases(&self) -> Result<Vec<DatabaseConfig>, ConfigError> {
        let mut known = self.singles.clone();
        let mut databases = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::Single(database) => databases.push(database.clone()),
                Entry::Directory(directory) => {
                    let found = directory.search()?.into_iter();
                    databases.extend(found.filter(|database| known.insert(database.path.clone())));
                }
            }
        }
        Ok(databases)
    }

    /// The settings for a database file, which need not exist.
    pub(crate) fn find(&self, path: &Path) -> Option<DatabaseConfig> {
        let single = self.entries.iter().find_map(|entry| match entry {
            Entry::Single(database) if database.path == path => Some(database.clone()),
            _ => None,
        });
        single.or_else(|| self.directories().find_map(|directory| directory.database(path)))
    }

    /// The directories that are watched for new databases.
    pub(crate) fn watched(&self) -> impl Iterator<Item = &Path> {
        self.watched_directories().map(|directory| directory.path.as_path())
    }

    /// Whether a folder is to be watched: its databases, or those below it, are of interest.
    pub(crate) fn watches_folder(&self, folder: &Path) -> bool {
        self.watched_directories().any(|directory| directory.searches(folder))
    }

    /// The settings for a file that appears in a watched directory, if its name is that of a database.
    pub(crate) fn newcomer(&self, path: &Path) -> Option<DatabaseConfig> {
        let watched = || self.watched_directories().any(|directory| directory.covers(path));
        if self.singles.contains(path) || !watched() {
            return None;
        }
        self.directories().find_map(|directory| directory.database(path))
    }

    fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Single(_) => None,
            Entry::Directory(directory) => Some(directory),
        })
    }

    fn watched_directories(&self) -> impl Iterator<Item = &Directory> {
        self.directories().filter(|directory| directory.watch)
    }
}
