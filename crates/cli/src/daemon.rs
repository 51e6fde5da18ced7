//! Keeping databases replicated, from the start of the process to its end.
//!
//! Invariant: however it ends, by a signal, by the end of the child or because the child cannot start, what
//! was committed is shipped first; and if it could not be, the exit code says so.

mod directories;
mod reload;
mod roster;

use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use walstream_engine::restore::Target;
use walstream_engine::{
    DatabaseOptions, EngineError, Fleet, Metrics, OnceOptions, ShutdownOptions, Unshipped, sync_once,
};
use walstream_storage::{Place, ReplicaConfig, Traffic};

use crate::commands::restore;
use crate::commands::version::VERSION;
use crate::config::{DatabaseConfig, Defaults, Entries, GoDuration, ShutdownSettings, SocketSettings};
use crate::connect::{connect, connect_for};
use crate::error::CliError;
use crate::exec::{Child, exit_code};
use crate::heartbeat::{self, Heartbeat};
use crate::http::{self, Address, Observed};
use crate::logging::LogOptions;
use crate::mcp::{self, Mcp};
use crate::memory;
use crate::orphans;
use crate::signals::{self, Signals};
use crate::socket;
use crate::systemd::Systemd;
use reload::Fixed;

pub(crate) use roster::{Doing, Roster, RosterError};

/// Reads the configuration file once more.
pub(crate) type Reread = Arc<dyn Fn() -> Result<Job, CliError> + Send + Sync>;

/// What to replicate and how.
#[derive(Default)]
pub(crate) struct Job {
    pub(crate) databases: Vec<DatabaseConfig>,
    /// Where databases may appear while it runs.
    pub(crate) entries: Entries,
    pub(crate) exec: Option<String>,
    /// Where to show metrics.
    pub(crate) addr: Option<Address>,
    /// Where assistants may ask.
    pub(crate) mcp: Option<Mcp>,
    /// Whom to tell that all is well.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// Where to take commands.
    pub(crate) socket: Option<SocketSettings>,
    /// For databases that commands add.
    pub(crate) defaults: Defaults,
    /// What SIGHUP does, if there is a file.
    pub(crate) reread: Option<Reread>,
    pub(crate) logging: LogOptions,
    pub(crate) shutdown: ShutdownSettings,
    pub(crate) warnings: Vec<String>,
}

/// Brings every database's replica up to date, one after the other. The first error ends it.
pub(crate) async fn run_once(job: &Job, once: OnceOptions) -> Result<(), CliError> {
    if job.databases.is_empty() {
        return Err(CliError::new("no databases specified in configuration"));
    }
    for database in &job.databases {
        restore_if_missing(database, &Metrics::default()).await?;
        let position = sync_once(options(database, &Traffic::default())?, once).await?;
        tracing::info!(path = %database.path.display(), txid = %position.txid, "replica sync");
    }
    Ok(())
}

/// Replicates until a signal comes or the child ends.
pub(crate) async fn run(mut job: Job) -> Result<ExitCode, CliError> {
    tracing::info!(version = VERSION, "walstream");
    let mut signals = match job.exec {
        Some(_) => Signals::for_child()?,
        None => Signals::shutdown()?,
    };
    // With a child, SIGHUP is for the child.
    let reread = job.reread.take().filter(|_| job.exec.is_none());
    let reread = match reread {
        Some(reread) => Some((Signals::hangup()?, reread)),
        None => None,
    };
    let observed = Observed::default();
    show(job.addr.clone(), &job.databases, &observed);
    let systemd = Systemd::attend(observed.clone());
    let fleet = tokio::select! {
        fleet = start_job(&job, &observed) => fleet?,
        signal = signals.next_shutdown() => {
            tracing::info!(signal = signals::name(signal), "signal received while starting");
            return Ok(ExitCode::SUCCESS);
        }
    };
    // It ends with the runtime.
    tokio::spawn(memory::give_back());
    let defaults = std::mem::take(&mut job.defaults);
    let roster = Roster::new(fleet.clone(), observed.clone(), &job.databases, defaults);
    let socket = socket::open(job.socket.as_ref(), &roster, &observed).await;
    if let Some(mcp) = job.mcp.clone() {
        mcp::start(mcp);
    }
    let fixed = Fixed::of(&job);
    let reload = reload::follow((job.entries, job.databases), fixed, reread, &roster, (&observed, &systemd));
    let end = tokio::select! {
        end = serve(job.exec.as_deref(), &mut signals) => end,
        never = reload => match never {},
        never = heartbeat::send(job.heartbeat, &observed) => match never {},
    };
    systemd.stopping();
    let interrupted = end.as_ref().ok().and_then(|end| end.interrupted);
    if let Some(socket) = &socket {
        socket.close();
    }
    let unshipped = shut_down(fleet, job.shutdown, &mut signals, interrupted).await;
    if let Some(socket) = socket {
        socket.finish().await;
    }
    match end?.child {
        Some(status) if !status.success() => {
            report_unshipped(&unshipped);
            Ok(ExitCode::from(exit_code(status)))
        }
        _ => all_shipped(&unshipped).map(|()| ExitCode::SUCCESS),
    }
}

