//! The local disk, as far as the shadow WAL writes to it.
//!
//! Invariant: a file appears under its final name only after its bytes are on disk. A power cut before the
//! rename leaves a `*.tmp` file, which the next start removes; after it, the whole file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::EngineError;

/// What the engine does to the local disk. Tests put a disk in its place that fails on command.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Creates or empties a file.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file its final name, over what had it before.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub(crate) trait DiskFile: Write + Send {
    /// Makes its bytes durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// The machine's own disk. Files get the mode and, where we may, the owner of the database.
#[derive(Clone, Debug)]
pub(crate) struct SystemDisk {
    mode: u32,
    owner: (u32, u32),
}

impl SystemDisk {
    /// A disk whose files look like `database`.
    pub(crate) fn like(database: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(database)?;
        Ok(SystemDisk { mode: metadata.mode() & 0o777, owner: (metadata.uid(), metadata.gid()) })
    }
}

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(self.mode).open(path)?;
        // Only root may give files away; for everybody else they belong to the right user already.
        let _ = std::os::unix::fs::fchown(&file, Some(self.owner.0), Some(self.owner.1));
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

/// Writes a file by way of a temporary name: write, fsync, rename, fsync the folder.
///
/// Crash points: before the rename nothing but a `*.tmp` is left; between the rename and the last fsync the
/// file may be there or not, whole in either case.
pub(crate) fn write_durably<T>(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, EngineError>,
) -> Result<T, EngineError> {
    let (value, staged) = stage(disk, path, write)?;
    staged.publish(disk)?;
    Ok(value)
}

/// A file that is written but neither durable nor there under its name. If it is dropped so, it was never there.
pub(crate) struct Staged {
    file: Box<dyn DiskFile>,
    path: PathBuf,
}

/// The first half of [`write_durably`]: no fsync yet.
pub(crate) fn stage<T>(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, EngineError>,
) -> Result<(T, Staged), EngineError> {
    let temporary = temporary_name(path);
    let attempt = || {
        let file = disk.create(&temporary).map_err(EngineError::io("create", &temporary))?;
        let mut out = BufWriter::with_capacity(128 * 1024, file);
        let value = write(&mut out)?;
        let flushed = out.into_inner().map_err(io::IntoInnerError::into_error);
        let file = flushed.map_err(EngineError::io("write", &temporary))?;
        Ok((value, Staged { file, path: path.to_owned() }))
    };
    attempt().inspect_err(|_| discard(disk, path))
}

impl Staged {
    /// The second half of [`write_durably`].
    pub(crate) fn publish(mut self, disk: &dyn Disk) -> Result<(), EngineError> {
        let temporary = temporary_name(&self.path);
        let mut attempt = || {
            self.file.sync().map_err(EngineError::io("sync", &temporary))?;
            disk.rename(&temporary, &self.path).map_err(EngineError::io("rename", &temporary))?;
            let folder = self.path.parent().unwrap_or(Path::new("/"));
            disk.sync_folder(folder).map_err(EngineError::io("sync", folder))
        };
        attempt().inspect_err(|_| discard(disk, &self.path))
    }
}

/// The error that matters is the one before; what cannot be removed now is removed at the next start.
fn discard(disk: &dyn Disk, path: &Path) {
    let _ = disk.remove(&temporary_name(path));
}

/// `PATH.tmp`.
fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    PathBuf::from(name)
}

/// Creates a folder and its missing parents with the mode and, where we may, the owner of `model`.
pub(crate) fn create_folder(path: &Path, model: &Path) -> Result<(), EngineError> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new("/"));
    create_folder(parent, model)?;
    let like = fs::metadata(model).map_err(EngineError::io("read", model))?;
    match fs::DirBuilder::new().mode(like.mode() & 0o7777).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other.map_err(EngineError::io("create", path))?,
    }
    let _ = std::os::unix::fs::chown(path, Some(like.uid()), Some(like.gid()));
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(EngineError::io("sync", parent))
}
