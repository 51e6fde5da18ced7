//! What `/metrics` says: the peer's metrics under the peer's names, and those that it lacks.

use std::sync::Arc;
use std::time::Duration;

use walstream_engine::metrics::{CheckpointMode, DatabaseMetrics, Standing};
use walstream_ltx::Timestamp;
use walstream_storage::Traffic;
use walstream_storage::counted::{Calls, Operation, Requests};

use super::Observed;
use super::exposition::{Exposition, Family, Number};
use crate::commands::version::VERSION;
use crate::heartbeat::Heartbeats;

/// A database as it is now.
struct Seen {
    /// Its path, as the label has it.
    path: String,
    metrics: Arc<DatabaseMetrics>,
    standing: Standing,
    file_size: u64,
}

/// Every metric of the process. Looks at files, so it must not be called where nothing may block.
pub(super) fn text(observed: &Observed, now: Timestamp) -> String {
    let look = |metrics: Arc<DatabaseMetrics>| Seen {
        path: metrics.path().display().to_string(),
        standing: metrics.standing(now),
        file_size: std::fs::metadata(metrics.path()).map_or(0, |file| file.len()),
        metrics,
    };
    let seen: Vec<Seen> = observed.metrics.databases().into_iter().map(look).collect();
    let mut out = Exposition::default();
    out.gauge("litestream_build_info", "The version of walstream").sample(&[("version", VERSION)], 1u64);
    of_captures(&mut out, &seen);
    of_checkpoints(&mut out, &seen);
    of_replicas(&mut out, &seen);
    of_history(&mut out, &seen, observed);
    of_validation(&mut out, &seen);
    of_follower(&mut out, observed, now);
    of_heartbeats(&mut out, &observed.heartbeats);
    of_traffic(&mut out, &observed.traffic);
    out.finish()
}

/// One sample for each database.
fn each<N: Into<Number>>(mut family: Family<'_>, seen: &[Seen], value: impl Fn(&Seen) -> N) {
    for database in seen {
        family.sample(&[("db", &database.path)], value(database));
    }
}

/// One sample for each database of which it is known.
fn known<N: Into<Number>>(mut family: Family<'_>, seen: &[Seen], value: impl Fn(&Seen) -> Option<N>) {
    for database in seen {
        if let Some(value) = value(database) {
            family.sample(&[("db", &database.path)], value);
        }
    }
}

fn of_captures(out: &mut Exposition, seen: &[Seen]) {
    let family = out.gauge("litestream_db_size", "The current size of the real DB");
    each(family, seen, |db| db.file_size);
    let family = out.gauge("litestream_wal_size", "The current size of the real WAL");
    each(family, seen, |db| db.metrics.wal_offset());
    let family = out.counter("litestream_total_wal_bytes", "Total number of bytes written to shadow WAL");
    each(family, seen, |db| db.metrics.wal_bytes.get());
    let family = out.gauge("litestream_txid", "The current transaction ID");
    each(family, seen, |db| db.standing.captured.get());
    let family = out.counter("litestream_sync_count", "Number of sync operations performed");
    each(family, seen, |db| db.metrics.syncs.total.get());
    let family = out.counter("litestream_sync_error_count", "Number of sync errors that have occurred");
    each(family, seen, |db| db.metrics.syncs.errors.get());
    let family = out.counter("litestream_sync_seconds", "Time spent syncing shadow WAL, in seconds");
    each(family, seen, |db| db.metrics.syncs.spent.get());
    let help = "Whether replication is paused because the local disk is full";
    each(out.gauge("litestream_disk_full", help), seen, |db| db.metrics.disk_full());
}

fn of_checkpoints(out: &mut Exposition, seen: &[Seen]) {
    let family = out.counter("litestream_checkpoint_count", "Number of checkpoint operations performed");
    each_mode(family, seen, |db, mode| db.metrics.checkpoints(mode).total.get().into());
    let help = "Number of checkpoint errors that have occurred";
    let family = out.counter("litestream_checkpoint_error_count", help);
    each_mode(family, seen, |db, mode| db.metrics.checkpoints(mode).errors.get().into());
    let family = out.counter("litestream_checkpoint_seconds", "Time spent checkpointing WAL, in seconds");
    each_mode(family, seen, |db, mode| db.metrics.checkpoints(mode).spent.get().into());
    let help = "Time for which checkpoints kept writers out, in seconds";
    each(out.counter("litestream_checkpoint_stall_seconds", help), seen, |db| db.metrics.stalls.get());
}

fn each_mode(mut family: Family<'_>, seen: &[Seen], value: impl Fn(&Seen, CheckpointMode) -> Number) {
    for database in seen {
        for mode in CheckpointMode::ALL {
            family.sample(&[("db", &database.path), ("mode", mode.name())], value(database, mode));
        }
    }
}

fn of_replicas(out: &mut Exposition, seen: &[Seen]) {
    let help = "Age of the oldest commit that is not on the replica, in seconds";
    each(out.gauge("litestream_replica_lag_seconds", help), seen, |db| db.standing.lag);
    let help = "Bytes of captured changes that are not on the replica";
    each(out.gauge("litestream_replica_backlog_bytes", help), seen, |db| db.standing.backlog_bytes);
    let help = "The newest transaction ID on the replica";
    known(out.gauge("litestream_replica_txid", help), seen, |db| Some(db.standing.shipped?.get()));
    let help = "When the newest state on the replica was captured, in seconds since 1970";
    known(out.gauge("litestream_replica_txid_timestamp_seconds", help), seen, |db| {
        db.standing.shipped_state.map(since_epoch)
    });
    let help = "Whether the database has had its first sync and is being replicated";
    each(out.gauge("litestream_ready", help), seen, |db| db.standing.unready.is_none());
}

