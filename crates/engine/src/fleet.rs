//! Many databases in one process, which may come and go.
//!
//! Invariant: one task keeps the books; everybody else sends it orders. A path is replicated at most once at a time:
//! one that comes back while it is still being released waits for the end of that.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use walstream_ltx::Txid;

use crate::clock::{Clock, SystemClock};
use crate::database::command::{Answer, Request};
use crate::database::run::{self, Shared, Shutdown, Unshipped};
use crate::database::turns::SnapshotTurns;
use crate::database::waiters::Shipped;
use crate::error::EngineError;
use crate::metrics::Metrics;
use crate::options::DatabaseOptions;
use crate::watch::{FolderWatch, Watch};

/// So many databases use a blocking thread at the same time.
const WORKING_AT_ONCE: usize = 16;
/// So many databases are opened at the same time.
const OPENING_AT_ONCE: usize = 32;
/// So many databases are compacted at the same time.
const COMPACTING_AT_ONCE: usize = 2;
/// So many replicas are asked at the same time before the start.
const CHECKED_AT_ONCE: usize = 64;
/// The start waits no longer than this for the answers of all replicas.
const CHECKED_WITHIN: Duration = Duration::from_secs(15);
const RELEASE_RETRY: Duration = Duration::from_millis(500);
/// Orders that wait.
const ORDERS: usize = 64;
/// Requests to one database that wait to be looked at. Room is taken only as they come.
const REQUESTS: usize = 1024;

/// The databases that a daemon replicates. Cheap to clone; replication ends with the last clone.
#[derive(Clone)]
pub struct Fleet {
    orders: mpsc::Sender<Order>,
    watch: Watch,
}

/// How a fleet ends.
pub struct ShutdownOptions {
    /// How long the last uploads may take.
    pub timeout: Duration,
    /// Between two tries of an upload that fails.
    pub retry_interval: Duration,
    /// Turns true when the operator does not want to wait any longer.
    pub abort: watch::Receiver<bool>,
}

/// What became of a database that was to be released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Released {
    /// It is closed, and everything is on the replica.
    Shipped,
    /// It is closed, and something is not on the replica.
    Unshipped(Unshipped),
    /// It was not replicated.
    Unknown,
}

enum Order {
    Add(Box<DatabaseOptions>, oneshot::Sender<bool>),
    Remove(PathBuf, Duration, oneshot::Sender<Released>),
    Request(PathBuf, Request),
    Ping(oneshot::Sender<()>),
    Shutdown(ShutdownOptions, oneshot::Sender<Vec<Unshipped>>),
}

impl Fleet {
    /// How long a database that is released may usually take to upload what is left.
    pub const RELEASE_TIME: Duration = Duration::from_secs(30);

    /// Checks every replica once and begins to replicate. A replica that does not answer is tried again and
    /// again later on; one that can never work is an error, as it is a mistake in the configuration.
    pub async fn start(databases: Vec<DatabaseOptions>, metrics: Metrics) -> Result<Fleet, EngineError> {
        check_replicas(&databases).await?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let watch = Watch::new();
        let mut members = Members::new(watch.clone(), metrics);
        for options in databases {
            let _ = members.add(options);
        }
        tokio::spawn(members.run(inbox));
        Ok(Fleet { orders, watch })
    }

    /// Begins to replicate one more database, and says whether it did. One that is replicated already goes on as it is.
    pub async fn add(&self, options: DatabaseOptions) -> bool {
        let (answer, added) = oneshot::channel();
        // Nobody takes orders any more once the fleet is shutting down.
        let _ = self.orders.send(Order::Add(Box::new(options), answer)).await;
        added.await.unwrap_or(false)
    }

    /// Releases a database: a last capture and upload, for as long as `within`, and then nothing of it is open. The order
    /// is given when this returns; the future that it returns ends when it is done.
    pub async fn remove(
        &self,
        path: PathBuf,
        within: Duration,
    ) -> impl Future<Output = Released> + Send + use<> {
        let (answer, released) = oneshot::channel();
        let _ = self.orders.send(Order::Remove(path, within, answer)).await;
        async move { released.await.unwrap_or(Released::Unknown) }
    }

    /// Brings a snapshot of a database to its replica, of its state now or of a later one, and returns which one. Waits
    /// until it is there: for as long as the store is away, too.
    pub async fn snapshot(&self, path: PathBuf) -> Result<Txid, EngineError> {
        self.ask(path, Request::Snapshot).await
    }

    /// Captures everything that is committed in a database now, whatever its pace, and returns up to which TXID.
    pub async fn sync(&self, path: PathBuf) -> Result<Txid, EngineError> {
        self.ask(path, Request::Sync).await
    }

    /// Waits until a TXID of a database is on its replica; without one, everything that is committed in it now. Costs
    /// neither a capture nor an upload: it waits for the next ones that the pace of the database allows.
    pub async fn shipped(&self, path: PathBuf, txid: Option<Txid>) -> Result<Shipped, EngineError> {
        self.ask(path, |answer| Request::Shipped(txid, answer)).await
    }

