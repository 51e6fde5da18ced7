//! What can be said about a replica in a directory.

use std::path::PathBuf;

/// A replica in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileConfig {
    /// The directory. It is made when the first file is written.
    pub path: Option<PathBuf>,
    /// Who may use the files; `None` leaves it to the process.
    pub access: Option<FileAccess>,
}

/// Owner and permissions of what is written, usually those of the database and its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileAccess {
    /// Permission bits of files.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub dir_mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}
