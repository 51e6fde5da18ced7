//! How far a database is on its replica.
//!
//! Invariant: what is not known counts as not replicated. The lag grows from the moment since which nobody can say that
//! everything is on the replica: a commit that was seen and not captured, a capture that was not uploaded, a database or
//! a replica that cannot be looked at.

use std::fmt;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use walstream_ltx::{Timestamp, Txid};

use super::DatabaseMetrics;
use crate::shadow::folder::ShadowFolder;
use crate::upload::queue::Uploaded;

/// How far a database is, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The newest captured TXID.
    pub captured: Txid,
    /// The newest TXID on the replica; `None` until that is known.
    pub shipped: Option<Txid>,
    /// When that state was captured, where that is known.
    pub shipped_state: Option<Timestamp>,
    /// How old the oldest commit is that is not on the replica.
    pub lag: Duration,
    /// Bytes of level-0 files that wait for their upload.
    pub backlog_bytes: u64,
    /// Why there was no first sync yet, or why there will be none any more.
    pub unready: Option<Unready>,
    /// Whether there is a database file that is being replicated, or should be.
    pub is_there: bool,
}

/// Why a database is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unready {
    /// Its turn has not come.
    Starting,
    /// It is being restored first.
    Restoring,
    /// There is no file.
    Missing,
    /// It cannot be opened or captured.
    Failing(String),
    /// The replica has not answered yet.
    NoContact,
    /// The first upload, or the first snapshot, is under way.
    Syncing {
        /// On the replica.
        shipped: Txid,
        /// The TXID from which on it is ready.
        wanted: Txid,
    },
    /// It is not replicated any more.
    Stopped(String),
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unready::Starting => f.write_str("is not open yet"),
            Unready::Restoring => f.write_str("is being restored"),
            Unready::Missing => f.write_str("does not exist yet"),
            Unready::Failing(reason) => write!(f, "cannot be replicated yet: {reason}"),
            Unready::NoContact => f.write_str("its replica has not answered yet"),
            Unready::Syncing { shipped, .. } if shipped.is_zero() => {
                f.write_str("its first snapshot is not on the replica yet")
            }
            Unready::Syncing { shipped, wanted } => {
                write!(f, "its first sync is under way: the replica has TXID {shipped} of {wanted}")
            }
            Unready::Stopped(reason) => write!(f, "is no longer replicated: {reason}"),
        }
    }
}

/// What the tasks of a database have told.
pub(super) struct State {
    phase: Phase,
    live: Option<Live>,
    /// Whether the first sync is done.
    synced: bool,
    /// Since when the replica has not been known.
    no_contact_since: Option<Timestamp>,
    /// Since when there have been commits that are not captured, as far as can be told.
    unseen_since: Option<Timestamp>,
    /// Why the database could not be captured the last time.
    failure: Option<String>,
}

enum Phase {
    Starting,
    Restoring,
    Missing,
    Open,
    Stopped(String),
}

/// A database that is open.
pub(crate) struct Live {
    pub(crate) captured: watch::Receiver<Txid>,
    pub(crate) uploaded: watch::Receiver<Uploaded>,
    pub(crate) snapshot_made: watch::Receiver<Txid>,
    pub(crate) shadow: ShadowFolder,
    /// What must be on the replica for the first sync; `None` before first contact.
    pub(crate) goal: Option<Goal>,
}

/// What was to be uploaded at first contact.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    pub(crate) captured: Txid,
    /// Zero: no snapshot was needed.
    pub(crate) snapshot: Txid,
}

impl State {
    pub(super) fn new() -> Self {
        State {
            phase: Phase::Starting,
            live: None,
            synced: false,
            no_contact_since: None,
            unseen_since: None,
            failure: None,
        }
    }

    /// Keeps in mind that the first sync was done.
    fn note_sync(&mut self) {
        let reached = |live: &Live| live.goal.is_some_and(|goal| live.has_reached(goal));
        self.synced = self.synced || self.live.as_ref().is_some_and(reached);
    }

    fn unready(&self) -> Option<Unready> {
        match &self.phase {
            Phase::Stopped(reason) => return Some(Unready::Stopped(reason.clone())),
            _ if self.synced => return None,
            Phase::Starting if self.failure.is_none() => return Some(Unready::Starting),
            Phase::Restoring => return Some(Unready::Restoring),
            Phase::Missing => return Some(Unready::Missing),
            Phase::Starting | Phase::Open => {}
        }
        if let Some(reason) = &self.failure {
            return Some(Unready::Failing(reason.clone()));
        }
        match self.live.as_ref().and_then(|live| Some((live, live.goal?))) {
            Some((live, goal)) => {
                Some(Unready::Syncing { shipped: live.shipped(), wanted: goal.captured.max(goal.snapshot) })
            }
            None => Some(Unready::NoContact),
        }
    }
}

