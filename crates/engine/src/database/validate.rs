//! The task that validates the replica of a database, where that is asked for.
//!
//! Invariant: it only reads. A replica that cannot be reached is no fault of the replica; the next turn comes after
//! the interval in any case.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use walstream_ltx::Level;
use walstream_storage::ReplicaClient;

use crate::clock::Clock;
use crate::error::EngineError;
use crate::metrics::DatabaseMetrics;
use crate::verify::rolling::{Fault, Rolling};

/// What the task needs.
pub(crate) struct Validate {
    pub(crate) client: Arc<dyn ReplicaClient>,
    /// Between two turns; not zero.
    pub(crate) interval: Duration,
    /// Bounds how many databases work on their history at the same time.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<DatabaseMetrics>,
}

impl Validate {
    /// Runs until it is cancelled.
    pub(crate) async fn run(self) {
        let replica = self.client.location();
        let mut rolling = Rolling::new(Arc::clone(&self.client));
        loop {
            tokio::time::sleep(self.interval).await;
            let turn = Box::pin(rolling.turn(&self.permits)).await;
            self.count(&turn);
            match turn {
                Ok(faults) if faults.is_empty() => {
                    tracing::debug!(%replica, "validation found nothing wrong")
                }
                Ok(faults) => faults.iter().for_each(|fault| say(&replica, fault)),
                Err(error) => tracing::warn!(%replica, %error, "validation could not read the replica"),
            }
        }
    }

    fn count(&self, turn: &Result<Vec<Fault>, EngineError>) {
        self.metrics.validations.add(1);
        match turn {
            Ok(faults) if faults.is_empty() => self.metrics.validated(self.clock.now()),
            _ => self.metrics.validation_errors.add(1),
        }
    }
}

fn say(replica: &str, fault: &Fault) {
    let Fault { level, kind, message } = fault;
    let level = level.map(Level::get);
    tracing::warn!(%replica, level, r#type = kind, message, "validation error detected");
}
