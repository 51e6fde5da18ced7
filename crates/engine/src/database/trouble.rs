//! Failures of one database, as its log speaks of them.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::EngineError;
use crate::options::DatabaseOptions;
use crate::trouble;

const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The failures of one database.
pub(crate) struct Trouble {
    path: PathBuf,
    failures: trouble::Trouble,
}

impl Trouble {
    pub(crate) fn new(options: &DatabaseOptions) -> Self {
        let first_backoff = options.monitor_interval.max(Duration::from_millis(100));
        Trouble {
            path: options.path.clone(),
            failures: trouble::Trouble::new(first_backoff, LONGEST_BACKOFF),
        }
    }

    pub(crate) fn active(&self) -> bool {
        self.failures.active()
    }

    /// Notes a failure; returns how long to wait before the next try.
    pub(crate) fn with(&mut self, what: &str, error: &EngineError) -> Duration {
        let path = self.path.display();
        self.failures.failed(|row| {
            tracing::error!(%path, %error, consecutive_errors = row.count, failing_for = %row.lasting, "{what}");
        })
    }

    /// How long until the moment of the next try, if there is trouble.
    pub(crate) fn pause_until(&self, next_try: Instant, now: Instant) -> Duration {
        if self.active() { next_try.saturating_duration_since(now) } else { Duration::MAX }
    }

    /// Notes a success.
    pub(crate) fn over(&mut self, what: &str) {
        let path = self.path.display();
        self.failures.over(|row| {
            tracing::info!(%path, previous_errors = row.count, failed_for = %row.lasting, "{what}");
        });
    }
}