impl Live {
    fn has_reached(&self, goal: Goal) -> bool {
        self.uploaded.borrow().txid >= goal.captured && *self.snapshot_made.borrow() >= goal.snapshot
    }

    /// The newest TXID that can be restored.
    fn shipped(&self) -> Txid {
        self.uploaded.borrow().txid.max(*self.snapshot_made.borrow())
    }
}

/// What is in local files only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Backlog {
    bytes: u64,
    oldest: Option<Timestamp>,
}

impl Backlog {
    /// What cannot be read is not counted; a file that is uploaded meanwhile may be gone.
    fn after(shadow: &ShadowFolder, txid: Txid) -> Self {
        let files = shadow.files_after(txid).unwrap_or_default();
        let oldest = files.first().and_then(|&first| shadow.describe(first).ok()?);
        let size = |&file: &_| std::fs::metadata(shadow.path(file)).map_or(0, |file| file.len());
        Backlog { bytes: files.iter().map(size).sum(), oldest: oldest.map(|(header, _)| header.timestamp) }
    }
}

impl DatabaseMetrics {
    /// How far the database is now. Reads the names of local files if some of them wait for their upload, so it must not
    /// be called where nothing may block.
    pub fn standing(&self, now: Timestamp) -> Standing {
        let mut state = self.state();
        state.note_sync();
        let mut standing = Standing {
            unready: state.unready(),
            is_there: !matches!(state.phase, Phase::Missing),
            ..Standing::default()
        };
        let doubts = [state.no_contact_since, state.unseen_since];
        let Some(live) = &state.live else {
            standing.lag = age(doubts.into_iter().flatten().min(), now);
            return standing;
        };
        let uploaded = live.uploaded.borrow().txid;
        standing.captured = *live.captured.borrow();
        if live.goal.is_some() {
            standing.shipped = Some(live.shipped());
            standing.shipped_state = live.uploaded.borrow().captured_at;
        }
        let shadow = (live.goal.is_some() && uploaded < standing.captured).then(|| live.shadow.clone());
        drop(state);
        let backlog = shadow.map_or_else(Backlog::default, |shadow| Backlog::after(&shadow, uploaded));
        standing.backlog_bytes = backlog.bytes;
        standing.lag = age(doubts.into_iter().chain([backlog.oldest]).flatten().min(), now);
        standing
    }

    /// Notes that the database will be restored before it is replicated.
    pub fn restoring(&self) {
        self.state().phase = Phase::Restoring;
    }

    /// Notes that it is to be replicated from here on.
    pub(crate) fn begin(&self, now: Timestamp) {
        let mut state = self.state();
        state.phase = Phase::Starting;
        state.no_contact_since.get_or_insert(now);
    }

    /// Notes that there is no database file.
    pub(crate) fn is_missing(&self) {
        let mut state = self.state();
        if !matches!(state.phase, Phase::Missing) {
            state.note_sync();
            *state = State { phase: Phase::Missing, synced: state.synced, ..State::new() };
        }
    }

    /// Notes that there is a database file.
    pub(crate) fn is_found(&self, now: Timestamp) {
        let mut state = self.state();
        if matches!(state.phase, Phase::Missing) {
            state.phase = Phase::Starting;
            state.no_contact_since = Some(now);
        }
    }

    /// Notes that the database is open, and where its news are.
    pub(crate) fn opened(&self, live: Live, now: Timestamp) {
        let mut state = self.state();
        state.note_sync();
        state.no_contact_since.get_or_insert(now);
        (state.phase, state.live, state.failure) = (Phase::Open, Some(live), None);
    }

    /// Notes that the replica is known from here on.
    pub(crate) fn in_contact(&self, goal: Goal) {
        let mut state = self.state();
        state.no_contact_since = None;
        if let Some(live) = &mut state.live {
            live.goal = Some(goal);
        }
    }

    /// Notes that there are commits which are not captured yet.
    pub(crate) fn has_news(&self, now: Timestamp) {
        self.state().unseen_since.get_or_insert(now);
    }

    /// Notes that everything that was committed a moment ago is captured.
    pub(crate) fn has_seen_all(&self) {
        let mut state = self.state();
        (state.unseen_since, state.failure) = (None, None);
    }

    /// Notes that the database could not be opened or captured: nobody knows what is new.
    pub(crate) fn cannot_see(&self, error: &dyn fmt::Display, now: Timestamp) {
        let mut state = self.state();
        state.unseen_since.get_or_insert(now);
        state.failure = Some(error.to_string());
    }