    async fn ask<T>(
        &self,
        path: PathBuf,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, EngineError> {
        let (answer, answered) = oneshot::channel();
        let _ = self.orders.send(Order::Request(path.clone(), request(answer))).await;
        let gone = |_| EngineError::NotReplicable { path, reason: "it is not being replicated".into() };
        answered.await.map_err(gone)?
    }

    /// Tells whether the fleet is at work, without keeping it there.
    pub fn pulse(&self) -> Pulse {
        Pulse { orders: self.orders.downgrade() }
    }

    /// Tells what comes and goes in folders.
    pub fn folder_watch(&self) -> FolderWatch {
        FolderWatch::new(self.watch.clone())
    }

    /// Captures and uploads what is left, and closes everything. What could not be shipped is returned.
    pub async fn shutdown(self, options: ShutdownOptions) -> Vec<Unshipped> {
        let (answer, done) = oneshot::channel();
        let _ = self.orders.send(Order::Shutdown(options, answer)).await;
        drop(self);
        done.await.unwrap_or_default()
    }
}

/// How somebody outside sees whether a fleet is at work.
#[derive(Clone)]
pub struct Pulse {
    orders: mpsc::WeakSender<Order>,
}

impl Pulse {
    /// Waits until whoever keeps the books has answered, and a blocking thread is free. A fleet that has ended is at
    /// rest, and no reason to worry.
    pub async fn feel(&self) {
        if let Some(orders) = self.orders.upgrade() {
            let (answer, answered) = oneshot::channel();
            let _ = orders.send(Order::Ping(answer)).await;
            let _ = answered.await;
        }
        let _ = tokio::task::spawn_blocking(|| ()).await;
    }
}

async fn check_replicas(databases: &[DatabaseOptions]) -> Result<(), EngineError> {
    let checks = databases.iter().map(|database| database.replica.init());
    let mut checks = stream::iter(checks).buffer_unordered(CHECKED_AT_ONCE);
    let deadline = Instant::now() + CHECKED_WITHIN;
    loop {
        match tokio::time::timeout_at(deadline, checks.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(()))) => {}
            Ok(Some(Err(error))) if error.is_transient() => {
                tracing::warn!(%error, "replica does not answer yet")
            }
            Ok(Some(Err(error))) => return Err(error.into()),
            Err(_) => {
                tracing::warn!("not every replica answered in time, starting all the same");
                return Ok(());
            }
        }
    }
}

/// The books of a fleet.
struct Members {
    by_path: HashMap<PathBuf, Member>,
    tasks: JoinSet<Option<Unshipped>>,
    paths: HashMap<Id, PathBuf>,
    /// What databases could not ship that ended by themselves.
    unshipped: Vec<Unshipped>,
    shared: Shared,
    abort: watch::Sender<bool>,
}

/// A database with a task.
struct Member {
    ending: watch::Sender<Option<Shutdown>>,
    requests: mpsc::Sender<Request>,
    /// Who waits for its release.
    releasing: Vec<oneshot::Sender<Released>>,
    /// It is to be replicated again after its release.
    next: Option<DatabaseOptions>,
}

