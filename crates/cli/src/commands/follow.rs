//! `walstream restore -f`: a copy that stays as new as its replica.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use walstream_engine::EngineError;
use walstream_engine::follow::Follower;
use walstream_engine::restore::{Progress, RestoreOptions};
use walstream_storage::ReplicaClient;

use crate::config::GoDuration;
use crate::daemon::serve;
use crate::error::CliError;
use crate::exec::exit_code;
use crate::http::{self, Address, Observed};
use crate::signals::{self, Signals};
use crate::systemd::Systemd;

/// How often the replica is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// As the flag says; the peer takes nonsense for the default, too.
pub(super) fn interval(flag: Option<GoDuration>) -> Duration {
    flag.and_then(GoDuration::positive).unwrap_or(INTERVAL)
}

/// What to follow, and how.
pub(super) struct Job {
    pub(super) options: RestoreOptions,
    pub(super) interval: Duration,
    /// A command that runs beside it.
    pub(super) exec: Option<String>,
    /// Whether it is no error that there is nothing to restore.
    pub(super) backup_is_optional: bool,
    /// Where to show metrics.
    pub(super) addr: Option<Address>,
}

/// Restores what is not there yet, and follows until a signal comes or the command ends.
pub(super) async fn run(
    client: Arc<dyn ReplicaClient>,
    job: Job,
    progress: impl Progress,
) -> Result<ExitCode, CliError> {
    let Job { options, interval, exec, backup_is_optional, addr } = job;
    let mut signals = match exec {
        Some(_) => Signals::for_child()?,
        None => Signals::shutdown()?,
    };
    let path = options.output.clone();
    let observed = Observed::default();
    let client = observed.traffic.count(client);
    if let Some(addr) = addr {
        http::start(addr, observed.clone());
    }
    let systemd = Systemd::attend(observed.clone());
    let started = tokio::select! {
        started = Follower::start(client, options, &progress, &observed.metrics) => started,
        signal = signals.next_shutdown() => {
            return Err(CliError::new(format!("interrupted by signal: {}", signals::name(signal))));
        }
    };
    drop(progress);
    let mut follower = match started {
        Err(EngineError::NoBackup { location }) if backup_is_optional => {
            tracing::info!(replica = location, "no matching backups found");
            return Ok(ExitCode::SUCCESS);
        }
        started => started?,
    };
    tracing::info!(path = %path.display(), txid = %follower.txid(), ?interval, "following");
    let end = tokio::select! {
        end = serve(exec.as_deref(), &mut signals) => end?,
        never = follower.run(interval) => match never {},
    };
    systemd.stopping();
    Ok(end.child.map_or(ExitCode::SUCCESS, |status| ExitCode::from(exit_code(status))))
}
