//! Counting what is asked of the stores.
//!
//! Invariant: counting changes nothing. Every call, answer and error passes as it is, and none waits for a count.
//!
//! One [`Traffic`] counts for all replicas of a process; [`Traffic::count`] puts a wrapper around a client. What a store
//! does within one call, such as the parts of a large upload or tries after a failure, is not told apart.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};

use crate::client::{FileInfo, PutBody, PutOutcome, ReplicaClient, TimestampSource};
use crate::error::StorageError;
use crate::legacy::LegacyStore;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// What it has come to.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Time that was spent, all in all.
#[derive(Debug, Default)]
pub struct Spent(Counter);

impl Spent {
    /// Adds to it.
    pub fn add(&self, time: Duration) {
        self.0.add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// What it has come to.
    pub fn get(&self) -> Duration {
        Duration::from_nanos(self.0.get())
    }
}

/// How long things took, in classes.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One for each bound, and one for what took longer than all of them.
    classes: Box<[Counter]>,
    spent: Spent,
}

impl Histogram {
    /// Classes that end at these seconds, which ascend.
    pub fn new(bounds: &'static [f64]) -> Self {
        let classes = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Histogram { bounds, classes, spent: Spent::default() }
    }

    /// Counts one.
    pub fn record(&self, time: Duration) {
        let class = self.bounds.partition_point(|&bound| bound < time.as_secs_f64());
        self.classes[class].add(1);
        self.spent.add(time);
    }

    /// Each bound with how many took no longer than that.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> + use<'_> {
        self.bounds.iter().zip(&self.classes).scan(0, |sum, (&bound, class)| {
            *sum += class.get();
            Some((bound, *sum))
        })
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.classes.iter().map(Counter::get).sum()
    }

    /// How long all of them took together.
    pub fn spent(&self) -> Duration {
        self.spent.get()
    }
}

/// What can be asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writing a file.
    Put,
    /// Reading a file, or a part of it.
    Get,
    /// Listing a level.
    List,
    /// Deleting files.
    Delete,
}

impl Operation {
    /// All of them.
    pub const ALL: [Operation; 4] = [Operation::Put, Operation::Get, Operation::List, Operation::Delete];

    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Put => "PUT",
            Operation::Get => "GET",
            Operation::List => "LIST",
            Operation::Delete => "DELETE",
        }
    }
}

/// How metrics name the classes of errors.
const CODES: [&str; 6] = ["not_found", "past_end", "denied", "unavailable", "config", "io"];

fn code(error: &StorageError) -> usize {
    match error {
        StorageError::NotFound { .. } => 0,
        StorageError::PastEnd { .. } => 1,
        StorageError::Denied { .. } => 2,
        StorageError::Unavailable { .. } => 3,
        StorageError::Config(_) => 4,
        StorageError::Io { .. } => 5,
    }
}

/// The ends of the classes of durations, in seconds, as the peer has them.
const DURATIONS: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// What came of one operation. Deletions are counted by file, everything else by call.
#[derive(Debug)]
pub struct Calls {
    /// How often it was done.
    pub total: Counter,
    /// Bytes of files that were sent or that arrived.
    pub bytes: Counter,
    /// How long each call took; of a file that is streamed, until it began to arrive.
    pub durations: Histogram,
    errors: [Counter; CODES.len()],
}

impl Calls {
    fn new() -> Self {
        Calls {
            total: Counter::default(),
            bytes: Counter::default(),
            durations: Histogram::new(DURATIONS),
            errors: Default::default(),
        }
    }

    /// Each class of errors with how many there were.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> + use<'_> {
        CODES.into_iter().zip(self.errors.iter().map(Counter::get))
    }

    fn failed(&self, error: &StorageError) {
        self.errors[code(error)].add(1);
    }

    async fn time<T>(
        &self,
        calls: u64,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let started = Instant::now();
        let result = call.await;
        self.total.add(calls);
        self.durations.record(started.elapsed());
        result.inspect_err(|error| self.failed(error))
    }
}

/// What was asked of stores of one kind.
#[derive(Debug)]
pub struct Requests([Calls; Operation::ALL.len()]);

impl Requests {
    fn new() -> Self {
        Requests(Operation::ALL.map(|_| Calls::new()))
    }

    /// What came of an operation.
    pub fn of(&self, operation: Operation) -> &Calls {
        &self.0[operation as usize]
    }
}

/// What was asked of all the stores of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    kinds: Arc<Mutex<BTreeMap<&'static str, Arc<Requests>>>>,
}

impl Traffic {
    /// Counts what is asked of a client from here on.
    pub fn count(&self, client: Arc<dyn ReplicaClient>) -> Arc<dyn ReplicaClient> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = kinds.entry(client.kind()).or_insert_with(|| Arc::new(Requests::new()));
        Arc::new(Counted { requests: Arc::clone(requests), client })
    }

    /// Each kind of store with what was asked of it.
    pub fn kinds(&self) -> Vec<(&'static str, Arc<Requests>)> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.iter().map(|(kind, requests)| (*kind, Arc::clone(requests))).collect()
    }
}

/// A client whose calls are counted.
struct Counted {
    client: Arc<dyn ReplicaClient>,
    requests: Arc<Requests>,
}

impl Counted {
    fn calls(&self, operation: Operation) -> &Calls {
        self.requests.of(operation)
    }
}

