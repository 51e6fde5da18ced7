//! What the service manager is told, where there is one (`NOTIFY_SOCKET`): that we are ready, alive, reading the configuration
//! anew, and at the end.
//!
//! Invariant: we are ready once every database that is there has had its first sync, or will have none. A sign of life
//! is given only by a process that gets on. Whoever hears that we reload hears that it is over, whatever came of it. It only
//! tells: replication does not depend on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use walstream_engine::clock::{Clock, SystemClock};
use walstream_engine::metrics::{Standing, Unready};

use crate::http::Observed;

/// How often it is looked until we are ready.
const LOOK: Duration = Duration::from_millis(250);
/// How often a sign of life is given, if the manager does not want it more often.
const SIGN: Duration = Duration::from_secs(10);
const SHORTEST_SIGN: Duration = Duration::from_millis(50);
/// How much time is asked for with each sign while we start and while we end. A first sync may take hours.
const TIME: Duration = Duration::from_secs(60);

/// Our side of the conversation.
pub(crate) struct Systemd {
    ending: watch::Sender<bool>,
    told: Arc<Mutex<Told>>,
}

impl Systemd {
    /// Tells what is observed for as long as the runtime lives.
    pub(crate) fn attend(observed: Observed) -> Systemd {
        let (ending, end) = watch::channel(false);
        let told = Arc::default();
        if std::env::var_os("NOTIFY_SOCKET").is_some() {
            tokio::spawn(tell(observed, Arc::clone(&told), end));
        }
        Systemd { ending, told }
    }

    /// From here on the configuration is read anew.
    pub(crate) fn reloading(&self) {
        lock(&self.told).reloading();
    }

    /// That is over; `failure` says why nothing has changed.
    pub(crate) fn reloaded(&self, failure: Option<&str>) {
        lock(&self.told).reloaded(failure);
    }

    /// From here on we end.
    pub(crate) fn stopping(&self) {
        notify(&[NotifyState::Stopping, NotifyState::Status("uploading what is left")]);
        self.ending.send_replace(true);
    }
}

async fn tell(observed: Observed, told: Arc<Mutex<Told>>, mut ending: watch::Receiver<bool>) {
    let sign = sd_notify::watchdog_enabled().map_or(SIGN, |limit| (limit / 3).clamp(SHORTEST_SIGN, SIGN));
    let stopped = |ending: &watch::Receiver<bool>| *ending.borrow() || ending.has_changed().is_err();
    while !stopped(&ending) {
        if let Some(outlook) = look(&observed, sign).await {
            lock(&told).tell(outlook, sign);
        }
        let pause = if lock(&told).ready { sign } else { LOOK.min(sign) };
        tokio::select! {
            () = sleep(pause) => {}
            _ = ending.changed() => {}
        }
    }
    loop {
        notify(&[more_time()]);
        sleep(sign).await;
    }
}

/// What the manager knows.
#[derive(Debug, Default)]
struct Told {
    ready: bool,
    status: String,
    alive: Option<Instant>,
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    // What was said was said, even by one who panicked then.
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Told {
    fn tell(&mut self, outlook: Outlook, sign: Duration) {
        if self.status != outlook.status {
            notify(&[NotifyState::Status(&outlook.status)]);
            self.status = outlook.status;
        }
        if outlook.ready && !self.ready {
            notify(&[NotifyState::Ready]);
            self.ready = true;
        }
        if self.alive.is_none_or(|last| last.elapsed() >= sign) || self.ready {
            self.alive = Some(Instant::now());
            match self.ready {
                true => notify(&[NotifyState::Watchdog]),
                false => notify(&[more_time()]),
            }
        }
    }

    /// While we start there is nothing to say: its end would pass for the end of the start.
    fn reloading(&self) {
        if self.ready {
            // The manager waits for the end of this very reload, which it knows by its time.
            let mut states = vec![NotifyState::Reloading];
            states.extend(NotifyState::monotonic_usec_now());
            notify(&states);
        }
    }

    /// A failure is the status until there is something else to say.
    fn reloaded(&self, failure: Option<&str>) {
        if self.ready {
            let failure = failure.map(|failure| format!("configuration not reloaded: {failure}"));
            let status = failure.as_deref().unwrap_or(&self.status).replace('\n', " ");
            notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
        }
    }
}

fn more_time() -> NotifyState<'static> {
    NotifyState::ExtendTimeoutUsec(u32::try_from(TIME.as_micros()).unwrap_or(u32::MAX))
}