/// Shows metrics, where that is wanted, of databases that are still to come too.
fn show(address: Option<Address>, databases: &[DatabaseConfig], observed: &Observed) {
    let Some(address) = address else { return };
    databases.iter().for_each(|database| drop(observed.metrics.database(&database.path)));
    http::start(address, observed.clone());
}

async fn start_job(job: &Job, observed: &Observed) -> Result<Fleet, CliError> {
    if job.databases.is_empty() && job.entries.watched().next().is_none() {
        tracing::error!("no databases specified in configuration");
    }
    start(&job.databases, observed).await
}

/// Starts replication, after restoring what is missing.
pub(crate) async fn start(databases: &[DatabaseConfig], observed: &Observed) -> Result<Fleet, CliError> {
    for database in databases {
        restore_if_missing(database, &observed.metrics).await?;
    }
    let all = databases.iter().map(|database| options(database, &observed.traffic));
    let fleet = Fleet::start(all.collect::<Result<_, _>>()?, observed.metrics.clone()).await?;
    observed.begin(fleet.pulse());
    for database in databases {
        log_replica(database);
    }
    Ok(fleet)
}

/// Restores a database that is not there, where that is wanted. No backup is no error: it is the first start.
async fn restore_if_missing(database: &DatabaseConfig, metrics: &Metrics) -> Result<(), CliError> {
    if !database.settings.restore_if_missing {
        return Ok(());
    }
    let path = &database.path;
    if path.exists() {
        tracing::info!(path = %path.display(), "database already exists, skipping restore");
        return Ok(());
    }
    metrics.database(path).restoring();
    let started = Instant::now();
    match restore::restore_quietly(
        connect(&database.replica, &database.settings.limits)?,
        path,
        Target::Latest,
    )
    .await
    {
        Ok(restored) => {
            metrics.restores().record(started.elapsed());
            tracing::info!(path = %path.display(), txid = %restored.txid, "database restored");
            Ok(())
        }
        Err(EngineError::NoBackup { .. }) => {
            tracing::info!(path = %path.display(), "no backup found, starting with a new database");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn options(database: &DatabaseConfig, traffic: &Traffic) -> Result<DatabaseOptions, CliError> {
    let settings = &database.settings;
    Ok(DatabaseOptions {
        path: database.path.clone(),
        meta_path: database.meta_path.clone(),
        replica: connect_for(database, traffic)?,
        monitor_interval: settings.monitor_interval,
        checkpoint_interval: settings.checkpoint_interval,
        busy_timeout: settings.busy_timeout,
        min_checkpoint_pages: settings.min_checkpoint_pages,
        max_sync_wal_bytes: settings.max_sync_wal_bytes,
        sync_interval: settings.sync_interval,
        history: settings.history.clone(),
    })
}

fn log_replica(database: &DatabaseConfig) {
    let interval = GoDuration::from(database.settings.sync_interval);
    let Place { kind, server, bucket, path } = database.replica.place();
    let region = match &database.replica {
        ReplicaConfig::S3(s3) => Some(s3.region.clone().unwrap_or_default()),
        ReplicaConfig::Oss(oss) => Some(oss.region.clone().unwrap_or_default()),
        _ => None,
    };
    // The peer's names; a field without a value is left out. It knows no path in NATS.
    let server_if = |kinds: &[&str]| kinds.contains(&kind).then(|| server.clone());
    let bucket = (!matches!(kind, "file" | "sftp" | "webdav")).then_some(bucket);
    let path = (kind != "nats" || !path.is_empty()).then_some(path);
    let user = match &database.replica {
        ReplicaConfig::Sftp(sftp) => Some(sftp.user.clone().unwrap_or_default()),
        _ => None,
    };
    let endpoint = match &database.replica {
        ReplicaConfig::Azure(azure) => Some(azure.endpoint.clone().unwrap_or_default()),
        _ => server_if(&["s3"]),
    };
    tracing::info!(
        r#type = kind,
        "sync-interval" = %interval,
        host = server_if(&["sftp"]),
        user,
        url = server_if(&["webdav", "nats"]),
        bucket,
        path,
        region,
        endpoint,
        "replicating to"
    );
}

/// How replication comes to its end.
pub(crate) struct End {
    /// How the child ended, if there is one.
    pub(crate) child: Option<ExitStatus>,
    /// When the operator asked for it.
    interrupted: Option<Instant>,
}

/// Signals that are nearer to each other than this are one: some supervisors send theirs to the process and
/// again to its group, and a terminal sends its own to everybody. No hand is that quick.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

/// Waits until it is time to shut down.
pub(crate) async fn serve(exec: Option<&str>, signals: &mut Signals) -> Result<End, CliError> {
    let child = exec.map(Child::spawn).transpose()?;
    let orphans = orphans::reap(child.as_ref().and_then(Child::id));
    tokio::select! {
        end = wait_for_end(child, signals) => end,
        never = orphans => match never {},
    }
}

async fn wait_for_end(child: Option<Child>, signals: &mut Signals) -> Result<End, CliError> {
    let Some(mut child) = child else {
        let signal = signals.next_shutdown().await;
        tracing::info!(signal = signals::name(signal), "signal received, walstream shutting down");
        return Ok(End { child: None, interrupted: Some(Instant::now()) });
    };
    let mut interrupted = None;
    loop {
        tokio::select! {
            biased;
            status = child.wait() => {
                let status = status.map_err(|error| CliError::new(format!("cannot wait for exec process: {error}")))?;
                tracing::info!(%status, "exec process ended, walstream shutting down");
                return Ok(End { child: Some(status), interrupted });
            }
            signal = signals.next() => {
                tracing::info!(signal = signals::name(signal), "signal received, sending it to exec process");
                child.forward(signal);
                if signals::asks_for_shutdown(signal) {
                    interrupted = Some(Instant::now());
                }
            }
        }
    }
}

/// The last sync. The operator's second signal ends it at once.
pub(crate) async fn shut_down(
    fleet: Fleet,
    settings: ShutdownSettings,
    signals: &mut Signals,
    mut interrupted: Option<Instant>,
) -> Vec<Unshipped> {
    let (abort, aborted) = watch::channel(false);
    let options = ShutdownOptions {
        timeout: settings.timeout,
        retry_interval: settings.retry_interval,
        abort: aborted,
    };
    let shutdown = fleet.shutdown(options);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            unshipped = &mut shutdown => {
                tracing::info!("walstream shut down");
                return unshipped;
            }
            signal = signals.next_shutdown() => {
                let signal = signals::name(signal);
                match interrupted {
                    Some(first) if first.elapsed() < SAME_SIGNAL => {}
                    Some(_) => {
                        tracing::warn!(signal, "second signal received, ending without the last sync");
                        abort.send_replace(true);
                    }
                    None => {
                        tracing::info!(signal, "signal received, finishing the last sync (again to skip it)");
                        interrupted = Some(Instant::now());
                    }
                }
            }
        }
    }
}

fn report_unshipped(unshipped: &[Unshipped]) {
    for database in unshipped {
        tracing::error!(
            path = %database.path.display(),
            "txid.replica" = database.shipped.map_or_else(|| "unknown".into(), |txid| txid.to_string()),
            "txid.db" = %database.captured,
            error = database.reason,
            "failed to close database"
        );
    }
}

/// An error if something did not reach its replica.
pub(crate) fn all_shipped(unshipped: &[Unshipped]) -> Result<(), CliError> {
    report_unshipped(unshipped);
    let Some(first) = unshipped.first() else { return Ok(()) };
    let others = match unshipped.len() - 1 {
        0 => String::new(),
        n => format!(" (and {n} more)"),
    };
    let path = first.path.display();
    let message = match first.missing() {
        Some(txids) if txids.min() == txids.max() => {
            format!("TXID {} did not reach the replica of {path}{others}: {}", txids.max(), first.reason)
        }
        Some(txids) => {
            let (min, max) = (txids.min(), txids.max());
            let count = max.get() - min.get() + 1;
            let reason = &first.reason;
            format!("TXIDs {min} to {max} ({count}) did not reach the replica of {path}{others}: {reason}")
        }
        None => format!("not everything reached the replica of {path}{others}: {}", first.reason),
    };
    Err(CliError::new(message).with_hint(
        "what is missing is in the database and its metadata folder; keep both, the next start uploads it",
    ))
}
