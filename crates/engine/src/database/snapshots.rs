//! The task that makes snapshots: at once where the replica needs one, then by the clock.
//!
//! Invariants: a snapshot that is needed is tried until it is there, or until the replica turns out to be another
//! writer's. On a replica that has a beginning, a snapshot goes up after level 0 has come to its TXID.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use walstream_ltx::{Level, Timestamp, Txid};
use walstream_storage::ReplicaClient;

use super::command::{Command, ask};
use crate::capture::snapshot::Snapshot;
use crate::clock::Clock;
use crate::error::EngineError;
use crate::history::levels;
use crate::metrics::Metrics;
use crate::shadow::folder::ShadowFolder;
use crate::trouble::Trouble;
use crate::upload::queue::Uploaded;
use crate::upload::snapshot;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// A pinned state waits no longer than this for its last upload.
const PINNED_PATIENCE: Duration = Duration::from_secs(30);

/// Makes the snapshots of one database.
pub(crate) struct Snapshots {
    pub(crate) client: Arc<dyn ReplicaClient>,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Told when a snapshot is needed whatever the clock says.
    pub(crate) needed: Arc<Notify>,
    /// Those at the store.
    pub(crate) turns: Arc<Semaphore>,
    pub(crate) interval: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    /// The newest snapshot on the replica.
    pub(crate) last: Option<(Txid, Timestamp)>,
    /// Told of each snapshot that is on the replica.
    pub(crate) made: watch::Sender<Txid>,
    /// How far level 0 is; told if the replica is another writer's.
    pub(crate) uploaded: watch::Sender<Uploaded>,
    pub(crate) shadow: ShadowFolder,
    /// Whether anything can be restored from the replica yet.
    pub(crate) has_beginning: bool,
    pub(crate) metrics: Metrics,
}

impl Snapshots {
    /// Runs until it is cancelled.
    pub(crate) async fn run(mut self) {
        loop {
            let now = self.clock.now();
            let due =
                levels::next_window(self.last.map_or(now, |(_, made_at)| made_at.max(now)), self.interval);
            let overdue =
                self.last.is_some_and(|(_, made_at)| levels::is_due(now, self.interval, Some(made_at)));
            let forced = tokio::select! {
                () = self.needed.notified() => true,
                () = tokio::time::sleep(if overdue { Duration::ZERO } else { levels::until(now, due) }) => false,
            };
            if let Err(fenced) = Box::pin(self.make(forced)).await {
                tracing::error!(replica = self.client.kind(), error = %fenced, "replication stopped");
                self.uploaded.send_modify(|uploaded| uploaded.fenced = Some(fenced.to_string()));
                return;
            }
        }
    }

    /// Makes one, however often it takes. Without a change since the last one there is nothing to do. The only error is
    /// that the replica is another writer's.
    async fn make(&mut self, forced: bool) -> Result<(), EngineError> {
        let replica = self.client.location();
        let mut trouble = Trouble::new(FIRST_BACKOFF, LONGEST_BACKOFF);
        while let Err(error) = self.try_make(forced).await {
            if matches!(error, EngineError::Fenced { .. }) {
                return Err(error);
            }
            let pause = trouble.failed(|row| {
                let (count, lasting) = (row.count, row.lasting);
                tracing::error!(%replica, %error, consecutive_errors = count, failing_for = %lasting, "snapshot failed, trying again");
            });
            tokio::time::sleep(pause).await;
        }
        trouble.over(|row| {
            tracing::info!(%replica, previous_errors = row.count, failed_for = %row.lasting, "snapshot recovered");
        });
        Ok(())
    }

    async fn try_make(&mut self, forced: bool) -> Result<(), EngineError> {
        let made_at = self.clock.now();
        let position = ask(&self.commands, Command::Sync).await?;
        let unchanged = self.last.is_some_and(|(txid, _)| txid == position.txid);
        if unchanged && !forced {
            self.last = Some((position.txid, made_at));
            return Ok(());
        }
        let (txid, started) = if self.has_beginning {
            let (pinned, _turn) = self.pin_shipped(position.txid).await?;
            let started = self.begin();
            (snapshot::upload(self.client.as_ref(), pinned).await?, started)
        } else {
            let _turn = self.turn().await?;
            let pinned = ask(&self.commands, Command::Snapshot).await?;
            let started = self.begin();
            (snapshot::upload_first(self.client.as_ref(), &self.shadow, pinned).await?, started)
        };
        self.metrics.made(Level::SNAPSHOT, started.elapsed());
        self.has_beginning = true;
        self.last = Some((txid, made_at));
        self.made.send_replace(txid);
        Ok(())
    }

    /// Waits until one more may go to the store. Nothing is pinned meanwhile.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, EngineError> {
        let lost = |_| EngineError::TaskLost("snapshots".into());
        Arc::clone(&self.turns).acquire_owned().await.map_err(lost)
    }

    fn begin(&self) -> Instant {
        tracing::debug!(replica = %self.client.location(), "snapshot begins");
        Instant::now()
    }

    /// Pins a state that level 0 of the replica has. The uploads are waited for before, because the WAL grows for as
    /// long as a state is pinned.
    async fn pin_shipped(&self, captured: Txid) -> Result<(Snapshot, OwnedSemaphorePermit), EngineError> {
        let mut uploaded = self.uploaded.subscribe();
        let mut wanted = captured;
        loop {
            // The sender is ours, so it cannot be gone.
            let _ = uploaded.wait_for(|uploaded| uploaded.txid >= wanted).await;
            let turn = self.turn().await?;
            let pinned = ask(&self.commands, Command::Snapshot).await?;
            wanted = pinned.header().txids.max();
            let shipped = uploaded.wait_for(|uploaded| uploaded.txid >= wanted);
            if tokio::time::timeout(PINNED_PATIENCE, shipped).await.is_ok() {
                return Ok((pinned, turn));
            }
        }
    }
}
