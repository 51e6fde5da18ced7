//! A file on its way to its name.
//!
//! Invariant: dropped before [`TempFile::publish`] is through, it is gone.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use walstream_ltx::Timestamp;

use crate::client::PutOutcome;
use crate::config::FileAccess;
use crate::error::StorageError;

/// Where locks do not tell, a file is abandoned when it has not been written to for this long.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// A file that is synced all at once holds up every other sync on the same disk, and the application's commits with it.
const SYNC_EVERY: usize = 4 << 20;

pub(super) struct TempFile {
    file: File,
    /// Bytes that were written since the last sync.
    unsynced: usize,
    target: PathBuf,
    cleanup: RemoveOnDrop,
}

/// Apart from [`TempFile`], so that methods may take the rest of it to pieces.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        // Already renamed, or beyond help: `init` removes it later.
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether a name is one that [`TempFile::create`] gives.
pub(super) fn is_temp_name(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.contains(".ltx.") && name.ends_with(".tmp"))
}

/// Whether nobody works on a temporary file any more: its lock ended with its writer, or it is very old.
pub(super) fn is_abandoned(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let age = file.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
    file.try_lock().is_ok() || age.is_some_and(|age| age > ABANDONED_AFTER)
}

/// A name beside `target` that no other writer uses. Missing folders are made.
fn free_name(target: &Path, access: Option<FileAccess>) -> Result<PathBuf, StorageError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    if let Some(folder) = target.parent() {
        make_folders(folder, access)?;
    }
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    Ok(target.with_file_name(format!(".{name}.{}-{nanos}-{number}.tmp", std::process::id())))
}

impl TempFile {
    /// An empty file in the folder of `target`, under a name that no other writer uses. Missing folders are made.
    pub(super) fn create(target: &Path, access: Option<FileAccess>) -> Result<Self, StorageError> {
        let path = free_name(target, access)?;
        let mode = access.map_or(0o666, |access| access.file_mode);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        let file = file.map_err(StorageError::io("create", &path))?;
        let temp = Self::locked(file, target, RemoveOnDrop(path));
        if let Some(access) = access {
            let permit = || {
                unless_forbidden(fchown(&temp.file, Some(access.uid), Some(access.gid)))?;
                temp.file.set_permissions(Permissions::from_mode(access.file_mode))
            };
            permit().map_err(StorageError::io("set the owner of", temp.path()))?;
        }
        Ok(temp)
    }

    /// `source` under one more name: on the same file system a file that nobody changes need not be copied. `None`
    /// where that cannot be, or where the copy would belong to somebody else.
    pub(super) fn link(
        source: &Path,
        target: &Path,
        access: Option<FileAccess>,
    ) -> Result<Option<Self>, StorageError> {
        let Some(access) = access else { return Ok(None) };
        let meta = fs::metadata(source).map_err(StorageError::io("read", source))?;
        let theirs = (meta.mode() & 0o7777, meta.uid(), meta.gid());
        if theirs != (access.file_mode, access.uid, access.gid) {
            return Ok(None);
        }
        let path = free_name(target, Some(access))?;
        if fs::hard_link(source, &path).is_err() {
            return Ok(None);
        }
        let cleanup = RemoveOnDrop(path);
        // A file that must not be written to cannot be given its time; a copy can.
        Ok(OpenOptions::new()
            .write(true)
            .open(&cleanup.0)
            .ok()
            .map(|file| Self::locked(file, target, cleanup)))
    }

    /// Locked: this says that somebody is at work on it. A file system without locks leaves it to the file's age.
    fn locked(file: File, target: &Path, cleanup: RemoveOnDrop) -> Self {
        let _ = file.try_lock();
        TempFile { file, unsynced: 0, target: target.to_owned(), cleanup }
    }

    pub(super) fn path(&self) -> &Path {
        &self.cleanup.0
    }

