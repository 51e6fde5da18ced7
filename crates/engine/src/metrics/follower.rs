//! How far a copy is behind the replica that it follows.
//!
//! Invariant: the lag is zero only at a moment at which the copy was seen to be as new as the replica; from there on it
//! grows until that is seen again, whatever keeps it from being seen.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use walstream_ltx::{Timestamp, Txid};
use walstream_storage::counted::Counter;

/// The metrics of a copy.
#[derive(Debug)]
pub struct FollowerMetrics {
    path: PathBuf,
    /// Steps that changed the copy.
    pub steps: Counter,
    /// Steps that failed.
    pub errors: Counter,
    started: Timestamp,
    txid: AtomicU64,
    /// In milliseconds since the Unix epoch; zero: not known.
    state_of: AtomicU64,
    in_step_at: AtomicU64,
}

impl FollowerMetrics {
    pub(super) fn new(path: &Path, now: Timestamp) -> Self {
        FollowerMetrics {
            path: path.to_owned(),
            steps: Counter::default(),
            errors: Counter::default(),
            started: now,
            txid: AtomicU64::default(),
            state_of: AtomicU64::default(),
            in_step_at: AtomicU64::default(),
        }
    }

    /// The copy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state that the copy is in; `None` until it is restored.
    pub fn txid(&self) -> Option<Txid> {
        Some(Txid::new(self.txid.load(Ordering::Relaxed))).filter(|txid| !txid.is_zero())
    }

    /// When that state was captured, as a time since the Unix epoch, where that is known.
    pub fn state_of(&self) -> Option<Duration> {
        millis(&self.state_of)
    }

    /// How long ago the copy was as new as the replica, as far as anybody looked.
    pub fn lag(&self, now: Timestamp) -> Duration {
        let since = millis(&self.in_step_at).unwrap_or_else(|| since_epoch(self.started));
        since_epoch(now).saturating_sub(since)
    }

    /// Whether the copy has been as new as the replica.
    pub fn is_ready(&self) -> bool {
        millis(&self.in_step_at).is_some()
    }

    pub(crate) fn is_at(&self, txid: Txid) {
        self.txid.store(txid.get(), Ordering::Relaxed);
    }

    pub(crate) fn is_of(&self, moment: Timestamp) {
        store(&self.state_of, moment);
    }

    pub(crate) fn is_in_step(&self, now: Timestamp) {
        store(&self.in_step_at, now);
    }
}

fn since_epoch(moment: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(moment.as_millis()).unwrap_or_default())
}

fn store(cell: &AtomicU64, moment: Timestamp) {
    cell.store(u64::try_from(moment.as_millis()).unwrap_or_default(), Ordering::Relaxed);
}

fn millis(cell: &AtomicU64) -> Option<Duration> {
    Some(cell.load(Ordering::Relaxed)).filter(|&millis| millis > 0).map(Duration::from_millis)
}