#[async_trait]
impl ReplicaClient for Counted {
    fn kind(&self) -> &'static str {
        self.client.kind()
    }

    fn location(&self) -> String {
        self.client.location()
    }

    fn legacy(&self) -> Option<&dyn LegacyStore> {
        self.client.legacy()
    }

    async fn init(&self) -> Result<(), StorageError> {
        self.client.init().await
    }

    fn files_are_cheap(&self) -> bool {
        self.client.files_are_cheap()
    }

    async fn creates_exclusively(&self) -> Result<bool, StorageError> {
        self.client.creates_exclusively().await
    }

    async fn list(
        &self,
        level: Level,
        from: Txid,
        timestamps: TimestampSource,
    ) -> Result<Vec<FileInfo>, StorageError> {
        self.calls(Operation::List).time(1, self.client.list(level, from, timestamps)).await
    }

    async fn read(&self, level: Level, txids: TxidRange, range: Range<u64>) -> Result<Bytes, StorageError> {
        let calls = self.calls(Operation::Get);
        let bytes = calls.time(1, self.client.read(level, txids, range)).await?;
        calls.bytes.add(bytes.len() as u64);
        Ok(bytes)
    }

    async fn read_stream(
        &self,
        level: Level,
        txids: TxidRange,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        let stream = self.calls(Operation::Get).time(1, self.client.read_stream(level, txids, from)).await?;
        let requests = Arc::clone(&self.requests);
        let note = move |piece: &Result<Bytes, StorageError>| {
            let calls = requests.of(Operation::Get);
            match piece {
                Ok(bytes) => calls.bytes.add(bytes.len() as u64),
                Err(error) => calls.failed(error),
            }
        };
        Ok(stream.inspect(note).boxed())
    }

    async fn put(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        body: PutBody,
    ) -> Result<PutOutcome, StorageError> {
        let calls = self.calls(Operation::Put);
        let (sent, body) = measured(body).await;
        let outcome = calls.time(1, self.client.put(level, txids, created_at, body)).await?;
        if outcome == PutOutcome::Created {
            calls.bytes.add(sent.get());
        }
        Ok(outcome)
    }

    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError> {
        self.calls(Operation::Delete).time(files.len() as u64, self.client.delete(files)).await
    }
}

/// A body, and how many bytes of it there are once it is sent.
async fn measured(body: PutBody) -> (Arc<Counter>, PutBody) {
    let sent = Arc::new(Counter::default());
    let body = match body {
        PutBody::Bytes(bytes) => {
            sent.add(bytes.len() as u64);
            PutBody::Bytes(bytes)
        }
        PutBody::File(path) => {
            // If that fails, sending it will fail too, and say so.
            sent.add(tokio::fs::metadata(&path).await.map_or(0, |file| file.len()));
            PutBody::File(path)
        }
        PutBody::Stream(stream) => {
            let seen = Arc::clone(&sent);
            let note = move |piece: &Result<Bytes, std::io::Error>| {
                seen.add(piece.as_ref().map_or(0, |bytes| bytes.len() as u64));
            };
            PutBody::Stream(stream.inspect(note).boxed())
        }
    };
    (sent, body)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{StreamExt, stream};

    use super::*;
    use crate::config::{FileConfig, ReplicaConfig};

    fn range(min: u64, max: u64) -> TxidRange {
        TxidRange::new(Txid::new(min), Txid::new(max)).unwrap()
    }

    #[test]
    fn a_duration_counts_in_its_class_and_in_all_that_are_longer() {
        let histogram = Histogram::new(&[0.1, 1.0, 10.0]);
        for millis in [50, 100, 101, 5_000, 60_000] {
            histogram.record(Duration::from_millis(millis));
        }
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(0.1, 2), (1.0, 3), (10.0, 4)]);
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.spent(), Duration::from_millis(65_251));
    }

    #[tokio::test]
    async fn what_is_asked_of_a_store_is_counted_by_kind_and_operation() {
        let folder = tempfile::tempdir().unwrap();
        let config =
            ReplicaConfig::File(FileConfig { path: Some(folder.path().into()), ..FileConfig::default() });
        let traffic = Traffic::default();
        let client = traffic.count(crate::connect(&config).unwrap());
        let put = |txids, body| client.put(Level::L0, txids, Timestamp::default(), body);
        put(range(1, 1), PutBody::Bytes(Bytes::from_static(b"12345"))).await.unwrap();
        let pieces = stream::iter([Ok(Bytes::from_static(b"123")), Ok(Bytes::from_static(b"4567"))]);
        put(range(2, 2), PutBody::Stream(pieces.boxed())).await.unwrap();
        let again = put(range(1, 1), PutBody::Bytes(Bytes::from_static(b"12345"))).await.unwrap();
        assert_eq!(again, PutOutcome::AlreadyExists);
        client.list(Level::L0, Txid::ZERO, TimestampSource::Listing).await.unwrap();
        client.read(Level::L0, range(1, 1), 1..3).await.unwrap();
        let whole = client.read_stream(Level::L0, range(2, 2), 0).await.unwrap();
        whole.for_each(|piece| async { drop(piece.unwrap()) }).await;
        client.read(Level::L0, range(9, 9), 0..1).await.unwrap_err();
        client.delete(&[(Level::L0, range(1, 1)), (Level::L0, range(2, 2))]).await.unwrap();

        let kinds = traffic.kinds();
        let [(kind, requests)] = kinds.as_slice() else { panic!("{kinds:?}") };
        assert_eq!(*kind, "file");
        let counts = Operation::ALL.map(|operation| {
            let calls = requests.of(operation);
            (operation.name(), calls.total.get(), calls.bytes.get(), calls.durations.count())
        });
        assert_eq!(counts, [("PUT", 3, 12, 3), ("GET", 3, 9, 3), ("LIST", 1, 0, 1), ("DELETE", 2, 0, 1)]);
        let errors: Vec<_> = requests.of(Operation::Get).errors().filter(|(_, count)| *count > 0).collect();
        assert_eq!(errors, [("not_found", 1)]);
    }
}
