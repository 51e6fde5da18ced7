//! The daemon's side: each request, and what is answered.
//!
//! Invariant: a request says a path as its sender wrote it; what is answered has the path in full.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use walstream_engine::Shipped;
use walstream_engine::clock::{Clock, SystemClock};
use walstream_ltx::{Timestamp, Txid};

use super::messages::{
    Diagnosis, DiagnosisAnswer, Done, ErrorAnswer, InfoAnswer, ListAnswer, ListedDatabase, PathRequest,
    RegisterRequest, SyncRequest, TxidAnswer, WaitRequest,
};
use crate::commands::version::VERSION;
use crate::config::expand_path;
use crate::daemon::{Doing, Roster, RosterError};
use crate::http::Observed;
use crate::output;

/// Nobody's request is longer.
const MAX_REQUEST: usize = 64 << 10;
/// So many may wait at the same time.
const MAX_WAITING: usize = 1000;
/// How long to wait for what takes time, if nothing is said.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is needed to answer. Cheap to clone.
#[derive(Clone)]
struct Desk {
    roster: Roster,
    observed: Observed,
    started: Instant,
    started_at: Timestamp,
    waiting: Arc<Semaphore>,
}

/// Every request that is answered.
pub(super) fn router(roster: Roster, observed: Observed) -> Router {
    let desk = Desk {
        roster,
        observed,
        started: Instant::now(),
        started_at: SystemClock.now(),
        waiting: Arc::new(Semaphore::new(MAX_WAITING)),
    };
    Router::new()
        .route("/info", get(info))
        .route("/list", get(list))
        .route("/txid", get(txid))
        .route("/start", post(start))
        .route("/stop", post(stop))
        .route("/register", post(register))
        .route("/unregister", post(unregister))
        .route("/sync", post(sync))
        .route("/wait", post(wait))
        .route("/snapshot", post(snapshot))
        .route("/debug/sync-status", get(diagnose))
        .fallback(async || (StatusCode::NOT_FOUND, "404 page not found\n"))
        .layer(DefaultBodyLimit::max(MAX_REQUEST))
        .with_state(desk)
}

/// Why a request is not answered as it was meant.
struct Refusal(StatusCode, ErrorAnswer);

type Answer = Result<Response, Refusal>;

impl Refusal {
    fn new(status: StatusCode, error: impl ToString) -> Self {
        Refusal(status, ErrorAnswer { error: error.to_string(), details: None })
    }

    fn bad(error: impl ToString) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, json(&self.1)).into_response()
    }
}

impl From<RosterError> for Refusal {
    fn from(error: RosterError) -> Self {
        let status = match error {
            RosterError::Unknown(_) => StatusCode::NOT_FOUND,
            RosterError::NotOpen { .. } => StatusCode::CONFLICT,
            RosterError::Replica(_) => StatusCode::BAD_REQUEST,
            RosterError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Refusal::new(status, error)
    }
}

/// The peer answers 500 to those who start and stop what it does not know.
fn of_start(error: RosterError) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, Refusal::from(error).1)
}

fn json(answer: &impl Serialize) -> Response {
    // No answer has keys that are not strings, the only way to fail here.
    let text = serde_json::to_string(answer).unwrap_or_default() + "\n";
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| {
        let details = Some(error.to_string());
        Refusal(StatusCode::BAD_REQUEST, ErrorAnswer { error: "invalid request body".to_owned(), details })
    })
}

fn path_of(text: &str) -> Result<PathBuf, Refusal> {
    match text {
        "" => Err(Refusal::bad("path required")),
        text => expand_path(OsStr::new(text)).map_err(Refusal::bad),
    }
}

/// The path that a query names, if it names one.
fn path_in(query: Option<&str>) -> Result<Option<PathBuf>, Refusal> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let path = pairs.into_iter().find(|(key, _)| key == "path").map(|(_, path)| path);
    path.filter(|path| !path.is_empty()).map(|path| path_of(&path)).transpose()
}

