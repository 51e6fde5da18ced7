//! What can be known of the work while it is being done.
//!
//! Invariants: counting never waits, and an idle database counts nothing. What can be seen in the state of a database is
//! looked up when somebody asks, and at no other time. A database that is forgotten leaves nothing behind.
//!
//! | what | module |
//! |---|---|
//! | what was done for a database, counted | [`database`] |
//! | how far it is on its replica, looked up | [`standing`] |
//! | how far a copy is behind its replica | [`follower`] |
//!
//! Nothing here knows how any of it is published.

pub mod database;
pub mod follower;
pub mod standing;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use walstream_ltx::{Level, Timestamp};
use walstream_storage::counted::Histogram;

pub use self::database::{CheckpointMode, DatabaseMetrics};
pub use self::follower::FollowerMetrics;
pub use self::standing::{Standing, Unready};

/// The ends of the classes of long work, in seconds.
const LONG_WORK: &[f64] = &[0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// The metrics of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics {
    databases: Arc<Mutex<BTreeMap<PathBuf, Arc<DatabaseMetrics>>>>,
    follower: Arc<OnceLock<Arc<FollowerMetrics>>>,
    work: Arc<Work>,
}

/// What all databases have in common.
#[derive(Debug)]
struct Work {
    restores: Histogram,
    /// For each level; that of the snapshots is one of them.
    compactions: Vec<Histogram>,
}

impl Default for Work {
    fn default() -> Self {
        let compactions = Level::all().map(|_| Histogram::new(LONG_WORK)).collect();
        Work { restores: Histogram::new(LONG_WORK), compactions }
    }
}

impl Metrics {
    /// Those of a database, which begin here if it is new.
    pub fn database(&self, path: &Path) -> Arc<DatabaseMetrics> {
        let begin = || Arc::new(DatabaseMetrics::new(path));
        Arc::clone(self.book().entry(path.to_owned()).or_insert_with(begin))
    }

    /// Those of a database that is known.
    pub fn known(&self, path: &Path) -> Option<Arc<DatabaseMetrics>> {
        self.book().get(path).cloned()
    }

    /// Every database, in the order of their paths.
    pub fn databases(&self) -> Vec<Arc<DatabaseMetrics>> {
        self.book().values().cloned().collect()
    }

    /// Those of the copy that follows its replica, if there is one.
    pub fn follower(&self) -> Option<&Arc<FollowerMetrics>> {
        self.follower.get()
    }

    /// Those of the copy, which begin here. A process has one copy.
    pub(crate) fn follow(&self, path: &Path, now: Timestamp) -> Arc<FollowerMetrics> {
        Arc::clone(self.follower.get_or_init(|| Arc::new(FollowerMetrics::new(path, now))))
    }

    /// How long restores took.
    pub fn restores(&self) -> &Histogram {
        &self.work.restores
    }

    /// How long it took to make a file of a level: by compaction, or the snapshots of the highest level.
    pub fn compactions(&self) -> impl Iterator<Item = (Level, &Histogram)> {
        Level::all().zip(&self.work.compactions)
    }

    /// Notes how long it took to make a file of a level.
    pub(crate) fn made(&self, level: Level, time: Duration) {
        if let Some(histogram) = self.work.compactions.get(usize::from(level.get())) {
            histogram.record(time);
        }
    }

    /// Ends those of a database.
    pub(crate) fn forget(&self, path: &Path) {
        self.book().remove(path);
    }

    fn book(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<DatabaseMetrics>>> {
        self.databases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
