//! The local state of a database, for those who do not replicate it: looked at, or removed.
//!
//! Invariant: nothing is removed while somebody replicates the database, and of the database itself nothing is touched.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use walstream_ltx::{FileName, Txid};

use super::owner_lock::OwnerLock;
use crate::capture::page_map;
use crate::error::EngineError;

/// Where the local state of a database is.
#[derive(Clone, Debug)]
pub struct LocalState {
    meta: PathBuf,
}

impl LocalState {
    /// That in a metadata folder, which need not exist.
    pub fn at(meta: &Path) -> Self {
        LocalState { meta: meta.to_owned() }
    }

    /// Whether there is a metadata folder.
    pub fn exists(&self) -> bool {
        self.meta.is_dir()
    }

    /// The folder with the LTX files.
    pub fn ltx_folder(&self) -> PathBuf {
        self.meta.join("ltx")
    }

    /// The newest captured TXID; `None` if there is none.
    pub fn txid(&self) -> Result<Option<Txid>, EngineError> {
        let name = |path: PathBuf| path.file_name()?.to_str()?.parse::<FileName>().ok();
        let files = list(&self.ltx_folder().join("0"))?.into_iter().filter_map(name);
        Ok(files.map(|name| name.0.max()).max())
    }

    /// Every LTX file, level by level.
    pub fn files(&self) -> Result<Vec<PathBuf>, EngineError> {
        let mut files = Vec::new();
        for level in list(&self.ltx_folder())?.into_iter().filter(|path| path.is_dir()) {
            files.extend(list(&level)?.into_iter().filter(|path| path.extension() == Some("ltx".as_ref())));
        }
        Ok(files)
    }

    /// Removes the LTX files, and the page map that goes with them. An error if a process replicates `database`.
    ///
    /// Crash points: between the two, the map is gone and the files lead on, which a start takes for a lost map.
    pub fn remove(&self, database: &Path) -> Result<(), EngineError> {
        let _owner = OwnerLock::acquire(&self.meta, database)?;
        let map = self.meta.join(page_map::NAME);
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        gone(fs::remove_file(&map)).map_err(EngineError::io("remove", &map))?;
        let folder = self.ltx_folder();
        gone(fs::remove_dir_all(&folder)).map_err(EngineError::io("remove", &folder))
    }
}

/// What is in a folder, in order of the names. A folder that is not there is empty.
fn list(folder: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let read = || fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(EngineError::io("list", folder))?,
    };
    paths.sort_unstable();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_replicated_just_now_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let state = LocalState::at(folder.path());
        assert_eq!((state.txid().unwrap(), state.files().unwrap()), (None, Vec::new()));
        let level0 = state.ltx_folder().join("0");
        fs::create_dir_all(&level0).unwrap();
        for txid in [1, 2] {
            fs::write(level0.join(format!("{txid:016x}-{txid:016x}.ltx")), "x").unwrap();
        }
        fs::write(level0.join("other"), "x").unwrap();
        assert_eq!((state.txid().unwrap(), state.files().unwrap().len()), (Some(Txid::new(2)), 2));

        let owner = OwnerLock::acquire(folder.path(), "app.db".as_ref()).unwrap();
        let refused = state.remove("app.db".as_ref()).unwrap_err().to_string();
        assert!(refused.contains("stop it first"), "{refused}");
        assert!(level0.exists());
        drop(owner);
        state.remove("app.db".as_ref()).unwrap();
        state.remove("app.db".as_ref()).unwrap();
        assert!(!state.ltx_folder().exists() && state.exists());
    }
}
