//! The life of one database in a fleet: opened, replicated, opened anew when that is needed, closed at the end.
//!
//! Invariant: whatever fails, the task goes on trying until it is told to end, and then it still tries to
//! ship what there is for as long as that allows. A database that is deleted is waited for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use walstream_ltx::{Txid, TxidRange};

use super::command::{Callers, Request};
use super::open::{self, Opened, Silence};
use super::running::Running;
use super::trouble::Trouble;
use super::turns::SnapshotTurns;
use crate::clock::Clock;
use crate::error::EngineError;
use crate::metrics::Metrics;
use crate::options::DatabaseOptions;
use crate::watch::{Wake, Watch};

/// What ends a task, and how patient it is then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shutdown {
    pub(crate) deadline: Instant,
    pub(crate) retry_interval: Duration,
}

/// What did not reach the replica before the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unshipped {
    /// The database.
    pub path: PathBuf,
    /// The last TXID on the replica; `None` if the replica was never reached.
    pub shipped: Option<Txid>,
    /// The last TXID captured.
    pub captured: Txid,
    /// Why, where it is known.
    pub reason: String,
}

impl Unshipped {
    /// What is captured and not on the replica, as far as that is known.
    pub fn missing(&self) -> Option<TxidRange> {
        TxidRange::new(self.shipped?.next(), self.captured)
    }
}

/// What a database shares with the others of its fleet, and how it alone learns that it is to end.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) watch: Watch,
    /// Bounds how many databases capture at the same time.
    pub(crate) permits: Arc<Semaphore>,
    /// Bounds how many databases are opened at the same time.
    pub(crate) turns: Arc<Semaphore>,
    /// Bounds how many databases send a snapshot at the same time.
    pub(crate) snapshot_turns: SnapshotTurns,
    /// Bounds how many databases are compacted at the same time.
    pub(crate) history_permits: Arc<Semaphore>,
    pub(crate) shutdown: watch::Receiver<Option<Shutdown>>,
    /// Turns true when the operator does not want to wait any longer.
    pub(crate) abort: watch::Receiver<bool>,
}

impl Shared {
    /// The shutdown, if there is one.
    pub(crate) fn ending(&self) -> Option<Shutdown> {
        *self.shutdown.borrow()
    }

    /// Waits until this database is told to end, or the fleet is gone.
    pub(crate) async fn end(&self) {
        let mut shutdown = self.shutdown.clone();
        let _ = shutdown.wait_for(Option::is_some).await;
    }

    /// Waits until nothing may be waited for any longer.
    pub(crate) async fn out_of_time(&self) -> &'static str {
        self.end().await;
        let (mut shutdown, mut abort) = (self.shutdown.clone(), self.abort.clone());
        loop {
            let deadline =
                shutdown.borrow_and_update().map_or_else(Instant::now, |shutdown| shutdown.deadline);
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => return "the time for the last uploads is up",
                _ = abort.wait_for(|&abort| abort) => return "the operator did not wait",
                // Released first, and then the whole fleet ends sooner or later than that.
                Ok(()) = shutdown.changed() => {}
            }
        }
    }
}

/// How the replication of a database came to an end.
pub(crate) enum End {
    Shutdown(Option<Unshipped>),
    /// The database must be opened anew; the reason is for the log.
    Reopen(&'static str),
    /// The database was deleted, and everything that was captured is shipped.
    Deleted,
}

/// Replicates a database until it is told to end; returns what it could not ship.
pub(crate) async fn live(
    options: DatabaseOptions,
    shared: Shared,
    requests: mpsc::Receiver<Request>,
) -> Option<Unshipped> {
    let mut callers = Callers::new(requests);
    let mut trouble = Trouble::new(&options);
    let mut deleted = false;
    let metrics = shared.metrics.database(&options.path);
    loop {
        let mut wake = shared.watch.database(&options.path);
        let pause = if options.path.exists() {
            metrics.is_found(shared.clock.now());
            if std::mem::take(&mut deleted) {
                tracing::info!(path = %options.path.display(), reason = "the file is back", "database is opened anew");
            }
            let started = std::time::Instant::now();
            // What is rarely under way lies on the heap, so that ten thousand idle tasks do not each keep room for it.
            let opened = tokio::select! {
                opened = Box::pin(open(&options, &shared)) => opened,
                reason = shared.out_of_time() => {
                    let reason = format!("the database could not be opened for replication before the end ({reason})");
                    return Some(not_opened(&options, reason));
                }
            };
            if let Err(error @ EngineError::Fenced { .. }) = &opened {
                tracing::error!(path = %options.path.display(), %error, "replication stopped");
                return Some(not_opened(&options, error.to_string()));
            }
            if opened.is_err() {
                metrics.synced(started, &opened);
            }
            match replicate(&options, &shared, opened, (&mut wake, &mut callers), &mut trouble).await {
                Ok(End::Shutdown(unshipped)) => return unshipped,
                Ok(End::Reopen(reason)) => {
                    tracing::info!(path = %options.path.display(), reason, "database is opened anew");
                    continue;
                }
                Ok(End::Deleted) => {
                    deleted = true;
                    continue;
                }
                Err(_) if !options.path.exists() => continue,
                Err(error) => {
                    metrics.cannot_see(&error, shared.clock.now());
                    trouble.with("replication failed, trying again", &error)
                }
            }
        } else if shared.ending().is_some() {
            return None;
        } else {
            metrics.is_missing();
            options.monitor_interval
        };
        match shared.ending() {
            Some(shutdown) => tokio::time::sleep(pause.min(shutdown.retry_interval)).await,
            None => tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wake.wait(), if !trouble.active() => {}
                () = shared.end() => {}
            },
        }
    }
}

/// Opens a database when it is its turn, so that not all of many ask for threads and for their replicas at once.
async fn open(options: &DatabaseOptions, shared: &Shared) -> Result<Opened, EngineError> {
    let turn = Arc::clone(&shared.turns).acquire_owned().await.ok();
    tracing::debug!(path = %options.path.display(), "opening database");
    let permits = Arc::clone(&shared.permits);
    open::open(options, Arc::clone(&shared.clock), permits, Silence::Tolerated, turn).await
}

async fn replicate(
    options: &DatabaseOptions,
    shared: &Shared,
    opened: Result<Opened, EngineError>,
    (wake, callers): (&mut Wake, &mut Callers),
    trouble: &mut Trouble,
) -> Result<End, EngineError> {
    let opened = opened?;
    trouble.over("database opened");
    tracing::info!(path = %options.path.display(), "initialized db");
    Running::new(options, shared, opened, wake, callers)?.run().await
}

fn not_opened(options: &DatabaseOptions, reason: String) -> Unshipped {
    Unshipped { path: options.path.clone(), shipped: None, captured: Txid::ZERO, reason }
}
