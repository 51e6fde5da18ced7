//! Failures that last.
//!
//! Invariant: one line when something begins to fail, one a minute while it does, one when it works again.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::EngineError;
use crate::options::DatabaseOptions;

/// A lasting failure is said again after this time.
const REMINDER: Duration = Duration::from_secs(60);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The failures of one database.
pub(crate) struct Trouble {
    path: PathBuf,
    first_backoff: Duration,
    count: u32,
    said: Option<Instant>,
}

impl Trouble {
    pub(crate) fn new(options: &DatabaseOptions) -> Self {
        let first_backoff = options.monitor_interval.max(Duration::from_millis(100));
        Trouble { path: options.path.clone(), first_backoff, count: 0, said: None }
    }

    pub(crate) fn active(&self) -> bool {
        self.count > 0
    }

    /// Notes a failure; returns how long to wait before the next try.
    pub(crate) fn with(&mut self, what: &str, error: &EngineError) -> Duration {
        if self.said.is_none_or(|said| said.elapsed() >= REMINDER) {
            self.said = Some(Instant::now());
            tracing::error!(path = %self.path.display(), %error, consecutive_errors = self.count + 1, "{what}");
        }
        let backoff = self.first_backoff * (1 << self.count.min(16));
        self.count += 1;
        backoff.min(LONGEST_BACKOFF)
    }

    /// How long until the moment of the next try, if there is trouble.
    pub(crate) fn pause_until(&self, next_try: Instant, now: Instant) -> Duration {
        if self.active() { next_try.saturating_duration_since(now) } else { Duration::MAX }
    }

    /// Notes a success.
    pub(crate) fn over(&mut self, what: &str) {
        if self.active() {
            tracing::info!(path = %self.path.display(), previous_errors = self.count, "{what}");
        }
        (self.count, self.said) = (0, None);
    }
}
