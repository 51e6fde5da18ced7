//! What was done for one database.
//!
//! Invariant: every number is one atomic, written where the thing is done and read by whoever asks.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use walstream_ltx::Timestamp;
use walstream_storage::counted::{Counter, Spent};

use super::standing::State;
use crate::capture::checkpoint::Sealed;
use crate::error::EngineError;

/// The metrics of a database.
pub struct DatabaseMetrics {
    pub(super) path: PathBuf,
    pub(super) state: Mutex<State>,
    /// Captures.
    pub syncs: Work,
    /// Bytes of WAL that went into level-0 files.
    pub wal_bytes: Counter,
    /// Checkpoints beside the application, which only copy.
    passive: Work,
    /// Those that cut the WAL.
    truncate: Work,
    /// How long writers were kept out, for checkpoints and for the brake.
    pub stalls: Arc<Spent>,
    /// Compactions and retentions that failed.
    pub history_errors: Counter,
    /// Levels that were found to leave something out after a compaction.
    pub verify_errors: Counter,
    /// Turns of the validation.
    pub validations: Counter,
    /// Those that found something wrong, or could not read the replica.
    pub validation_errors: Counter,
    wal_offset: AtomicU64,
    disk_full: AtomicBool,
    validated_at: AtomicU64,
    l0: [AtomicU64; L0_STATUSES.len()],
}

/// What may be said of a level-0 file of the replica when retention looks at it.
const L0_STATUSES: [&str; 3] = ["eligible", "not_compacted", "too_recent"];

/// Level-0 files as the last look of retention found them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct L0Files {
    pub(crate) eligible: usize,
    pub(crate) not_compacted: usize,
    pub(crate) too_recent: usize,
}

/// In the words of SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointMode {
    /// Copies what it can.
    Passive,
    /// Cuts the WAL.
    Truncate,
}

impl CheckpointMode {
    /// Those that there are here.
    pub const ALL: [CheckpointMode; 2] = [CheckpointMode::Passive, CheckpointMode::Truncate];

    /// As SQLite names it.
    pub fn name(self) -> &'static str {
        match self {
            CheckpointMode::Passive => "PASSIVE",
            CheckpointMode::Truncate => "TRUNCATE",
        }
    }
}

/// Something that is done again and again.
#[derive(Debug, Default)]
pub struct Work {
    /// How often.
    pub total: Counter,
    /// How often it failed.
    pub errors: Counter,
    /// How long it took.
    pub spent: Spent,
}

impl Work {
    /// Notes that it was done.
    pub(crate) fn done<T>(&self, started: Instant, result: &Result<T, EngineError>) {
        self.total.add(1);
        self.errors.add(u64::from(result.is_err()));
        self.spent.add(started.elapsed());
    }
}

impl DatabaseMetrics {
    pub(super) fn new(path: &Path) -> Self {
        DatabaseMetrics {
            path: path.to_owned(),
            state: Mutex::new(State::new()),
            syncs: Work::default(),
            wal_bytes: Counter::default(),
            passive: Work::default(),
            truncate: Work::default(),
            stalls: Arc::default(),
            history_errors: Counter::default(),
            verify_errors: Counter::default(),
            validations: Counter::default(),
            validation_errors: Counter::default(),
            wal_offset: AtomicU64::default(),
            disk_full: AtomicBool::default(),
            validated_at: AtomicU64::default(),
            l0: Default::default(),
        }
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its checkpoints in a mode.
    pub fn checkpoints(&self, mode: CheckpointMode) -> &Work {
        match mode {
            CheckpointMode::Passive => &self.passive,
            CheckpointMode::Truncate => &self.truncate,
        }
    }

    /// Up to where the WAL is captured.
    pub fn wal_offset(&self) -> u64 {
        self.wal_offset.load(Ordering::Relaxed)
    }

    /// Whether the last capture failed because no space is left.
    pub fn disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// When validation last found nothing wrong, as a time since the Unix epoch.
    pub fn validated_at(&self) -> Option<Duration> {
        let millis = self.validated_at.load(Ordering::Relaxed);
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    /// Level-0 files of the replica by what retention last said of them.
    pub fn l0_files(&self) -> impl Iterator<Item = (&'static str, u64)> + use<'_> {
        L0_STATUSES.into_iter().zip(self.l0.iter().map(|number| number.load(Ordering::Relaxed)))
    }

    /// Notes a capture; `wal_offset` is where it came to.
    pub(crate) fn captured(&self, wal_bytes: u64, wal_offset: u64) {
        self.wal_bytes.add(wal_bytes);
        self.wal_offset.store(wal_offset, Ordering::Relaxed);
    }

    /// Notes how a capture ended.
    pub(crate) fn synced<T>(&self, started: Instant, result: &Result<T, EngineError>) {
        self.syncs.done(started, result);
        let is_full = result.as_ref().is_err_and(EngineError::is_disk_full);
        self.disk_full.store(is_full, Ordering::Relaxed);
    }

    /// Notes how a checkpoint ended.
    pub(crate) fn checkpointed(&self, started: Instant, result: &Result<Sealed, EngineError>) {
        self.passive.done(started, result);
        if let Ok(Sealed { cut: Some(time), .. }) = result {
            self.truncate.total.add(1);
            self.truncate.spent.add(*time);
        }
    }

    /// Notes a turn of the validation that found nothing wrong.
    pub(crate) fn validated(&self, now: Timestamp) {
        self.validated_at.store(u64::try_from(now.as_millis()).unwrap_or_default(), Ordering::Relaxed);
    }

    pub(crate) fn l0_seen(&self, files: L0Files) {
        let counts = [files.eligible, files.not_compacted, files.too_recent];
        for (number, count) in self.l0.iter().zip(counts) {
            number.store(count as u64, Ordering::Relaxed);
        }
    }
}
