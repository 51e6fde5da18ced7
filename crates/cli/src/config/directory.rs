//! A directory entry of `dbs`: every SQLite database in it whose name matches a pattern.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use walstream_engine::{default_meta_path, is_database};
use walstream_storage::ReplicaConfig;

use super::glob::Glob;
use super::{ConfigError, DatabaseConfig, DatabaseSettings};

/// What a directory entry says.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(super) path: PathBuf,
    pub(super) pattern: Glob,
    pub(super) recursive: bool,
    /// Whether databases that appear while the daemon runs are taken, and those that are deleted released.
    pub(super) watch: bool,
    /// Folder below which the metadata folders are laid out like the databases.
    pub(super) meta_path: Option<PathBuf>,
    /// The same with the layout `<meta-dir>/<database>-litestream`.
    pub(super) meta_dir: Option<PathBuf>,
    /// The replica of a database is below this one, under the database's relative path.
    pub(super) replica: ReplicaConfig,
    pub(super) settings: DatabaseSettings,
}

impl Directory {
    /// The databases that are there now, in order of their paths.
    pub(super) fn search(&self) -> Result<Vec<DatabaseConfig>, ConfigError> {
        let mut found = Vec::new();
        self.search_below(&self.path, &mut found).map_err(|(path, error)| {
            ConfigError::new(format!("cannot search directory {}: {error}", path.display()))
        })?;
        if found.is_empty() && !self.watch {
            return Err(ConfigError::new(format!(
                "no SQLite databases found in directory {}",
                self.path.display()
            ))
            .hint("look at pattern and recursive; an empty file is not a database yet"));
        }
        found.sort();
        Ok(found.iter().filter_map(|path| self.database(path)).collect())
    }

    /// The settings for a database below this directory, whether or not it exists.
    pub(super) fn database(&self, path: &Path) -> Option<DatabaseConfig> {
        if !self.covers(path) {
            return None;
        }
        let relative = path.strip_prefix(&self.path).ok()?;
        Some(DatabaseConfig {
            path: path.to_owned(),
            meta_path: self.meta_path_of(path, relative),
            replica: self.replica.clone().below(relative),
            settings: self.settings.clone(),
        })
    }

    /// Whether a path is that of a database of this directory, going by its name alone.
    pub(super) fn covers(&self, path: &Path) -> bool {
        let Some(folder) = path.strip_prefix(&self.path).ok().and_then(Path::parent) else { return false };
        (self.recursive || folder == Path::new("")) && path.file_name().is_some_and(|name| self.names(name))
    }

    /// Whether the databases in a folder belong to this directory. The replica may lie in it and is no part of it, nor
    /// are metadata folders.
    pub(super) fn searches(&self, folder: &Path) -> bool {
        let replica = match &self.replica {
            ReplicaConfig::File(file) => file.path.as_deref(),
            _ => None,
        };
        let below = || self.recursive && folder.starts_with(&self.path) && !is_meta_folder(folder);
        folder == self.path || (below() && Some(folder) != replica)
    }

    /// The pattern, and never a file that SQLite makes beside a database.
    fn names(&self, name: &OsStr) -> bool {
        let side_file = ["-wal", "-shm", "-journal"];
        name.to_str().is_some_and(|name| {
            self.pattern.matches(name) && !side_file.iter().any(|suffix| name.ends_with(suffix))
        })
    }

    fn meta_path_of(&self, path: &Path, relative: &Path) -> PathBuf {
        match (&self.meta_path, &self.meta_dir) {
            (Some(base), _) => default_meta_path(&base.join(relative)),
            (None, Some(base)) => {
                let mut folder = base.join(relative).into_os_string();
                folder.push("-litestream");
                folder.into()
            }
            (None, None) => default_meta_path(path),
        }
    }

    /// Symbolic links to directories are not followed, so the search ends.
    fn search_below(&self, folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), (PathBuf, io::Error)> {
        let at = |error| (folder.to_owned(), error);
        for entry in fs::read_dir(folder).map_err(at)? {
            let entry = entry.map_err(at)?;
            let path = entry.path();
            if entry.file_type().map_err(at)?.is_dir() {
                if self.searches(&path) {
                    self.search_below(&path, found)?;
                }
            } else if self.names(&entry.file_name()) && is_database(&path) {
                found.push(path);
            }
        }
        Ok(())
    }
}

fn is_meta_folder(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(b"-litestream"))
}
