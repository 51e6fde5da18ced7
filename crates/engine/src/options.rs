//! What a user may choose, with the peer's defaults.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use walstream_storage::ReplicaClient;

/// How one database is replicated.
#[derive(Clone)]
pub struct DatabaseOptions {
    /// The database file.
    pub path: PathBuf,
    /// Folder of the local state, by default `.NAME-litestream` beside the database.
    pub meta_path: PathBuf,
    /// Where its files go.
    pub replica: Arc<dyn ReplicaClient>,
    /// How often to look for changes when no file-system event told of one.
    pub monitor_interval: Duration,
    /// After this long, captured frames are checkpointed even if they are few. Zero turns that off.
    pub checkpoint_interval: Duration,
    /// How long SQLite may wait for a lock, and how long a checkpoint may try for the write lock.
    pub busy_timeout: Duration,
    /// A WAL of at least this many pages is sealed and checkpointed.
    pub min_checkpoint_pages: u32,
    /// One level-0 file holds at most about this many bytes of WAL (cut at a commit). Zero: no limit.
    pub max_sync_wal_bytes: u64,
    /// At most one upload in this time.
    pub sync_interval: Duration,
    /// Compaction, snapshots and retention.
    pub history: HistoryOptions,
}

impl DatabaseOptions {
    /// A database and its replica, everything else as the peer has it.
    pub fn new(path: impl Into<PathBuf>, replica: Arc<dyn ReplicaClient>) -> Self {
        let path = path.into();
        DatabaseOptions {
            meta_path: default_meta_path(&path),
            path,
            replica,
            monitor_interval: Duration::from_secs(1),
            checkpoint_interval: Duration::from_secs(60),
            busy_timeout: Duration::from_secs(1),
            min_checkpoint_pages: 1000,
            max_sync_wal_bytes: 64 << 20,
            sync_interval: Duration::from_secs(1),
            history: HistoryOptions::default(),
        }
    }
}

/// `DIR/.NAME-litestream` for `DIR/NAME`, the peer's place, so that either can go on where the other stopped.
pub fn default_meta_path(database: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(database.file_name().unwrap_or_default());
    name.push("-litestream");
    database.with_file_name(name)
}

/// What becomes of level-0 files over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryOptions {
    /// Window of each compaction level, level 1 first. At most eight.
    pub levels: Vec<Duration>,
    /// Time between full snapshots.
    pub snapshot_interval: Duration,
    /// How long snapshots, and the points in time that need them, are kept.
    pub snapshot_retention: Duration,
    /// How long level-0 files are kept after they were compacted. Zero keeps them all.
    pub l0_retention: Duration,
    /// How often level-0 files are looked through.
    pub l0_retention_check_interval: Duration,
    /// Whether anything is ever deleted from the replica.
    pub retention_enabled: bool,
    /// Whether a level is listed and checked for contiguity after each compaction.
    pub verify_compaction: bool,
    /// How often the replica is validated. Zero: never.
    pub validation_interval: Duration,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        HistoryOptions {
            levels: vec![minute / 2, minute * 5, minute * 60],
            snapshot_interval: minute * 60 * 24,
            snapshot_retention: minute * 60 * 24,
            l0_retention: minute * 5,
            l0_retention_check_interval: Duration::from_secs(15),
            retention_enabled: true,
            verify_compaction: false,
            validation_interval: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_folder_is_the_peers() {
        assert_eq!(default_meta_path(Path::new("/a/app.db")), Path::new("/a/.app.db-litestream"));
    }
}
