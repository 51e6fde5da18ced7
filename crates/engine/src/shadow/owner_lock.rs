//! One process per database: an advisory lock on a file in the metadata folder.
//!
//! Invariant: while the lock is held no other walstream captures this database. The lock is the kernel's, so
//! it ends with the process, however that ends.
//!
//! The lock belongs to the open file, not to its descriptor, and a mapping keeps the file open. So the descriptor is
//! closed: ten thousand databases have ten thousand of them. Where the file system does not see it that way (overlayfs
//! and NFS do not), which is tried, the descriptor stays.

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::ptr::{self, NonNull};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::error::EngineError;

const NAME: &str = "walstream.lock";

/// Held for as long as the database is replicated.
pub(crate) struct OwnerLock {
    _held: Held,
}

/// What keeps the locked file open.
enum Held {
    ByMapping { _mapping: Mapping },
    ByDescriptor { _file: File },
}

impl OwnerLock {
    /// Takes the lock, or says who has it.
    pub(crate) fn acquire(meta: &Path, database: &Path) -> Result<Self, EngineError> {
        let path = meta.join(NAME);
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            options.open(&path).map_err(EngineError::io("open", &path))
        };
        let mut file = open()?;
        if !try_lock(&file).map_err(EngineError::io("lock", &path))? {
            let mut owner = String::new();
            let _ = file.read_to_string(&mut owner);
            let owner = if owner.trim().is_empty() { "unknown".into() } else { owner.trim().to_owned() };
            return Err(EngineError::AlreadyOwned { path: database.to_owned(), owner });
        }
        describe(&mut file).map_err(EngineError::io("write", &path))?;
        let Ok(mapping) = Mapping::of(&file) else {
            return Ok(OwnerLock { _held: Held::ByDescriptor { _file: file } });
        };
        drop(file);
        let second = open()?;
        let lost = try_lock(&second).map_err(EngineError::io("lock", &path))?;
        let held = match lost {
            true => Held::ByDescriptor { _file: second },
            false => Held::ByMapping { _mapping: mapping },
        };
        Ok(OwnerLock { _held: held })
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn describe(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {}", std::process::id())
}

/// A page of a file that nobody ever looks at.
struct Mapping {
    address: NonNull<c_void>,
}

impl Mapping {
    const LENGTH: usize = 1;

    fn of(file: &File) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice, without any access to it.
        let address =
            unsafe { mmap(ptr::null_mut(), Self::LENGTH, ProtFlags::empty(), MapFlags::SHARED, file, 0)? };
        NonNull::new(address).map(|address| Mapping { address }).ok_or_else(|| io::ErrorKind::Other.into())
    }
}

// SAFETY: the address is only ever given back to the kernel, and by its one owner.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `of` made; nobody has a reference into it.
        let _ = unsafe { munmap(self.address.as_ptr(), Self::LENGTH) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_owner_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("app.db");
        let first = OwnerLock::acquire(folder.path(), &database).unwrap();
        let refused = OwnerLock::acquire(folder.path(), &database).err().unwrap().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        OwnerLock::acquire(folder.path(), &database).unwrap();
    }

    #[test]
    fn the_lock_is_held_to_its_end_with_or_without_a_descriptor() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("app.db");
        let lock_file =
            File::options().write(true).create(true).truncate(false).open(folder.path().join(NAME));
        let other = lock_file.unwrap();
        let lock = OwnerLock::acquire(folder.path(), &database).unwrap();
        assert!(!try_lock(&other).unwrap());
        drop(lock);
        assert!(try_lock(&other).unwrap());
    }
}
