//! What can be seen of the process over HTTP: `/metrics`, `/healthz` and `/readyz`.
//!
//! Invariant: it only looks. Replication does not depend on it: an address that cannot be listened on is said, and tried
//! again.

mod address;
mod exposition;
mod metrics;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use walstream_engine::clock::{Clock, SystemClock};
use walstream_engine::{Metrics, Pulse};
use walstream_storage::Traffic;

use crate::heartbeat::Heartbeats;

pub(crate) use address::{Address, ParseAddressError};

/// A process whose tasks do not answer within this time is not well.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to listen.
const RETRY: Duration = Duration::from_secs(5);
/// So many answers are made at the same time.
const AT_ONCE: usize = 2;

/// What there is to be seen. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Observed {
    /// What is done.
    pub(crate) metrics: Metrics,
    /// What is asked of the stores.
    pub(crate) traffic: Traffic,
    /// What became of the heartbeats.
    pub(crate) heartbeats: Arc<Heartbeats>,
    /// Whether it goes on.
    pulse: Arc<OnceLock<Pulse>>,
}

impl Observed {
    /// From here on there is a fleet.
    pub(crate) fn begin(&self, pulse: Pulse) {
        // There is one fleet in a process.
        let _ = self.pulse.set(pulse);
    }

    /// Whether it goes on can be felt once there is a fleet.
    pub(crate) fn pulse(&self) -> Option<&Pulse> {
        self.pulse.get()
    }
}

/// Answers requests for as long as the runtime lives.
pub(crate) fn start(address: Address, observed: Observed) {
    tokio::spawn(async move {
        let listener = listen(&address, "metrics server").await;
        let port = listener.local_addr().map_or(0, |local| local.port());
        tracing::info!(url = %address.url(port), "serving metrics on");
        let router = Router::new()
            .route("/metrics", get(show_metrics))
            .route("/healthz", get(show_health))
            .route("/readyz", get(show_readiness))
            .with_state(Site { observed, permits: Arc::new(Semaphore::new(AT_ONCE)) });
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "metrics server ended");
        }
    });
}

/// Listens for `what`, as soon as that is possible.
pub(crate) async fn listen(address: &Address, what: &str) -> TcpListener {
    let mut failed = false;
    loop {
        match address.bind().await {
            Ok(listener) => return listener,
            Err(error) if !failed => {
                tracing::error!(addr = %address, %error, "cannot start {what}, trying again");
                failed = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

#[derive(Clone)]
struct Site {
    observed: Observed,
    permits: Arc<Semaphore>,
}

impl Site {
    /// Looks on a blocking thread.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Observed) -> T + Send + 'static,
    ) -> Result<T, StatusCode> {
        // Never closed; if it were, there would be no bound and nothing worse.
        let _permit = self.permits.acquire().await;
        let observed = self.observed.clone();
        spawn_blocking(move || look(&observed)).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
    }
}

async fn show_metrics(State(site): State<Site>) -> Response {
    let text = site.look(|observed| metrics::text(observed, SystemClock.now())).await;
    text.map(|text| ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text)).into_response()
}

/// Whether the tasks of the process go on.
async fn show_health(State(site): State<Site>) -> Response {
    let Some(pulse) = site.observed.pulse() else { return fine() };
    match tokio::time::timeout(PATIENCE, pulse.feel()).await {
        Ok(()) => fine(),
        Err(_) => {
            let text = format!("walstream does not get on: no answer within {} s\n", PATIENCE.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
        }
    }
}

/// Whether every database has had its first sync, and the copy was as new as its replica.
async fn show_readiness(State(site): State<Site>) -> Response {
    match site.look(unready).await {
        Ok(reasons) if reasons.is_empty() => fine(),
        Ok(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response(),
        Err(status) => status.into_response(),
    }
}

/// One line for each database that is not ready.
fn unready(observed: &Observed) -> String {
    let now = SystemClock.now();
    let databases = observed.metrics.databases();
    let reasons = databases.iter().filter_map(|database| {
        let reason = database.standing(now).unready?.to_string().replace('\n', " ");
        Some(format!("{}: {reason}\n", database.path().display()))
    });
    reasons.chain(unready_copy(observed)).collect()
}

fn unready_copy(observed: &Observed) -> Option<String> {
    let copy = observed.metrics.follower().filter(|copy| !copy.is_ready())?;
    let reason = match copy.txid() {
        None => "is being restored",
        Some(_) => "has not reached the newest state of its replica yet",
    };
    Some(format!("{}: {reason}\n", copy.path().display()))
}

fn fine() -> Response {
    "ok\n".into_response()
}
