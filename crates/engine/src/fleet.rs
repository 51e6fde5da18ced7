//! Many databases in one process.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::{Clock, SystemClock};
use crate::database::run::{self, Shared, Shutdown, Unshipped};
use crate::error::EngineError;
use crate::options::DatabaseOptions;
use crate::watch::Watch;

/// So many databases use a blocking thread at the same time.
const WORKING_AT_ONCE: usize = 16;
/// So many databases are compacted at the same time.
const COMPACTING_AT_ONCE: usize = 2;

/// The databases that a daemon replicates.
pub struct Fleet {
    databases: JoinSet<Option<Unshipped>>,
    shutdown: watch::Sender<Option<Shutdown>>,
    abort: watch::Sender<bool>,
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

impl Fleet {
    /// Checks every replica once and begins to replicate. A replica that does not answer is tried again and
    /// again later on; one that can never work is an error, as it is a mistake in the configuration.
    pub async fn start(databases: Vec<DatabaseOptions>) -> Result<Fleet, EngineError> {
        let checks = databases.iter().map(|database| database.replica.init());
        for checked in join_all(checks).await {
            match checked {
                Ok(()) => {}
                Err(error) if error.is_transient() => tracing::warn!(%error, "replica does not answer yet"),
                Err(error) => return Err(error.into()),
            }
        }
        let (shutdown, shutdown_seen) = watch::channel(None);
        let (abort, abort_seen) = watch::channel(false);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let shared = Shared {
            clock,
            watch: Watch::new(),
            permits: Arc::new(Semaphore::new(WORKING_AT_ONCE)),
            history_permits: Arc::new(Semaphore::new(COMPACTING_AT_ONCE)),
            shutdown: shutdown_seen,
            abort: abort_seen,
        };
        let mut set = JoinSet::new();
        for options in databases {
            set.spawn(run::live(options, shared.clone()));
        }
        Ok(Fleet { databases: set, shutdown, abort })
    }

    /// Captures and uploads what is left, and closes everything. What could not be shipped is returned.
    pub async fn shutdown(mut self, options: ShutdownOptions) -> Vec<Unshipped> {
        let ShutdownOptions { timeout, retry_interval, abort } = options;
        let deadline = Instant::now() + timeout;
        self.shutdown.send_replace(Some(Shutdown { deadline, retry_interval }));
        let mut unshipped = Vec::new();
        let mut wanted = abort;
        let mut aborted = false;
        loop {
            tokio::select! {
                _ = wanted.wait_for(|&abort| abort), if !aborted => {
                    aborted = true;
                    self.abort.send_replace(true);
                }
                done = self.databases.join_next() => match done {
                    Some(Ok(outcome)) => unshipped.extend(outcome),
                    Some(Err(error)) => tracing::error!(%error, "a database task ended early"),
                    None => return unshipped,
                },
            }
        }
    }
}
