//! A replica in memory for tests: it keeps the contract of [`ReplicaClient`], counts what it is asked, and can be
//! told to fail or to hold damaged files.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{FileInfo, PutBody, PutOutcome, ReplicaClient, StorageError, TimestampSource};

use crate::clock::Clock;

/// A wall clock that goes with the time of tokio, so that a test can pause it and let it jump.
pub(crate) struct TokioClock {
    start: Timestamp,
    started: tokio::time::Instant,
}

impl TokioClock {
    pub(crate) fn start_at(start: Timestamp) -> Self {
        TokioClock { start, started: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.start.as_millis() + self.started.elapsed().as_millis() as i64)
    }
}

/// What a test replica was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    List(Level),
    Read(Level, TxidRange),
    Put(Level, TxidRange),
    Delete(Level, TxidRange),
}

type Fault = Box<dyn FnMut(Request) -> Option<StorageError> + Send>;

#[derive(Default)]
struct State {
    files: BTreeMap<(Level, TxidRange), (Timestamp, Bytes)>,
    requests: Vec<Request>,
    fault: Option<Fault>,
    late: Option<Level>,
}

/// Files in memory.
#[derive(Default)]
pub(crate) struct MemoryReplica {
    state: Mutex<State>,
}

impl MemoryReplica {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a file there without asking anybody.
    pub(crate) fn insert(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        content: impl Into<Bytes>,
    ) {
        self.state().files.insert((level, txids), (created_at, content.into()));
    }

    /// The content of a file, if it is there.
    pub(crate) fn content(&self, level: Level, txids: TxidRange) -> Option<Bytes> {
        self.state().files.get(&(level, txids)).map(|(_, content)| content.clone())
    }

    /// The ranges of the files of a level, in order.
    pub(crate) fn names(&self, level: Level) -> Vec<TxidRange> {
        self.state().files.keys().filter(|(l, _)| *l == level).map(|(_, txids)| *txids).collect()
    }

    /// Takes a file away, as another process or a person might.
    pub(crate) fn remove(&self, level: Level, txids: TxidRange) {
        self.state().files.remove(&(level, txids));
    }

    /// Every request since the last call.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().requests)
    }

    /// From now on every request is shown to `fault` first; an error that it gives is the answer. It may change the
    /// files of this replica.
    pub(crate) fn set_fault(&self, fault: impl FnMut(Request) -> Option<StorageError> + Send + 'static) {
        self.state().fault = Some(Box::new(fault));
    }

    /// Ends what [`MemoryReplica::set_fault`] began.
    pub(crate) fn clear_fault(&self) {
        self.state().fault = None;
    }

    /// From now on this level is listed after whatever else is under way.
    pub(crate) fn set_late(&self, level: Level) {
        self.state().late = Some(level);
    }

    fn begin(&self, request: Request) -> Result<(), StorageError> {
        self.state().requests.push(request);
        // Taken out meanwhile, so that it can use the replica.
        let Some(mut fault) = self.state().fault.take() else { return Ok(()) };
        let error = fault(request);
        self.state().fault.get_or_insert(fault);
        error.map_or(Ok(()), Err)
    }

    fn open(&self, level: Level, txids: TxidRange) -> Result<Bytes, StorageError> {
        self.begin(Request::Read(level, txids))?;
        let location = || format!("memory:/{level}/{txids}.ltx");
        self.content(level, txids).ok_or_else(|| StorageError::NotFound { location: location() })
    }
}

/// A failure that may pass, for [`MemoryReplica::set_fault`].
pub(crate) fn unavailable() -> StorageError {
    StorageError::Unavailable {
        location: "memory:".into(),
        operation: "request",
        reason: "told to fail by a test".into(),
    }
}

#[async_trait]
impl ReplicaClient for MemoryReplica {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn location(&self) -> String {
        "memory:".into()
    }

    async fn init(&self) -> Result<(), StorageError> {
        Ok(())
    }

    async fn list(
        &self,
        level: Level,
        from: Txid,
        _timestamps: TimestampSource,
    ) -> Result<Vec<FileInfo>, StorageError> {
        if self.state().late == Some(level) {
            tokio::task::yield_now().await;
        }
        self.begin(Request::List(level))?;
        let state = self.state();
        let files = state.files.iter().filter(|&(&(l, txids), _)| l == level && txids.min() >= from);
        Ok(files
            .map(|((level, txids), (created_at, content))| FileInfo {
                level: *level,
                txids: *txids,
                size: content.len() as u64,
                created_at: *created_at,
            })
            .collect())
    }

    async fn read(&self, level: Level, txids: TxidRange, range: Range<u64>) -> Result<Bytes, StorageError> {
        let content = self.open(level, txids)?;
        let end = range.end.min(content.len() as u64);
        if range.start >= end {
            return Err(StorageError::PastEnd { location: self.location(), offset: range.start });
        }
        Ok(content.slice(range.start as usize..end as usize))
    }

    async fn read_stream(
        &self,
        level: Level,
        txids: TxidRange,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        let content = self.open(level, txids)?;
        let content = content.slice((from as usize).min(content.len())..);
        let chunks: Vec<_> =
            content.chunks(64 << 10).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        Ok(stream::iter(chunks).boxed())
    }

    async fn put(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        body: PutBody,
    ) -> Result<PutOutcome, StorageError> {
        self.begin(Request::Put(level, txids))?;
        if self.content(level, txids).is_some() {
            return Ok(PutOutcome::AlreadyExists);
        }
        let io = |source| StorageError::Io { action: "read", path: "memory:".into(), source };
        let content = match body {
            PutBody::Bytes(bytes) => bytes,
            PutBody::File(path) => std::fs::read(path).map_err(io)?.into(),
            PutBody::Stream(mut pieces) => {
                let mut content = Vec::new();
                while let Some(piece) = pieces.next().await {
                    content.extend_from_slice(&piece.map_err(io)?);
                }
                content.into()
            }
        };
        self.insert(level, txids, created_at, content);
        Ok(PutOutcome::Created)
    }

    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError> {
        for &(level, txids) in files {
            self.begin(Request::Delete(level, txids))?;
            self.remove(level, txids);
        }
        Ok(())
    }
}
