//! What is said while uploads fail, or do not get on.
//!
//! Invariant: whoever reads the log learns at once that uploads fail, each minute how old the oldest commit is that
//! only this machine has, and when everything is well again.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use walstream_ltx::{Timestamp, Txid};
use walstream_storage::ReplicaClient;

use super::queue::{Uploaded, Uploader};
use crate::clock::Clock;
use crate::error::EngineError;
use crate::shadow::folder::ShadowFolder;
use crate::trouble::{Age, REMINDER, Trouble};

/// After repeated failures an upload is tried again at least this often.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
const SHORTEST_BACKOFF: Duration = Duration::from_millis(100);

/// The failures of one uploader.
pub(super) struct Outage {
    trouble: Trouble,
    client: Arc<dyn ReplicaClient>,
    shadow: ShadowFolder,
    captured: watch::Receiver<Txid>,
    uploaded: watch::Receiver<Uploaded>,
    clock: Arc<dyn Clock>,
}

impl Outage {
    pub(super) fn of(uploader: &Uploader) -> Self {
        let first_backoff = uploader.sync_interval.max(SHORTEST_BACKOFF);
        Outage {
            trouble: Trouble::new(first_backoff, LONGEST_BACKOFF),
            client: Arc::clone(&uploader.client),
            shadow: uploader.shadow.clone(),
            captured: uploader.captured.clone(),
            uploaded: uploader.uploaded.subscribe(),
            clock: Arc::clone(&uploader.clock),
        }
    }

    /// Notes a failure; returns how long to wait before the next try.
    pub(super) async fn failed(&mut self, error: &EngineError) -> Duration {
        let (replica, waiting) = (self.client.location(), self.waiting().await);
        self.trouble.failed(|row| {
            tracing::error!(
                %replica, %error, uploaded = %waiting.uploaded, captured = %waiting.captured,
                oldest_unshipped = %waiting.age, failing_for = %row.lasting, "upload failed, trying again"
            );
        })
    }

    /// Says each minute that nothing arrives although nothing fails: a disk that hangs, or a line that is too thin.
    /// Never ends.
    pub(super) async fn watch(&self) -> Infallible {
        let mut before = self.uploaded.borrow().txid;
        loop {
            tokio::time::sleep(REMINDER).await;
            let waiting = self.waiting().await;
            if waiting.uploaded == before {
                let replica = self.client.location();
                tracing::warn!(
                    %replica, uploaded = %waiting.uploaded, captured = %waiting.captured,
                    oldest_unshipped = %waiting.age, "upload takes long"
                );
            }
            before = waiting.uploaded;
        }
    }

    /// Notes a success.
    pub(super) fn over(&mut self) {
        let replica = self.client.location();
        self.trouble.over(|row| {
            let (count, lasted) = (row.count, row.lasting);
            tracing::info!(%replica, previous_errors = count, failed_for = %lasted, "replica sync recovered");
        });
    }

    async fn waiting(&self) -> Waiting {
        let (uploaded, captured) = (self.uploaded.borrow().txid, *self.captured.borrow());
        let shadow = self.shadow.clone();
        let oldest = tokio::task::spawn_blocking(move || captured_after(&shadow, uploaded)).await;
        let now = self.clock.now();
        // A file that cannot be read has lines of its own in the log.
        let oldest = oldest.ok().flatten().unwrap_or(now);
        let age = u64::try_from(now.as_millis().saturating_sub(oldest.as_millis())).unwrap_or_default();
        Waiting { uploaded, captured, age: Age(Duration::from_millis(age)) }
    }
}

/// What has not reached the replica.
struct Waiting {
    uploaded: Txid,
    captured: Txid,
    /// Of the oldest commit among it.
    age: Age,
}

/// When the first file after a TXID was captured.
fn captured_after(shadow: &ShadowFolder, txid: Txid) -> Option<Timestamp> {
    let first = *shadow.files_after(txid).ok()?.first()?;
    let (header, _) = shadow.describe(first).ok()??;
    Some(header.timestamp)
}
