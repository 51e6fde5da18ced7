//! A store that fails before or after it did what it was asked, that is away for a while, and that lists new files
//! late.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{FileInfo, PutBody, PutOutcome, ReplicaClient, StorageError, TimestampSource};

use crate::testing::{MemoryReplica, unavailable};

/// What will go wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    /// One request fails after so many, before it did anything or after it did it.
    Once { after: usize, done: bool },
    /// Every request fails.
    Lasting,
    /// New files are not listed.
    LateListing,
}

#[derive(Default)]
struct State {
    outage: Option<Outage>,
    failed: usize,
    unlisted: BTreeSet<(Level, TxidRange)>,
}

/// Files in memory, behind a bad line.
#[derive(Default)]
pub(super) struct FragileStore {
    files: MemoryReplica,
    state: Mutex<State>,
}

impl FragileStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn fail(&self, outage: Outage) {
        self.state().outage = Some(outage);
    }

    pub(super) fn heal(&self) {
        let mut state = self.state();
        state.outage = None;
        state.unlisted.clear();
    }

    /// How many requests have failed or were answered wrongly so far.
    pub(super) fn failed(&self) -> usize {
        self.state().failed
    }

    /// The content of a file, without asking the bad line.
    pub(super) fn content(&self, level: Level, txids: TxidRange) -> Option<Bytes> {
        self.files.content(level, txids)
    }

    /// The names in a level, without asking the bad line.
    pub(super) fn names(&self, level: Level) -> Vec<TxidRange> {
        self.files.names(level)
    }

    /// Counts a request; `Some(done)` says that it fails, and whether it is done all the same.
    fn fails(&self) -> Option<bool> {
        let mut state = self.state();
        let done = match &mut state.outage {
            Some(Outage::Once { after, .. }) if *after > 0 => {
                *after -= 1;
                return None;
            }
            Some(Outage::Once { done, .. }) => *done,
            Some(Outage::Lasting) => false,
            Some(Outage::LateListing) | None => return None,
        };
        if state.outage != Some(Outage::Lasting) {
            state.outage = None;
        }
        state.failed += 1;
        Some(done)
    }

    async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        match self.fails() {
            None => request.await,
            Some(true) => request.await.and(Err(unavailable())),
            Some(false) => Err(unavailable()),
        }
    }
}

#[async_trait]
impl ReplicaClient for FragileStore {
    fn kind(&self) -> &'static str {
        self.files.kind()
    }

    fn location(&self) -> String {
        self.files.location()
    }

    async fn init(&self) -> Result<(), StorageError> {
        Ok(())
    }

    async fn list(
        &self,
        level: Level,
        from: Txid,
        times: TimestampSource,
    ) -> Result<Vec<FileInfo>, StorageError> {
        let mut files = self.ask(self.files.list(level, from, times)).await?;
        let mut state = self.state();
        let all = files.len();
        files.retain(|file| !state.unlisted.contains(&(file.level, file.txids)));
        state.failed += all - files.len();
        Ok(files)
    }

    async fn read(&self, level: Level, txids: TxidRange, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.ask(self.files.read(level, txids, range)).await
    }

    async fn read_stream(
        &self,
        level: Level,
        txids: TxidRange,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        self.ask(self.files.read_stream(level, txids, from)).await
    }

    async fn put(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        body: PutBody,
    ) -> Result<PutOutcome, StorageError> {
        if self.state().outage == Some(Outage::LateListing) {
            self.state().unlisted.insert((level, txids));
        }
        self.ask(self.files.put(level, txids, created_at, body)).await
    }

    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError> {
        self.ask(self.files.delete(files)).await
    }
}
