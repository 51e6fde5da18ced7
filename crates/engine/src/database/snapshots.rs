//! The task that makes snapshots: at once where the replica needs one, then by the clock.
//!
//! Invariant: a snapshot that is needed is tried until it is there.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use walstream_ltx::{Timestamp, Txid};
use walstream_storage::ReplicaClient;

use super::command::{Command, ask};
use crate::clock::Clock;
use crate::error::EngineError;
use crate::history::levels;
use crate::upload::snapshot;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Makes the snapshots of one database.
pub(crate) struct Snapshots {
    pub(crate) client: Arc<dyn ReplicaClient>,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Told when a snapshot is needed whatever the clock says.
    pub(crate) needed: Arc<Notify>,
    pub(crate) interval: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    /// The newest snapshot on the replica.
    pub(crate) last: Option<(Txid, Timestamp)>,
    /// Told of each snapshot that is on the replica.
    pub(crate) made: watch::Sender<Txid>,
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
            self.make(forced).await;
        }
    }

    /// Makes one, however often it takes. Without a change since the last one there is nothing to do.
    async fn make(&mut self, forced: bool) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            match self.try_make(forced).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(replica = %self.client.location(), %error, "snapshot failed, trying again");
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(LONGEST_BACKOFF);
                }
            }
        }
    }

    async fn try_make(&mut self, forced: bool) -> Result<(), EngineError> {
        let made_at = self.clock.now();
        let position = ask(&self.commands, Command::Sync).await?;
        let unchanged = self.last.is_some_and(|(txid, _)| txid == position.txid);
        if unchanged && !forced {
            self.last = Some((position.txid, made_at));
            return Ok(());
        }
        let pinned = ask(&self.commands, Command::Snapshot).await?;
        let txid = snapshot::upload(self.client.as_ref(), pinned).await?;
        self.last = Some((txid, made_at));
        self.made.send_replace(txid);
        Ok(())
    }
}
