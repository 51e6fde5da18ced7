//! A request to a watchman for as long as all is well, so that silence is the alarm.
//!
//! Invariant: nothing is sent unless every database has had its first sync, and no commit has waited longer than the
//! interval. A watchman who cannot be reached is no reason to do anything else differently.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use walstream_engine::clock::{Clock, SystemClock};
use walstream_engine::metrics::Standing;
use walstream_storage::Secret;
use walstream_storage::counted::Counter;

use crate::http::Observed;

/// How often it is looked whether a request is due.
const LOOK: Duration = Duration::from_secs(15);
/// The watchman may take so long to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where to send it, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    /// Whoever knows it can speak for us.
    pub(crate) url: Secret,
    pub(crate) interval: Duration,
}

impl Heartbeat {
    /// As often as the peer does it by default.
    pub(crate) const INTERVAL: Duration = Duration::from_secs(300);
}

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats {
    /// Those that were sent.
    pub(crate) total: Counter,
    /// Those that were not answered as they should be.
    pub(crate) errors: Counter,
    /// In milliseconds since the Unix epoch; zero: never.
    answered_at: AtomicU64,
}

impl Heartbeats {
    /// When one was last answered, as a time since the Unix epoch.
    pub(crate) fn answered_at(&self) -> Option<Duration> {
        let millis = self.answered_at.load(Ordering::Relaxed);
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    fn note(&self, sent: &Result<(), String>) {
        self.total.add(1);
        match sent {
            Ok(()) => {
                let now = u64::try_from(SystemClock.now().as_millis()).unwrap_or_default();
                self.answered_at.store(now, Ordering::Relaxed);
            }
            Err(_) => self.errors.add(1),
        }
    }
}

/// Sends them for as long as it is awaited, if they are wanted at all.
pub(crate) async fn send(heartbeat: Option<Heartbeat>, observed: &Observed) -> Infallible {
    let Some(Heartbeat { url, interval }) = heartbeat else { return std::future::pending().await };
    let mut last: Option<Instant> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        if last.is_some_and(|last| last.elapsed() < interval) || !all_is_well(observed, interval).await {
            continue;
        }
        last = Some(Instant::now());
        let sent = ping(url.expose()).await;
        observed.heartbeats.note(&sent);
        match sent {
            Ok(()) => tracing::debug!("heartbeat sent"),
            Err(error) => tracing::error!(error, "heartbeat failed"),
        }
    }
}

async fn all_is_well(observed: &Observed, interval: Duration) -> bool {
    let metrics = observed.metrics.clone();
    let look = move || {
        let now = SystemClock.now();
        let standings = metrics.databases().into_iter().map(|database| database.standing(now));
        are_in_sync(standings, interval)
    };
    tokio::task::spawn_blocking(look).await.unwrap_or(false)
}

/// Whether there are databases, and all that are there are in sync.
fn are_in_sync(standings: impl IntoIterator<Item = Standing>, interval: Duration) -> bool {
    let mut there = standings.into_iter().filter(|standing| standing.is_there).peekable();
    there.peek().is_some() && there.all(|standing| standing.unready.is_none() && standing.lag <= interval)
}

/// The URL is a secret of a kind, so it is not in the error.
async fn ping(url: &str) -> Result<(), String> {
    // An error only means that a store has chosen it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let explain = |error: reqwest::Error| in_full(&error.without_url());
    let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(explain)?;
    let status = client.get(url).send().await.map_err(explain)?.status();
    match status.is_success() {
        true => Ok(()),
        false => Err(format!("the answer is {status}")),
    }
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use walstream_engine::metrics::Unready;

    use super::*;

    #[test]
    fn all_databases_that_are_there_must_be_in_sync_and_there_must_be_one() {
        let minute = Duration::from_secs(60);
        let well = Standing { is_there: true, ..Standing::default() };
        let late = Standing { lag: 2 * minute, ..well.clone() };
        let unready = Standing { unready: Some(Unready::NoContact), ..well.clone() };
        let missing = Standing { is_there: false, unready: Some(Unready::Missing), ..Standing::default() };
        for (standings, in_sync) in [
            (vec![well.clone()], true),
            (vec![well.clone(), missing.clone()], true),
            (vec![well.clone(), late.clone()], false),
            (vec![unready, well], false),
            (vec![missing], false),
            (vec![], false),
        ] {
            assert_eq!(are_in_sync(standings.clone(), minute), in_sync, "{standings:?}");
        }
        assert!(are_in_sync([late], 3 * minute), "as long as the interval is");
    }
}
