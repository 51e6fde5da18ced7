//! What is known of the files on the replica, so that a database at rest costs no requests.
//!
//! Invariant: this process is the only writer of the replica, so what it listed once and what it did since is what
//! is there. After any error that is in doubt, and the knowledge is thrown away. Files that no decision will ever look
//! at again are forgotten: memory does not grow with the history.

use std::collections::HashSet;

use futures::future::try_join_all;
use walstream_ltx::{Level, Txid, TxidRange};
use walstream_storage::{FileInfo, ReplicaClient, StorageError, TimestampSource};

use super::sources::{Hole, Limits, next_sources};

/// Files of each level, each ordered as a listing is.
#[derive(Debug)]
pub(super) struct Known {
    levels: Vec<Vec<FileInfo>>,
    /// The highest level that is compacted into.
    top: Level,
    /// Whether files of level 0 matter after they were compacted, because they are to be deleted one day.
    l0_is_deleted: bool,
}

impl Known {
    /// Looks at the replica.
    pub(super) async fn look(
        client: &dyn ReplicaClient,
        top: Level,
        l0_is_deleted: bool,
    ) -> Result<Known, StorageError> {
        let levels = try_join_all(Level::all().map(|level| async move {
            match level > top && level != Level::SNAPSHOT {
                true => Ok(Vec::new()),
                false => client.list(level, Txid::FIRST, TimestampSource::Listing).await,
            }
        }));
        let mut known = Known { levels: levels.await?, top, l0_is_deleted };
        known.forget();
        Ok(known)
    }

    /// Looks for level-0 files that were added since.
    pub(super) async fn look_for_l0(&mut self, client: &dyn ReplicaClient) -> Result<(), StorageError> {
        let from = self.end(Level::L0).next();
        let new = client.list(Level::L0, from, TimestampSource::Listing).await?;
        self.levels[0].extend(new);
        Ok(())
    }

    /// Looks at the snapshots again, which others make.
    pub(super) async fn look_for_snapshots(
        &mut self,
        client: &dyn ReplicaClient,
    ) -> Result<(), StorageError> {
        let snapshots = client.list(Level::SNAPSHOT, Txid::FIRST, TimestampSource::Listing).await?;
        self.levels[usize::from(Level::SNAPSHOT.get())] = snapshots;
        Ok(())
    }

    /// The files of a level that still matter.
    pub(super) fn files(&self, level: Level) -> &[FileInfo] {
        self.levels.get(usize::from(level.get())).map_or(&[], Vec::as_slice)
    }

    /// The same of the levels above level 1, but for the snapshots.
    pub(super) fn files_above_level_1(&self) -> Vec<FileInfo> {
        let levels = Level::all().filter(|&level| level.get() > 1 && level != Level::SNAPSHOT);
        levels.flat_map(|level| self.files(level)).cloned().collect()
    }

    /// The file that reaches furthest in a level.
    pub(super) fn newest(&self, level: Level) -> Option<&FileInfo> {
        self.files(level).iter().max_by_key(|file| file.txids.max())
    }

    /// Where a level ends; zero if it is empty.
    pub(super) fn end(&self, level: Level) -> Txid {
        self.newest(level).map_or(Txid::ZERO, |file| file.txids.max())
    }

    /// What is to be compacted into `level` next.
    pub(super) fn next_sources(&self, level: Level, limits: &Limits) -> Result<Vec<FileInfo>, Hole> {
        let newest = self.newest(level).map(|file| file.txids.max());
        next_sources(self.below(level), newest, self.files(Level::SNAPSHOT), limits)
    }

    fn below(&self, level: Level) -> &[FileInfo] {
        level.get().checked_sub(1).and_then(Level::new).map_or(&[], |below| self.files(below))
    }

    /// Adds a file that was written.
    pub(super) fn add(&mut self, file: FileInfo) {
        if let Some(files) = self.levels.get_mut(usize::from(file.level.get())) {
            files.push(file);
            files.sort_by_key(|file| file.txids);
        }
        self.forget();
    }

    /// Takes out files that cannot be read.
    pub(super) fn set_aside(&mut self, damaged: &[(Level, TxidRange)]) {
        for files in &mut self.levels {
            files.retain(|file| !damaged.contains(&(file.level, file.txids)));
        }
    }

    /// Takes out files that were deleted, or that the store will not delete.
    pub(super) fn remove(&mut self, gone: &[FileInfo]) {
        let gone: HashSet<_> = gone.iter().map(|file| (file.level, file.txids)).collect();
        for files in &mut self.levels {
            files.retain(|file| !gone.contains(&(file.level, file.txids)));
        }
        self.forget();
    }

    /// Forgets what was compacted and will not be looked at again.
    fn forget(&mut self) {
        let oldest_l0 = self.files(Level::L0).first().map(|file| file.txids.min());
        for level in Level::all().take_while(|&level| level <= self.top) {
            let end = self.end(level);
            let compacted = level.next().filter(|&next| next <= self.top).map_or(end, |next| self.end(next));
            let retention_needs = |file: &FileInfo| match level.get() {
                0 => self.l0_is_deleted,
                _ => oldest_l0.is_some_and(|oldest| file.txids.max() >= oldest),
            };
            let matters = |file: &FileInfo| {
                file.txids.max() > compacted || file.txids.max() == end || retention_needs(file)
            };
            let mut files = std::mem::take(&mut self.levels[usize::from(level.get())]);
            files.retain(matters);
            self.levels[usize::from(level.get())] = files;
        }
    }
}
