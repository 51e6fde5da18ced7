//! One process per database: an advisory lock on a file in the metadata folder.
//!
//! Invariant: while the lock is held no other walstream captures this database. The lock is the kernel's, so
//! it ends with the process, however that ends.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::EngineError;

const NAME: &str = "walstream.lock";

/// Held for as long as the database is replicated.
pub(crate) struct OwnerLock {
    _file: File,
}

impl OwnerLock {
    /// Takes the lock, or says who has it.
    pub(crate) fn acquire(meta: &Path, database: &Path) -> Result<Self, EngineError> {
        let path = meta.join(NAME);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(EngineError::io("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut owner = String::new();
                let _ = file.read_to_string(&mut owner);
                let owner = if owner.trim().is_empty() { "unknown".into() } else { owner.trim().to_owned() };
                return Err(EngineError::AlreadyOwned { path: database.to_owned(), owner });
            }
            Err(error) => return Err(EngineError::io("lock", &path)(error.into())),
        }
        let describe = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "process {}", std::process::id())
        };
        describe(&mut file).map_err(EngineError::io("write", &path))?;
        Ok(OwnerLock { _file: file })
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
}