    /// Notes that the database is not replicated any more, although it should be.
    pub(crate) fn stopped(&self, reason: String, now: Timestamp) {
        let mut state = self.state();
        state.unseen_since.get_or_insert(now);
        state.phase = Phase::Stopped(reason);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn age(moment: Option<Timestamp>, now: Timestamp) -> Duration {
    let millis = moment.map_or(0, |moment| now.as_millis().saturating_sub(moment.as_millis()));
    Duration::from_millis(u64::try_from(millis).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fs::SystemDisk;
    use crate::metrics::Metrics;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(second * 1000)
    }

    /// The other ends of what a running database tells.
    struct Told {
        captured: watch::Sender<Txid>,
        uploaded: watch::Sender<Uploaded>,
        snapshot_made: watch::Sender<Txid>,
        _folder: tempfile::TempDir,
    }

    fn open(metrics: &DatabaseMetrics, now: Timestamp) -> Told {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(SystemDisk::like(folder.path()).unwrap());
        let told = Told {
            captured: watch::Sender::new(Txid::new(2)),
            uploaded: watch::Sender::new(Uploaded::default()),
            snapshot_made: watch::Sender::new(Txid::ZERO),
            _folder: folder,
        };
        let live = Live {
            captured: told.captured.subscribe(),
            uploaded: told.uploaded.subscribe(),
            snapshot_made: told.snapshot_made.subscribe(),
            shadow: ShadowFolder::open(told._folder.path(), told._folder.path(), disk).unwrap(),
            goal: None,
        };
        metrics.opened(live, now);
        told
    }

    fn upload(told: &Told, txid: u64) {
        told.uploaded.send_modify(|uploaded| uploaded.txid = Txid::new(txid));
    }

    #[test]
    fn a_database_is_ready_once_what_was_there_at_first_contact_is_on_the_replica() {
        let metrics = Metrics::default().database("app.db".as_ref());
        let unready = || metrics.standing(at(100)).unready.map(|reason| reason.to_string());
        assert_eq!(unready().as_deref(), Some("is not open yet"));
        metrics.restoring();
        assert_eq!(unready().as_deref(), Some("is being restored"));
        metrics.is_missing();
        assert_eq!(unready().as_deref(), Some("does not exist yet"));
        metrics.is_found(at(0));
        assert_eq!(unready().as_deref(), Some("is not open yet"));
        metrics.cannot_see(&"it is no database", at(0));
        assert_eq!(unready().as_deref(), Some("cannot be replicated yet: it is no database"));
        let told = open(&metrics, at(1));
        assert_eq!(unready().as_deref(), Some("its replica has not answered yet"));
        metrics.in_contact(Goal { captured: Txid::new(2), snapshot: Txid::new(2) });
        assert_eq!(unready().as_deref(), Some("its first snapshot is not on the replica yet"));
        upload(&told, 1);
        told.snapshot_made.send_replace(Txid::new(2));
        let under_way =
            "its first sync is under way: the replica has TXID 0000000000000002 of 0000000000000002";
        assert_eq!(unready().as_deref(), Some(under_way));
        upload(&told, 2);
        told.captured.send_replace(Txid::new(9));
        assert_eq!(unready(), None, "what came later is no reason");
        drop(open(&metrics, at(2)));
        metrics.is_missing();
        assert_eq!(unready(), None, "it stays ready whatever becomes of the file");
        metrics.stopped("another writer".into(), at(3));
        assert_eq!(unready().as_deref(), Some("is no longer replicated: another writer"));
    }

    #[test]
    fn the_lag_counts_from_the_moment_since_which_nobody_can_say_that_all_is_well() {
        let metrics = Metrics::default().database("app.db".as_ref());
        let lag = |now| metrics.standing(at(now)).lag.as_secs();
        metrics.begin(at(10));
        assert_eq!(lag(15), 5, "the replica is not known");
        let told = open(&metrics, at(16));
        assert_eq!(lag(20), 10);
        upload(&told, 2);
        metrics.in_contact(Goal { captured: Txid::new(2), snapshot: Txid::ZERO });
        assert_eq!(lag(20), 0);
        metrics.has_news(at(30));
        metrics.has_news(at(31));
        assert_eq!(lag(33), 3, "a commit is not captured");
        metrics.has_seen_all();
        assert_eq!(lag(33), 0);
        metrics.cannot_see(&"disk full", at(40));
        assert_eq!(lag(42), 2, "who cannot look does not know");
        metrics.has_seen_all();
        metrics.is_missing();
        assert_eq!(lag(99), 0, "there is nothing to replicate");
        assert!(!metrics.standing(at(99)).is_there);
    }
}
