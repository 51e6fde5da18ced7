//! What a file says of the history: at the top level for all databases, and of one database.
//!
//! Invariant: a key of a database wins over the same key of the top level, and that over the peer's default.

use std::time::Duration;

use walstream_engine::HistoryOptions;
use walstream_ltx::Level;

use super::ConfigError;
use super::duration::GoDuration;
use super::keys::{
    DatabaseKeys, LevelKeys, ReplicaKeys, RetentionKeys, RootKeys, SnapshotKeys, ValidationKeys,
};
use super::resolve::{invalid, not_negative, positive, set};

/// The keys of either place.
pub(super) struct HistoryKeys<'a> {
    snapshot: Option<&'a SnapshotKeys>,
    levels: Option<&'a [LevelKeys]>,
    l0_retention: Option<GoDuration>,
    l0_retention_check_interval: Option<GoDuration>,
    retention: Option<&'a RetentionKeys>,
    verify_compaction: Option<bool>,
    validation: Option<&'a ValidationKeys>,
    /// `validation.interval`, as version 0.3 wrote it.
    validation_interval: Option<GoDuration>,
}

/// The keys of a place that has them all, and what it says of the validation in the words of version 0.3.
macro_rules! history_keys {
    ($keys:expr, $validation_interval:expr) => {
        HistoryKeys {
            snapshot: $keys.snapshot.as_ref(),
            levels: $keys.levels.as_deref(),
            l0_retention: $keys.l0_retention,
            l0_retention_check_interval: $keys.l0_retention_check_interval,
            retention: $keys.retention.as_ref(),
            verify_compaction: $keys.verify_compaction,
            validation: $keys.validation.as_ref(),
            validation_interval: $validation_interval,
        }
    };
}

impl<'a> From<&'a RootKeys> for HistoryKeys<'a> {
    fn from(keys: &'a RootKeys) -> Self {
        history_keys!(keys, keys.validation_interval)
    }
}

impl<'a> From<(&'a DatabaseKeys, &ReplicaKeys)> for HistoryKeys<'a> {
    fn from((keys, replica): (&'a DatabaseKeys, &ReplicaKeys)) -> Self {
        history_keys!(keys, replica.validation_interval)
    }
}

impl HistoryKeys<'_> {
    /// These, and `base` where nothing is said. `place` comes before the names of the keys in errors.
    pub(super) fn over(self, base: &HistoryOptions, place: &str) -> Result<HistoryOptions, ConfigError> {
        let name = |key: &str| format!("{place}{key}");
        let mut history = base.clone();
        if let Some(snapshot) = self.snapshot {
            let interval = |d| positive(&name("snapshot.interval"), "snapshot interval", d);
            set(&mut history.snapshot_interval, snapshot.interval.map(interval))?;
            let retention = |d| positive(&name("snapshot.retention"), "snapshot retention", d);
            set(&mut history.snapshot_retention, snapshot.retention.map(retention))?;
        }
        let retention = |d| not_negative(&name("l0-retention"), "l0 retention", d);
        set(&mut history.l0_retention, self.l0_retention.map(retention))?;
        let interval = |d| positive(&name("l0-retention-check-interval"), "l0 retention check interval", d);
        set(&mut history.l0_retention_check_interval, self.l0_retention_check_interval.map(interval))?;
        set(&mut history.levels, self.levels.map(|keys| levels(&name("levels"), keys)))?;
        let enabled = self.retention.and_then(|retention| retention.enabled);
        history.retention_enabled = enabled.unwrap_or(history.retention_enabled);
        let (key, validation) = match (self.validation, self.validation_interval) {
            (Some(_), Some(_)) => {
                let reason = "cannot specify both 'validation' and 'validation-interval'";
                return Err(ConfigError::new(format!("{place}validation: {reason}")));
            }
            (None, Some(interval)) => ("validation-interval", Some(interval)),
            (section, None) => ("validation.interval", section.and_then(|section| section.interval)),
        };
        let interval = |d| not_negative(&name(key), "validation interval", d);
        set(&mut history.validation_interval, validation.map(interval))?;
        history.verify_compaction = self.verify_compaction.unwrap_or(history.verify_compaction);
        Ok(history)
    }
}

fn levels(name: &str, levels: &[LevelKeys]) -> Result<Vec<Duration>, ConfigError> {
    if levels.len() > Level::MAX_COMPACTION_LEVELS {
        let reason = format!("compaction level cannot exceed {}", Level::MAX_COMPACTION_LEVELS);
        return Err(invalid(name, &reason, levels.len()));
    }
    let interval = |(index, level): (usize, &LevelKeys)| {
        positive(&format!("{name}[{index}].interval"), "compaction interval", level.interval)
    };
    levels.iter().enumerate().map(interval).collect()
}
