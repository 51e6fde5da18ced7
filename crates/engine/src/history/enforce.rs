//! Carrying out what [`retention`](super::retention) decides.
//!
//! Invariant: before anything below the snapshots is deleted, the restore planner must find the same newest state with
//! and without what is to go. A replica that cannot be restored to its newest state loses nothing.

use std::collections::HashSet;

use futures::future::try_join_all;
use tracing::{info, warn};
use walstream_ltx::{Level, Timestamp, Txid};
use walstream_storage::{FileInfo, ReplicaClient, StorageError, TimestampSource};

use super::retention::{floor, level_to_delete, snapshots_to_delete};
use crate::error::EngineError;
use crate::options::HistoryOptions;
use crate::restore::plan::{Target, choose};

/// Deletes the snapshots that are too old, and with them everything below that only they needed. Returns what is gone,
/// or would be if the store allowed it.
pub async fn enforce_snapshot_retention(
    client: &dyn ReplicaClient,
    options: &HistoryOptions,
    now: Timestamp,
) -> Result<Vec<FileInfo>, EngineError> {
    let list = |level| client.list(level, Txid::FIRST, time_source(level));
    let listing: Vec<FileInfo> = try_join_all(Level::all().map(list)).await?.into_iter().flatten().collect();
    let gone = superfluous(&listing, options, now);
    if gone.is_empty() {
        return Ok(gone);
    }
    let names: HashSet<_> = gone.iter().map(|file| (file.level, file.txids)).collect();
    let mut remaining = listing.clone();
    remaining.retain(|file| !names.contains(&(file.level, file.txids)));
    match (newest_state(&listing), newest_state(&remaining)) {
        (Some(before), Some(after)) if before == after => {}
        _ => {
            warn!(replica = %client.location(), "the newest state cannot be restored, so nothing is deleted");
            return Ok(Vec::new());
        }
    }
    match delete(client, options, &gone).await? {
        Deletion::Done => {
            let snapshots = gone.iter().filter(|file| file.level == Level::SNAPSHOT).count();
            info!(snapshots, files = gone.len() - snapshots, "snapshot retention enforced");
        }
        Deletion::Denied(error) => say_denied(&error),
        Deletion::Off => {}
    }
    Ok(gone)
}

/// Only the times of snapshots decide, and there are few of them.
fn time_source(level: Level) -> TimestampSource {
    if level == Level::SNAPSHOT { TimestampSource::Exact } else { TimestampSource::Listing }
}

fn superfluous(listing: &[FileInfo], options: &HistoryOptions, now: Timestamp) -> Vec<FileInfo> {
    let level = |level| listing.iter().filter(|file| file.level == level).cloned().collect::<Vec<_>>();
    let snapshots = level(Level::SNAPSHOT);
    let floor = floor(&snapshots, now, options.snapshot_retention);
    let mut gone = snapshots_to_delete(&snapshots, now, options.snapshot_retention);
    let below = Level::all().filter(|&level| level != Level::SNAPSHOT);
    // Who keeps level 0 for ever gets that.
    let below = below.filter(|&level| level != Level::L0 || !options.l0_retention.is_zero());
    gone.extend(below.flat_map(|number| level_to_delete(&level(number), floor)));
    gone
}

fn newest_state(listing: &[FileInfo]) -> Option<Txid> {
    let files = choose(listing, &Target::Latest).ok()?;
    files.last().map(|file| file.txids.max())
}

/// What became of files that were to be deleted.
pub(super) enum Deletion {
    /// They are gone.
    Done,
    /// The user wants everything kept.
    Off,
    /// The store keeps them.
    Denied(StorageError),
}

/// Deletes files from the replica, if anything may be deleted there at all.
pub(super) async fn delete(
    client: &dyn ReplicaClient,
    options: &HistoryOptions,
    files: &[FileInfo],
) -> Result<Deletion, StorageError> {
    if !options.retention_enabled {
        return Ok(Deletion::Off);
    }
    let names: Vec<_> = files.iter().map(|file| (file.level, file.txids)).collect();
    match client.delete(&names).await {
        Ok(()) => Ok(Deletion::Done),
        Err(error @ StorageError::Denied { .. }) => Ok(Deletion::Denied(error)),
        Err(error) => Err(error),
    }
}

pub(super) fn say_denied(error: &StorageError) {
    warn!(%error, "the store does not allow deletion, so files stay that retention would delete");
}
