//! A store that fails before or after it did what it was asked, that is away for a while, that is slow or does not
//! answer at all, and that lists new files late.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tokio::sync::Notify;
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{FileInfo, PutBody, PutOutcome, ReplicaClient, StorageError, TimestampSource};

use super::disk::{Actor, FragileDisk};
use crate::testing::{MemoryReplica, unavailable};

/// A client gives up on a store that does not answer after this time.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);

/// What will go wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    /// One request fails after so many, before it did anything or after it did it.
    Once { after: usize, done: bool },
    /// The daemon is killed at a request, before it reached the store or after it was done.
    Killed { after: usize, done: bool },
    /// Every request fails.
    Lasting,
    /// No request is answered, and those that change something are done all the same, or not.
    Hanging { done: bool },
    /// Every request takes its time.
    Slow { time: Duration },
    /// Some new files are not listed.
    LateListing,
}

#[derive(Default)]
struct State {
    outage: Option<Outage>,
    failed: usize,
    unlisted: BTreeSet<(Level, TxidRange)>,
}

/// What becomes of one request.
enum Fate {
    Answered,
    Slow(Duration),
    Fails { done: bool },
    Hangs { done: bool },
}

/// Files in memory, behind a bad line.
pub(super) struct FragileStore {
    files: MemoryReplica,
    state: Mutex<State>,
    /// Told when a request is not answered.
    hung: Notify,
    /// Of the machine of the daemon, which may die.
    disk: FragileDisk,
}

impl FragileStore {
    pub(super) fn new(disk: FragileDisk) -> Self {
        FragileStore { files: MemoryReplica::default(), state: Mutex::default(), hung: Notify::new(), disk }
    }

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

    /// Waits until a request is not answered.
    pub(super) async fn hangs(&self) {
        self.hung.notified().await;
    }

    /// The content of a file, without asking the bad line.
    pub(super) fn content(&self, level: Level, txids: TxidRange) -> Option<Bytes> {
        self.files.content(level, txids)
    }

    /// The names in a level, without asking the bad line.
    pub(super) fn names(&self, level: Level) -> Vec<TxidRange> {
        self.files.names(level)
    }

    /// Counts a request, and says what becomes of it.
    fn fate(&self) -> Fate {
        let mut state = self.state();
        if self.disk.is_dead(Actor::Engine) {
            state.failed += 1;
            return Fate::Fails { done: false };
        }
        if let Some(Outage::Once { after, .. } | Outage::Killed { after, .. }) = &mut state.outage
            && *after > 0
        {
            *after -= 1;
            return Fate::Answered;
        }
        let fate = match state.outage {
            None | Some(Outage::LateListing) => return Fate::Answered,
            Some(Outage::Slow { time }) => return Fate::Slow(time),
            Some(Outage::Once { done, .. }) => Fate::Fails { done },
            Some(Outage::Killed { done, .. }) => {
                self.disk.die(Actor::Engine);
                Fate::Fails { done }
            }
            Some(Outage::Lasting) => Fate::Fails { done: false },
            Some(Outage::Hanging { done }) => Fate::Hangs { done },
        };
        if let Some(Outage::Once { .. } | Outage::Killed { .. }) = state.outage {
            state.outage = None;
        }
        state.failed += 1;
        fate
    }

    async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        match self.fate() {
            Fate::Answered => request.await,
            Fate::Slow(time) => {
                tokio::time::sleep(time).await;
                // A caller that lost patience meanwhile has a reason to.
                self.state().failed += 1;
                request.await
            }
            Fate::Fails { done: true } => request.await.and(Err(unavailable())),
            Fate::Fails { done: false } => Err(unavailable()),
            Fate::Hangs { done } => {
                if done {
                    request.await?;
                }
                self.hung.notify_waiters();
                tokio::time::sleep(CLIENT_PATIENCE).await;
                Err(unavailable())
            }
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
        let late = self.state().outage == Some(Outage::LateListing);
        if late && !txids.max().get().is_multiple_of(3) {
            self.state().unlisted.insert((level, txids));
        }
        self.ask(self.files.put(level, txids, created_at, body)).await
    }

    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError> {
        self.ask(self.files.delete(files)).await
    }
}