impl Members {
    fn new(watch: Watch, metrics: Metrics) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (abort, abort_seen) = watch::channel(false);
        let shared = Shared {
            clock,
            metrics,
            watch,
            permits: Arc::new(Semaphore::new(WORKING_AT_ONCE)),
            turns: Arc::new(Semaphore::new(OPENING_AT_ONCE)),
            snapshot_turns: SnapshotTurns::default(),
            history_permits: Arc::new(Semaphore::new(COMPACTING_AT_ONCE)),
            // Every member gets one of its own.
            shutdown: watch::channel(None).1,
            abort: abort_seen,
        };
        Members {
            by_path: HashMap::new(),
            tasks: JoinSet::new(),
            paths: HashMap::new(),
            unshipped: Vec::new(),
            shared,
            abort,
        }
    }

    /// Runs until the fleet is shut down, or nobody can order anything any more.
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    // Whoever asked need not have waited.
                    Some(Order::Add(options, answer)) => drop(answer.send(self.add(*options))),
                    Some(Order::Remove(path, within, answer)) => self.remove(path, within, answer),
                    Some(Order::Request(path, request)) => self.request(&path, request),
                    // Whoever asked may have lost patience.
                    Some(Order::Ping(answer)) => drop(answer.send(())),
                    Some(Order::Shutdown(options, answer)) => {
                        let _ = answer.send(self.shutdown(options).await);
                        return;
                    }
                    None => return,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
            }
        }
    }

    fn add(&mut self, options: DatabaseOptions) -> bool {
        match self.by_path.get_mut(&options.path) {
            None => self.spawn(options),
            Some(member) if member.is_leaving() => member.next = Some(options),
            Some(_) => return false,
        }
        true
    }

    fn spawn(&mut self, options: DatabaseOptions) {
        let (ending, ending_seen) = watch::channel(None);
        let shared = Shared { shutdown: ending_seen, ..self.shared.clone() };
        let path = options.path.clone();
        self.shared.metrics.database(&path).begin(self.shared.clock.now());
        let (requests, inbox) = mpsc::channel(REQUESTS);
        let task = self.tasks.spawn(run::live(options, shared, inbox));
        self.paths.insert(task.id(), path.clone());
        self.by_path.insert(path, Member { ending, requests, releasing: Vec::new(), next: None });
    }

    fn remove(&mut self, path: PathBuf, within: Duration, answer: oneshot::Sender<Released>) {
        let Some(member) = self.by_path.get_mut(&path) else {
            // Whoever asked need not have waited.
            let _ = answer.send(Released::Unknown);
            return;
        };
        member.next = None;
        member.releasing.push(answer);
        let deadline = Instant::now() + within;
        let shutdown = Shutdown { deadline, retry_interval: RELEASE_RETRY };
        member.ending.send_if_modified(|ending| ending.replace(shutdown).is_none());
    }

    /// Hands it on. Whoever asked learns by the end of his answer that nobody is there.
    fn request(&self, path: &Path, request: Request) {
        let Some(member) = self.by_path.get(path) else { return };
        if let Err(TrySendError::Full(request)) = member.requests.try_send(request) {
            let reason = "too many requests wait for it".to_owned();
            request.refuse(EngineError::NotReplicable { path: path.to_owned(), reason });
        }
    }

    fn ended(&mut self, ended: Result<(Id, Option<Unshipped>), JoinError>) {
        let (id, unshipped, reason) = match ended {
            Ok((id, unshipped)) => (id, unshipped, None),
            Err(error) => {
                tracing::error!(%error, "a database task ended early");
                (error.id(), None, Some(error.to_string()))
            }
        };
        let Some((path, member)) = self.paths.remove(&id).and_then(|path| self.by_path.remove_entry(&path))
        else {
            return;
        };
        if !member.is_leaving() {
            let reason = reason.or_else(|| Some(unshipped.as_ref()?.reason.clone()));
            self.shared.metrics.database(&path).stopped(reason.unwrap_or_default(), self.shared.clock.now());
            self.unshipped.extend(unshipped);
            return;
        }
        if let Some(unshipped) = &unshipped {
            tracing::error!(path = %path.display(), error = unshipped.reason, "database released before everything was uploaded");
        } else {
            tracing::info!(path = %path.display(), "database released");
        }
        self.shared.metrics.forget(&path);
        let released = unshipped.map_or(Released::Shipped, Released::Unshipped);
        for waiting in member.releasing {
            let _ = waiting.send(released.clone());
        }
        if let Some(options) = member.next {
            self.spawn(options);
        }
    }

    async fn shutdown(mut self, options: ShutdownOptions) -> Vec<Unshipped> {
        let ShutdownOptions { timeout, retry_interval, abort: mut wanted } = options;
        let deadline = Instant::now() + timeout;
        for member in self.by_path.values_mut() {
            member.next = None;
            member.ending.send_replace(Some(Shutdown { deadline, retry_interval }));
        }
        let mut aborted = false;
        loop {
            tokio::select! {
                _ = wanted.wait_for(|&abort| abort), if !aborted => {
                    aborted = true;
                    self.abort.send_replace(true);
                }
                ended = self.tasks.join_next() => match ended {
                    Some(Ok(unshipped)) => self.unshipped.extend(unshipped),
                    Some(Err(error)) => tracing::error!(%error, "a database task ended early"),
                    None => return self.unshipped,
                },
            }
        }
    }
}

impl Member {
    fn is_leaving(&self) -> bool {
        !self.releasing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use walstream_ltx::Level;
    use walstream_test_support::AppProcess;

    use super::*;
    use crate::testing::MemoryReplica;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_snapshot_is_made_when_somebody_wants_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let mut app = AppProcess::open(&path);
        app.execute("CREATE TABLE t(x)");
        let replica = Arc::new(MemoryReplica::default());
        let fleet = Fleet::start(vec![DatabaseOptions::new(&path, replica.clone())], Metrics::default())
            .await
            .unwrap();

        let first = fleet.snapshot(path.clone()).await.unwrap();
        app.execute("INSERT INTO t VALUES(1)");
        let second = fleet.snapshot(path.clone()).await.unwrap();
        assert!(second > first, "{first} {second}");
        assert_eq!(fleet.snapshot(path.clone()).await.unwrap(), second, "nothing is new");
        let ends: Vec<_> =
            replica.names(Level::SNAPSHOT).into_iter().map(walstream_ltx::TxidRange::max).collect();
        assert_eq!(ends, [first, second]);

        fleet.remove(path.clone(), Fleet::RELEASE_TIME).await.await;
        let error = fleet.snapshot(path).await.unwrap_err().to_string();
        assert!(error.ends_with("it is not being replicated"), "{error}");
    }
}