fn seconds(timeout: Option<i64>) -> Duration {
    let given = timeout.and_then(|seconds| u64::try_from(seconds).ok()).filter(|&seconds| seconds > 0);
    given.map_or(PATIENCE, Duration::from_secs)
}

fn done(status: &str, path: &Path, txid: Txid) -> Response {
    json(&Done {
        status: status.to_owned(),
        path: path.display().to_string(),
        txid: Some(txid.get()),
        replicated_txid: None,
    })
}

async fn info(State(desk): State<Desk>) -> Response {
    json(&InfoAnswer {
        version: VERSION.to_owned(),
        pid: std::process::id(),
        uptime_seconds: desk.started.elapsed().as_secs(),
        started_at: output::millis(desk.started_at),
        database_count: desk.roster.list().await.len(),
        program: Some("walstream".to_owned()),
    })
}

async fn list(State(desk): State<Desk>) -> Response {
    let entries = desk.roster.list().await.into_iter();
    let database = entries.map(|entry| ListedDatabase {
        path: entry.path.display().to_string(),
        status: match entry.doing {
            Doing::Replicating => "replicating".to_owned(),
            Doing::Stopped => "stopped".to_owned(),
        },
        last_sync_at: entry.synced_at.map(output::millis),
    });
    json(&ListAnswer { databases: database.collect() })
}

async fn txid(State(desk): State<Desk>, RawQuery(query): RawQuery) -> Answer {
    let path = path_in(query.as_deref())?.ok_or_else(|| Refusal::bad("path required"))?;
    let unknown = |_| Refusal::new(StatusCode::NOT_FOUND, "database not found");
    let txid = desk.roster.txid(&path).await.map_err(unknown)?;
    Ok(json(&TxidAnswer { txid: txid.get() }))
}

async fn start(State(desk): State<Desk>, body: Bytes) -> Answer {
    let request: PathRequest = read(&body)?;
    let path = path_of(&request.path)?;
    let status = match desk.roster.start(&path).await.map_err(of_start)? {
        true => "started",
        false => "already_running",
    };
    Ok(done(status, &path, desk.roster.txid(&path).await?))
}

async fn stop(State(desk): State<Desk>, body: Bytes) -> Answer {
    let request: PathRequest = read(&body)?;
    let path = path_of(&request.path)?;
    let status = match desk.roster.stop(&path, seconds(request.timeout)).await.map_err(of_start)? {
        true => "stopped",
        false => "already_stopped",
    };
    Ok(done(status, &path, desk.roster.txid(&path).await?))
}

async fn register(State(desk): State<Desk>, body: Bytes) -> Answer {
    let request: RegisterRequest = read(&body)?;
    let path = path_of(&request.path)?;
    if request.replica_url.is_empty() {
        return Err(Refusal::bad("replica_url required"));
    }
    let status = match desk.roster.register(&path, &request.replica_url).await? {
        true => "registered",
        false => "already_registered",
    };
    let path = path.display().to_string();
    Ok(json(&Done { status: status.to_owned(), path, txid: None, replicated_txid: None }))
}

async fn unregister(State(desk): State<Desk>, body: Bytes) -> Answer {
    let request: PathRequest = read(&body)?;
    let path = path_of(&request.path)?;
    Ok(match desk.roster.unregister(&path, seconds(request.timeout)).await? {
        Some(txid) => done("unregistered", &path, txid),
        None => done("already_unregistered", &path, Txid::ZERO),
    })
}