fn of_history(out: &mut Exposition, seen: &[Seen], observed: &Observed) {
    let help = "Number of compactions and retentions that failed";
    each(out.counter("litestream_compaction_error_count", help), seen, |db| db.metrics.history_errors.get());
    let help = "Number of post-compaction verification failures";
    let family = out.counter("litestream_compaction_verify_error_count", help);
    each(family, seen, |db| db.metrics.verify_errors.get());
    let help = "Number of L0 files by status during retention enforcement";
    let mut family = out.gauge("litestream_l0_retention_files_total", help);
    for database in seen {
        for (status, files) in database.metrics.l0_files() {
            family.sample(&[("db", &database.path), ("status", status)], files);
        }
    }
    let help = "Time to make a file of a level, level 9 being the snapshots, in seconds";
    let mut family = out.histogram("litestream_compaction_duration_seconds", help);
    for (level, durations) in observed.metrics.compactions() {
        if durations.count() > 0 {
            family.durations(&[("level", &level.to_string())], durations);
        }
    }
    let help = "Time to restore a database, in seconds";
    out.histogram("litestream_restore_duration_seconds", help).durations(&[], observed.metrics.restores());
}

fn of_validation(out: &mut Exposition, seen: &[Seen]) {
    let turns = |db: &Seen| Some(db.metrics.validations.get()).filter(|&turns| turns > 0);
    let help = "Number of validations of the replica";
    known(out.counter("litestream_validation_count", help), seen, turns);
    let help = "Number of validations that found something wrong or could not read the replica";
    let family = out.counter("litestream_validation_error_count", help);
    known(family, seen, |db| turns(db).map(|_| db.metrics.validation_errors.get()));
    let help = "When a validation last found nothing wrong, in seconds since 1970";
    let family = out.gauge("litestream_validation_last_success_timestamp_seconds", help);
    known(family, seen, |db| db.metrics.validated_at());
}

fn of_follower(out: &mut Exposition, observed: &Observed, now: Timestamp) {
    let Some(follower) = observed.metrics.follower() else { return };
    let path = follower.path().display().to_string();
    let labels = [("db", path.as_str())];
    let help = "Time since the copy was last seen to be as new as its replica, in seconds";
    out.gauge("litestream_follower_lag_seconds", help).sample(&labels, follower.lag(now));
    if let Some(txid) = follower.txid() {
        out.gauge("litestream_follower_txid", "The transaction ID of the copy").sample(&labels, txid.get());
    }
    if let Some(moment) = follower.state_of() {
        let help = "When the state of the copy was captured, in seconds since 1970";
        out.gauge("litestream_follower_txid_timestamp_seconds", help).sample(&labels, moment);
    }
    let help = "Number of steps that changed the copy";
    out.counter("litestream_follower_step_count", help).sample(&labels, follower.steps.get());
    let help = "Number of steps that failed";
    out.counter("litestream_follower_error_count", help).sample(&labels, follower.errors.get());
}

fn of_heartbeats(out: &mut Exposition, heartbeats: &Heartbeats) {
    if heartbeats.total.get() == 0 {
        return;
    }
    let help = "Number of heartbeats that were sent";
    out.counter("litestream_heartbeat_count", help).sample(&[], heartbeats.total.get());
    let help = "Number of heartbeats that failed";
    out.counter("litestream_heartbeat_error_count", help).sample(&[], heartbeats.errors.get());
    if let Some(moment) = heartbeats.answered_at() {
        let help = "When a heartbeat was last answered, in seconds since 1970";
        out.gauge("litestream_heartbeat_last_success_timestamp_seconds", help).sample(&[], moment);
    }
}

fn of_traffic(out: &mut Exposition, traffic: &Traffic) {
    let kinds = traffic.kinds();
    let all: Vec<_> = kinds.iter().flat_map(|(kind, requests)| operations(kind, requests)).collect();
    let mut totals =
        out.counter("litestream_replica_operation_total", "The number of replica operations performed");
    for (labels, calls) in &all {
        totals.sample(labels, calls.total.get());
    }
    let help = "The number of bytes used by replica operations";
    let mut bytes = out.counter("litestream_replica_operation_bytes", help);
    for (labels, calls) in &all {
        bytes.sample(labels, calls.bytes.get());
    }
    let help = "Duration of replica operations by type and operation";
    let mut durations = out.histogram("litestream_replica_operation_duration_seconds", help);
    for (labels, calls) in &all {
        durations.durations(labels, &calls.durations);
    }
    let help = "Number of replica operation errors by type, operation, and error code";
    let mut errors = out.counter("litestream_replica_operation_errors_total", help);
    for (labels, calls) in &all {
        // Those that there are none of too, so that the first one is an increase.
        for (code, count) in calls.errors() {
            errors.sample(&[&labels[..], &[("code", code)]].concat(), count);
        }
    }
}

/// Each operation with its labels and what came of it.
fn operations<'a>(
    kind: &'static str,
    requests: &'a Requests,
) -> [([(&'static str, &'static str); 2], &'a Calls); Operation::ALL.len()] {
    Operation::ALL
        .map(|operation| ([("replica_type", kind), ("operation", operation.name())], requests.of(operation)))
}

fn since_epoch(moment: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(moment.as_millis()).unwrap_or_default())
}
