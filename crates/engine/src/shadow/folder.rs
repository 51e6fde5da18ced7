//! The folder with the level-0 files of one database: `META/ltx/0/<min>-<max>.ltx`.
//!
//! Invariant: a file in it is whole, and files are only ever added at the end or removed at the beginning.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use walstream_ltx::{FileName, Header, Txid, TxidRange};

use crate::error::EngineError;
use crate::fs::{Disk, Staged, create_folder, stage};

/// The shadow WAL of one database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ShadowFolder {
    meta: PathBuf,
    level0: PathBuf,
    disk: Arc<dyn Disk>,
}

impl ShadowFolder {
    /// Opens the folder, creates what is missing, and removes what an interrupted write left behind.
    /// `model` is the folder whose mode and owner new folders get.
    pub(crate) fn open(meta: &Path, model: &Path, disk: Arc<dyn Disk>) -> Result<Self, EngineError> {
        let level0 = meta.join("ltx").join("0");
        create_folder(&level0, model)?;
        let folder = ShadowFolder { meta: meta.to_owned(), level0, disk };
        folder.remove_temporary(&folder.meta)?;
        folder.remove_temporary(&folder.level0)?;
        // A capture that failed or was killed at its very end leaves a name that is not durable. Before anything is
        // built on it, it must be.
        folder.disk.sync_folder(&folder.level0).map_err(EngineError::io("sync", &folder.level0))?;
        Ok(folder)
    }

    fn remove_temporary(&self, folder: &Path) -> Result<(), EngineError> {
        for name in names(folder)? {
            if name.ends_with(".tmp") {
                let path = folder.join(name);
                self.disk.remove(&path).map_err(EngineError::io("remove", &path))?;
            }
        }
        Ok(())
    }

    /// A file of ours in the metadata folder that is no LTX file.
    pub(crate) fn meta_file(&self, name: &str) -> PathBuf {
        self.meta.join(name)
    }

    /// The disk that this folder is on.
    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The files that are there, oldest first.
    pub(crate) fn files(&self) -> Result<Vec<TxidRange>, EngineError> {
        let names = names(&self.level0)?;
        let mut files: Vec<_> =
            names.iter().filter_map(|name| name.parse::<FileName>().ok()).map(|name| name.0).collect();
        files.sort_unstable();
        Ok(files)
    }

    /// The files that hold anything after `txid`, oldest first.
    pub(crate) fn files_after(&self, txid: Txid) -> Result<Vec<TxidRange>, EngineError> {
        let mut files = self.files()?;
        files.retain(|&file| file.max() > txid);
        Ok(files)
    }

    /// Where a file lies.
    pub(crate) fn path(&self, txids: TxidRange) -> PathBuf {
        self.level0.join(FileName(txids).to_string())
    }

    /// Opens a file for reading; `None` if it is not there.
    pub(crate) fn open_file(&self, txids: TxidRange) -> Result<Option<File>, EngineError> {
        let path = self.path(txids);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(EngineError::io("open", &path)(error)),
        }
    }

    /// Opens the file of these TXIDs, or the files of one TXID each that it was merged from, at most `most` of them;
    /// `None` if they are not all there.
    pub(crate) fn open_parts(
        &self,
        txids: TxidRange,
        most: usize,
    ) -> Result<Option<Vec<(TxidRange, File)>>, EngineError> {
        if most == 0 {
            return Ok(None);
        }
        if let Some(file) = self.open_file(txids)? {
            return Ok(Some(vec![(txids, file)]));
        }
        let count = txids.max().get() - txids.min().get() + 1;
        if count == 1 || count > most as u64 {
            return Ok(None);
        }
        let mut parts = Vec::new();
        for txid in txids.min().get()..=txids.max().get() {
            let Some(single) = TxidRange::single(Txid::new(txid)) else { return Ok(None) };
            let Some(file) = self.open_file(single)? else { return Ok(None) };
            parts.push((single, file));
        }
        Ok(Some(parts))
    }

    /// The header and the size of a file; `None` if it is not there, or not what its name says.
    pub(crate) fn describe(&self, txids: TxidRange) -> Result<Option<(Header, u64)>, EngineError> {
        let Some(file) = self.open_file(txids)? else { return Ok(None) };
        let size = file.metadata().map_err(EngineError::io("read", &self.path(txids)))?.len();
        let mut bytes = [0; Header::SIZE];
        let header = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| Header::parse(&bytes).ok());
        Ok(header.filter(|header| header.txids == txids).map(|header| (header, size)))
    }

    /// Writes a file; [`ShadowFolder::publish`] adds it to the folder.
    pub(crate) fn stage<T>(
        &self,
        txids: TxidRange,
        write: impl FnOnce(&mut dyn Write) -> Result<T, EngineError>,
    ) -> Result<(T, Staged), EngineError> {
        stage(self.disk.as_ref(), &self.path(txids), write)
    }

    /// Adds a file, durably.
    pub(crate) fn publish(&self, staged: Staged) -> Result<(), EngineError> {
        staged.publish(self.disk.as_ref())
    }

    /// Removes a file; one that is gone already is no error.
    pub(crate) fn remove(&self, txids: TxidRange) -> Result<(), EngineError> {
        let path = self.path(txids);
        match self.disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(EngineError::io("remove", &path)),
        }
    }
}

fn names(folder: &Path) -> Result<Vec<String>, EngineError> {
    let read = || {
        fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()
    };
    read().map_err(EngineError::io("list", folder))
}