async fn sync(State(desk): State<Desk>, body: Bytes) -> Answer {
    let request: SyncRequest = read(&body)?;
    let path = path_of(&request.path)?;
    let replica_txid = async || {
        let standing = desk.roster.standing(&path).await;
        standing.and_then(|standing| standing.shipped).unwrap_or(Txid::ZERO)
    };
    let before = (desk.roster.txid(&path).await?, replica_txid().await);
    let within = seconds(request.timeout);
    let (txid, replica) = match request.wait {
        true => {
            let shipped = desk.shipped(&path, None, within).await?;
            (shipped.txid, shipped.replica)
        }
        false => (desk.in_time(&path, within, desk.roster.sync(&path)).await?, replica_txid().await),
    };
    let status = match request.wait {
        true if (txid, replica) != before => "synced",
        false if txid != before.0 => "synced_local",
        _ => "no_change",
    };
    Ok(shipped_answer(status, &path, Shipped { txid, replica }))
}

async fn wait(State(desk): State<Desk>, body: Bytes) -> Answer {
    let request: WaitRequest = read(&body)?;
    let path = path_of(&request.path)?;
    let txid = request.txid.map(Txid::new);
    let shipped = desk.shipped(&path, txid, seconds(request.timeout)).await?;
    Ok(shipped_answer("synced", &path, shipped))
}

fn shipped_answer(status: &str, path: &Path, shipped: Shipped) -> Response {
    json(&Done {
        status: status.to_owned(),
        path: path.display().to_string(),
        txid: Some(shipped.txid.get()),
        replicated_txid: Some(shipped.replica.get()),
    })
}

async fn snapshot(State(desk): State<Desk>, body: Bytes) -> Answer {
    let request: PathRequest = read(&body)?;
    let path = path_of(&request.path)?;
    let made = desk.in_time(&path, seconds(request.timeout), desk.roster.snapshot(&path));
    Ok(done("snapshot", &path, made.await?))
}

impl Desk {
    async fn shipped(&self, path: &Path, txid: Option<Txid>, within: Duration) -> Result<Shipped, Refusal> {
        let too_many = |_| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait already");
        let _place = self.waiting.try_acquire().map_err(too_many)?;
        self.in_time(path, within, self.roster.shipped(path, txid)).await
    }

    /// What comes within a time, or else why it may not have come.
    async fn in_time<T>(
        &self,
        path: &Path,
        within: Duration,
        work: impl Future<Output = Result<T, RosterError>>,
    ) -> Result<T, Refusal> {
        if let Ok(done) = tokio::time::timeout(within, work).await {
            return Ok(done?);
        }
        let standing = self.roster.standing(path).await;
        let reason = standing.and_then(|standing| standing.unready).map(|unready| format!(": {unready}"));
        let (seconds, reason) = (within.as_secs(), reason.unwrap_or_default());
        let error = format!("not done within {seconds} s, and still under way{reason}");
        Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, error))
    }
}

async fn diagnose(State(desk): State<Desk>, RawQuery(query): RawQuery) -> Answer {
    let only = path_in(query.as_deref())?;
    let listed = desk.roster.list().await.into_iter().map(|entry| entry.path);
    let wanted: Vec<_> = listed.filter(|path| only.as_ref().is_none_or(|only| only == path)).collect();
    if only.is_some() && wanted.is_empty() {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "database not found"));
    }
    let mut databases = Vec::new();
    for path in wanted {
        databases.push(desk.diagnosis(&path).await);
    }
    Ok(json(&DiagnosisAnswer { databases }))
}

impl Desk {
    async fn diagnosis(&self, path: &Path) -> Diagnosis {
        let standing = self.roster.standing(path).await.unwrap_or_default();
        let wal_offset = self.observed.metrics.known(path).map_or(0, |metrics| metrics.wal_offset());
        let number = |txid: Txid| Some(txid.get()).filter(|&txid| txid > 0);
        Diagnosis {
            path: path.display().to_string(),
            active: !standing.lag.is_zero(),
            txid: number(standing.captured),
            last_synced_wal_offset: Some(wal_offset).filter(|&offset| offset > 0),
            reason: standing.unready.map(|unready| unready.to_string()),
            replicated_txid: standing.shipped.and_then(number),
            lag_seconds: standing.lag.as_secs_f64(),
            backlog_bytes: standing.backlog_bytes,
        }
    }
}
