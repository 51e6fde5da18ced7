//! Patience and restraint: how long a store may take, and how much of it may be used at once.
//!
//! Invariants: no call lasts for ever, whatever the store does; reading never waits for writing, so a file that is made
//! out of other files of the same store cannot wait for itself.
//!
//! The stores have deadlines of their own for single requests, and try again; this is the last resort around them all.

mod patience;
mod rate;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, SemaphorePermit};
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};

use crate::client::{FileInfo, PutBody, PutOutcome, ReplicaClient, TimestampSource};
use crate::error::StorageError;
use crate::legacy::{LegacyObject, LegacyStore};
use patience::{Patience, Supply};
pub use rate::Rate;

/// Calls of one replica under way at once, of each kind.
const OF_ONE: usize = 32;
/// Calls of all replicas under way at once, of each kind.
const OF_ALL: usize = 256;

static READS: Semaphore = Semaphore::const_new(OF_ALL);
static WRITES: Semaphore = Semaphore::const_new(OF_ALL);

/// How long a store may take, and how fast it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a store may take to begin its answer, and to go on with it. Calls that may need many requests have
    /// five times as long.
    pub silence: Duration,
    /// So much more for each MiB of the call.
    pub per_mib: Duration,
    /// A download must bring so many bytes a second, over any time of `silence`.
    pub slowest: u64,
    /// How fast files may be sent. Replicas may share it.
    pub upload: Option<Arc<Rate>>,
    /// How fast files may be read. Replicas may share it.
    pub download: Option<Arc<Rate>>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            silence: Duration::from_secs(60),
            per_mib: Duration::from_secs(32),
            slowest: 1 << 10,
            upload: None,
            download: None,
        }
    }
}

/// A store within limits.
pub(crate) struct Limited {
    store: Arc<dyn ReplicaClient>,
    limits: Limits,
    reads: Semaphore,
    writes: Semaphore,
}

/// A call that may be under way.
struct Turn<'a> {
    _of_one: SemaphorePermit<'a>,
    _of_all: SemaphorePermit<'a>,
}

async fn turn<'a>(one: &'a Semaphore, all: &'static Semaphore) -> Turn<'a> {
    // Neither is ever closed, which alone could fail.
    let permit = async |semaphore: &'a Semaphore| loop {
        if let Ok(permit) = semaphore.acquire().await {
            return permit;
        }
    };
    Turn { _of_one: permit(one).await, _of_all: permit(all).await }
}

impl Limited {
    pub(crate) fn new(store: Arc<dyn ReplicaClient>, limits: Limits) -> Self {
        Limited { store, limits, reads: Semaphore::new(OF_ONE), writes: Semaphore::new(OF_ONE) }
    }

    fn patience(&self, operation: &'static str) -> Patience<'_> {
        Patience { limits: &self.limits, store: &*self.store, operation }
    }

    async fn pace_download(&self, bytes: usize) {
        if let Some(rate) = &self.limits.download {
            rate.take(bytes as u64).await;
        }
    }
}

#[async_trait]
impl ReplicaClient for Limited {
    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn location(&self) -> String {
        self.store.location()
    }

    fn legacy(&self) -> Option<&dyn LegacyStore> {
        self.store.legacy().map(|_| self as &dyn LegacyStore)
    }

    fn files_are_cheap(&self) -> bool {
        self.store.files_are_cheap()
    }

    async fn init(&self) -> Result<(), StorageError> {
        self.patience("first contact").for_many(self.store.init()).await
    }

    async fn creates_exclusively(&self) -> Result<bool, StorageError> {
        self.patience("trying out the store").for_many(self.store.creates_exclusively()).await
    }

    async fn list(
        &self,
        level: Level,
        from: Txid,
        timestamps: TimestampSource,
    ) -> Result<Vec<FileInfo>, StorageError> {
        let _turn = turn(&self.reads, &READS).await;
        self.patience("listing").for_many(self.store.list(level, from, timestamps)).await
    }

    async fn read(&self, level: Level, txids: TxidRange, range: Range<u64>) -> Result<Bytes, StorageError> {
        let _turn = turn(&self.reads, &READS).await;
        let length = range.end.saturating_sub(range.start);
        let bytes = self.patience("reading").for_bytes(length, self.store.read(level, txids, range)).await?;
        self.pace_download(bytes.len()).await;
        Ok(bytes)
    }

    async fn read_stream(
        &self,
        level: Level,
        txids: TxidRange,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        // Only opening it counts: whoever reads many streams at once needs all of them to go on.
        let turn = turn(&self.reads, &READS).await;
        let stream =
            self.patience("reading").for_bytes(0, self.store.read_stream(level, txids, from)).await?;
        drop(turn);
        let watched = patience::watch(stream, self.limits.clone(), self.store.location());
        Ok(match self.limits.download.clone() {
            None => watched,
            Some(rate) => watched.then(move |chunk| rate::paced(Arc::clone(&rate), chunk)).boxed(),
        })
    }

    async fn put(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        body: PutBody,
    ) -> Result<PutOutcome, StorageError> {
        let _turn = turn(&self.writes, &WRITES).await;
        let body = match &self.limits.upload {
            None => body,
            Some(rate) => rate::pace(body, rate).await?,
        };
        let patience = self.patience("upload");
        match body {
            PutBody::Bytes(bytes) => {
                let length = bytes.len() as u64;
                let body = PutBody::Bytes(bytes);
                patience.for_bytes(length, self.store.put(level, txids, created_at, body)).await
            }
            PutBody::File(path) => {
                let length = tokio::fs::metadata(&path).await.map_err(StorageError::io("read", &path))?.len();
                let body = PutBody::File(path);
                patience.for_bytes(length, self.store.put(level, txids, created_at, body)).await
            }
            PutBody::Stream(stream) => {
                let supply = Arc::new(Supply::default());
                let body = PutBody::Stream(Supply::watch(&supply, stream));
                patience.for_supply(&supply, self.store.put(level, txids, created_at, body)).await
            }
        }
    }

    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError> {
        let _turn = turn(&self.writes, &WRITES).await;
        self.patience("deleting").for_many(self.store.delete(files)).await
    }
}

#[async_trait]
impl LegacyStore for Limited {
    async fn list_legacy(&self) -> Result<Vec<LegacyObject>, StorageError> {
        match self.store.legacy() {
            Some(store) => self.patience("listing").for_many(store.list_legacy()).await,
            None => Ok(Vec::new()),
        }
    }

    async fn read_legacy(&self, object: &LegacyObject, range: Range<u64>) -> Result<Bytes, StorageError> {
        let Some(store) = self.store.legacy() else {
            return Err(StorageError::NotFound { location: format!("{}/{}", self.location(), object.name) });
        };
        let _turn = turn(&self.reads, &READS).await;
        let length = range.end.saturating_sub(range.start);
        let bytes = self.patience("reading").for_bytes(length, store.read_legacy(object, range)).await?;
        self.pace_download(bytes.len()).await;
        Ok(bytes)
    }
}
