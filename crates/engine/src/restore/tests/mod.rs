//! Restores from real and from damaged replicas.

mod delta;
mod faults;
pub(crate) mod golden;
mod histories;
pub(crate) mod model;
mod output;
mod v3;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use walstream_ltx::{Checksum, Commit, PageSize, Pgno, Txid};
use walstream_storage::ReplicaClient;

use super::{RestoreOptions, Restored, Target, Unwatched, restore};
use crate::error::EngineError;

/// A folder to restore into, and what became of it.
struct Desk {
    folder: TempDir,
    /// Whether each restore fetches only what differs from the one before it.
    delta: bool,
}

impl Desk {
    fn new() -> Self {
        Desk { folder: TempDir::new().unwrap(), delta: false }
    }

    fn options(&self, target: Target) -> RestoreOptions {
        let output = self.folder.path().join("out.db");
        RestoreOptions { target, overwrite: true, delta: self.delta, ..RestoreOptions::new(output) }
    }

    async fn restore(
        &self,
        client: &Arc<dyn ReplicaClient>,
        target: Target,
    ) -> Result<(Restored, Vec<u8>), EngineError> {
        let options = self.options(target);
        let restored = restore(Arc::clone(client), &options, &Unwatched).await?;
        Ok((restored, std::fs::read(&options.output).unwrap()))
    }

    /// The names of everything in the folder.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn txid(value: u64) -> Target {
    Target::Txid(Txid::new(value))
}

/// The rolling checksum of a database in memory, from the checksums that `of_page` gives.
fn rolling(page_size: PageSize, database: &[u8], of_page: fn(Pgno, &[u8]) -> Checksum) -> Checksum {
    let pages = database.chunks(page_size.bytes());
    let commit = Commit::new(u32::try_from(pages.len()).unwrap());
    commit.pages(page_size).fold(Checksum::EMPTY, |sum, pgno| {
        let start = usize::try_from(page_size.offset_of(pgno)).unwrap();
        sum.toggle(of_page(pgno, &database[start..start + page_size.bytes()]))
    })
}

/// Gives a file the time that its replica would have given it.
fn set_time(path: &Path, since_epoch: std::time::Duration) {
    File::open(path).unwrap().set_modified(std::time::UNIX_EPOCH + since_epoch).unwrap();
}
