//! The socket file: made, and taken away again.
//!
//! Invariants: the file never has wider permissions than asked for: it comes into being in a folder that nobody else can
//! enter, and moves to its place when it is ready. Nothing is removed but a socket that nobody listens on.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::config::SocketSettings;

/// The file of a socket that is listened on.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Begins to listen.
pub(super) async fn listen(settings: &SocketSettings) -> io::Result<(UnixListener, SocketFile)> {
    let path = &settings.path;
    check_free(path).await?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let room = tempfile::Builder::new().prefix(".s").rand_bytes(4).tempdir_in(folder)?;
    let made = room.path().join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, Permissions::from_mode(settings.mode))?;
    let inode = fs::metadata(&made)?.ino();
    fs::rename(&made, path)?;
    Ok((listener, SocketFile { path: path.clone(), inode }))
}

/// Whether the place is free, or taken by a socket that is of no use any more.
async fn check_free(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("there is a file which is no socket"));
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(io::Error::other("another process listens there")),
        Err(_) => Ok(()),
    }
}

impl SocketFile {
    /// Removes it, unless somebody else has taken its place.
    pub(super) fn remove(&self) {
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove control socket");
        }
    }
}