    pub(super) fn write(mut self, chunks: &[Bytes]) -> Result<Self, StorageError> {
        for chunk in chunks {
            self.file.write_all(chunk).map_err(StorageError::io("write", &self.cleanup.0))?;
            self.unsynced += chunk.len();
        }
        if self.unsynced > SYNC_EVERY {
            self.file.sync_data().map_err(StorageError::io("sync", &self.cleanup.0))?;
            self.unsynced = 0;
        }
        Ok(self)
    }

    pub(super) fn copy_from(mut self, source: &Path) -> Result<Self, StorageError> {
        let mut from = File::open(source).map_err(StorageError::io("open", source))?;
        io::copy(&mut from, &mut self.file).map_err(StorageError::io("write", &self.cleanup.0))?;
        Ok(self)
    }

    /// Gives the file its time and its name, durably, unless the name is taken.
    pub(super) fn publish(self, created_at: Timestamp) -> Result<PutOutcome, StorageError> {
        // The time comes before the name: no crash may leave a file under its name with the time of the upload.
        if let Some(time) = system_time(created_at) {
            self.file.set_modified(time).map_err(StorageError::io("set the time of", self.path()))?;
        }
        self.file.sync_all().map_err(StorageError::io("sync", self.path()))?;
        match rename_new(self.path(), &self.target) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Ok(PutOutcome::AlreadyExists);
            }
            Err(source) => return Err(StorageError::io("create", &self.target)(source)),
        }
        if let Some(folder) = self.target.parent() {
            sync_folder(folder)?;
        }
        Ok(PutOutcome::Created)
    }
}

/// Renames a file to a name that must be free. File systems differ in how they can promise that: most know it as a
/// kind of rename, network file systems as a hard link; the last resort only looks before it renames.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        done => return Ok(done?),
    }
    match fs::hard_link(from, to) {
        Err(error) if error.raw_os_error().is_some_and(cannot_link) => {}
        // The old name goes with the temporary file.
        done => return done,
    }
    match to.try_exists()? {
        true => Err(io::ErrorKind::AlreadyExists.into()),
        false => fs::rename(from, to),
    }
}

fn cannot_link(code: i32) -> bool {
    [Errno::PERM, Errno::NOSYS, Errno::NOTSUP, Errno::MLINK].iter().any(|errno| errno.raw_os_error() == code)
}

/// Makes a folder and those above it, each durable in its parent before the next.
fn make_folders(folder: &Path, access: Option<FileAccess>) -> Result<(), StorageError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent();
    if let Some(parent) = parent {
        make_folders(parent, access)?;
    }
    match DirBuilder::new().mode(access.map_or(0o777, |access| access.dir_mode)).create(folder) {
        Ok(()) => {}
        // Another writer was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(source) => return Err(StorageError::io("create", folder)(source)),
    }
    if let Some(access) = access {
        let permit = || {
            unless_forbidden(chown(folder, Some(access.uid), Some(access.gid)))?;
            fs::set_permissions(folder, Permissions::from_mode(access.dir_mode))
        };
        permit().map_err(StorageError::io("set the owner of", folder))?;
    }
    parent.map_or(Ok(()), sync_folder)
}

fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some network file systems cannot, and keep names in their own way.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Ok(())
        }
        done => done.map_err(StorageError::io("sync", folder)),
    }
}

/// Only root may give files away; anyone else keeps them, as with the peer.
fn unless_forbidden(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// `None` for times that the system's clock type cannot hold.
fn system_time(time: Timestamp) -> Option<SystemTime> {
    let millis = time.as_millis();
    let distance = Duration::from_millis(millis.unsigned_abs());
    if millis >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_a_new_name_refuses_a_taken_one() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::write(&from, "new").unwrap();
        rename_new(&from, &to).unwrap();
        assert!(!from.exists());

        fs::write(&from, "other").unwrap();
        assert_eq!(rename_new(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::hard_link(&from, &to).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&to).unwrap(), b"new");
    }
}