/// A manager that does not listen is its own concern.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot tell the service manager");
    }
}

/// How things stand.
#[derive(Debug, PartialEq, Eq)]
struct Outlook {
    ready: bool,
    status: String,
}

/// Nothing, if the process does not get on.
async fn look(observed: &Observed, within: Duration) -> Option<Outlook> {
    timeout(within, async {
        let begun = match observed.pulse() {
            Some(pulse) => {
                pulse.feel().await;
                true
            }
            None => false,
        };
        let observed = observed.clone();
        spawn_blocking(move || of_copy(&observed).unwrap_or_else(|| of_databases(&observed, begun)))
            .await
            .ok()
    })
    .await
    .ok()
    .flatten()
}

fn of_copy(observed: &Observed) -> Option<Outlook> {
    let copy = observed.metrics.follower()?;
    let (ready, path) = (copy.is_ready(), copy.path().display());
    let status = match ready {
        true => format!("{path} follows its replica"),
        false => format!("{path} has not reached the newest state of its replica yet"),
    };
    Some(Outlook { ready, status })
}

fn of_databases(observed: &Observed, begun: bool) -> Outlook {
    let now = SystemClock.now();
    let databases = observed.metrics.databases();
    let standings: Vec<_> = databases
        .iter()
        .map(|database| (database.path().display().to_string(), database.standing(now)))
        .collect();
    Outlook {
        ready: begun && standings.iter().all(|(_, standing)| !is_awaited(standing)),
        status: status(&standings),
    }
}

/// Whether its first sync is still to come. A database that does not exist yet may need us to be ready first.
fn is_awaited(standing: &Standing) -> bool {
    !matches!(standing.unready, None | Some(Unready::Missing | Unready::Stopped(_)))
}

/// One line that names the first database that is not in sync.
fn status(standings: &[(String, Standing)]) -> String {
    let mut unready =
        standings.iter().filter_map(|(path, standing)| Some((path, standing.unready.as_ref()?)));
    let all = standings.len();
    match (all, unready.next(), unready.count()) {
        (0, ..) => "no databases".into(),
        (1, None, _) => "1 database in sync".into(),
        (_, None, _) => format!("{all} databases in sync"),
        (_, Some((path, reason)), others) => {
            format!("{} of {all} databases in sync; {path} {reason}", all - others - 1).replace('\n', " ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(unready: Option<Unready>) -> (String, Standing) {
        ("/a.db".into(), Standing { unready, ..Standing::default() })
    }

    #[test]
    fn what_will_have_no_first_sync_is_not_waited_for() {
        for (unready, awaited) in [
            (None, false),
            (Some(Unready::Missing), false),
            (Some(Unready::Stopped("another writer".into())), false),
            (Some(Unready::Starting), true),
            (Some(Unready::Restoring), true),
            (Some(Unready::NoContact), true),
            (Some(Unready::Failing("it is locked".into())), true),
        ] {
            let (_, standing) = database(unready.clone());
            assert_eq!(is_awaited(&standing), awaited, "{unready:?}");
        }
    }

    #[test]
    fn the_status_is_one_line() {
        let failing = || database(Some(Unready::Failing("it is\nlocked".into())));
        assert_eq!(status(&[]), "no databases");
        assert_eq!(status(&[database(None)]), "1 database in sync");
        assert_eq!(
            status(&[database(None), failing(), failing()]),
            "1 of 3 databases in sync; /a.db cannot be replicated yet: it is locked"
        );
    }
}
