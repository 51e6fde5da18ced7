//! What becomes of level-0 files over time: compacted level by level, and deleted once nothing needs them.
//!
//! | step | module |
//! |---|---|
//! | when a level is due | [`levels`] |
//! | which files it takes in | [`sources`] |
//! | many files become one | [`compact`] |
//! | which files may go | [`retention`], carried out by [`enforce`] |
//! | what is on the replica, without asking it | `known` |
//!
//! Invariants: nothing is deleted before what replaces it was read back; a database at rest costs no requests and no
//! timers; a failure costs a look at the replica and a later attempt, never the replication. Snapshots are made
//! elsewhere. Everything here may be dropped at any moment: each step is whole or did not happen.

pub mod compact;
pub mod enforce;
mod known;
pub mod levels;
pub mod retention;
pub mod sources;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{FileInfo, ReplicaClient, TimestampSource};

use self::compact::Compactor;
use self::enforce::Deletion;
use self::known::Known;
use self::levels::{after, is_due, next_window, until};
use self::retention::{floor, l0_to_delete, snapshots_to_delete};
use self::sources::{Hole, Limits};
use crate::clock::{Clock, SystemClock};
use crate::error::EngineError;
use crate::metrics::database::L0Files;
use crate::metrics::{DatabaseMetrics, Metrics};
use crate::options::{DatabaseOptions, HistoryOptions};
use crate::trouble::Trouble;

/// A failure is tried again after this time, then after twice that, and so on.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// Nothing here is that urgent, and no mistake of ours may burn the processor.
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);
/// A wall clock may jump while we sleep, so we look at it again after this time.
const LONGEST_SLEEP: Duration = Duration::from_secs(300);
/// How long level 1 waits for the first snapshot, so that it need not hold the whole database once more.
const FIRST_SNAPSHOT_PATIENCE: Duration = Duration::from_secs(3600);
/// Snapshot retention lists the whole replica, so it waits this long when it could not do what was due.
const SNAPSHOT_CHECK_INTERVAL: Duration = Duration::from_secs(600);

/// What compaction and retention of one database need.
pub struct Setup {
    /// Does the compactions.
    pub compactor: Compactor,
    /// The user's choices.
    pub options: HistoryOptions,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// How many databases may work here at the same time. Not that of the captures: a slow store must not stop them.
    pub permits: Arc<Semaphore>,
    /// What others tell.
    pub signals: Signals,
    /// What is counted of this database,
    pub database: Arc<DatabaseMetrics>,
    /// and of all of them.
    pub metrics: Metrics,
}

/// What the rest of the database's tasks tell, and are told.
pub struct Signals {
    /// The last TXID in level 0 of the replica.
    pub level0: watch::Receiver<Txid>,
    /// The last TXID of the newest snapshot on the replica.
    pub snapshot: watch::Receiver<Txid>,
    /// Told when only a new snapshot can bridge a hole in the history.
    pub snapshot_needed: Arc<Notify>,
}

/// Applies snapshot retention once: old snapshots and what only they needed.
pub async fn enforce_once(options: &DatabaseOptions) -> Result<Vec<FileInfo>, EngineError> {
    enforce::enforce_snapshot_retention(options.replica.as_ref(), &options.history, SystemClock.now()).await
}

/// Compaction and retention of one database.
pub struct History {
    setup: Setup,
    /// The highest level that is compacted into.
    top: Level,
    started: Timestamp,
    /// What is on the replica; nothing at the start and after an error.
    known: Option<Known>,
    /// Since when each level has had something to take in.
    waiting: [Option<Timestamp>; Level::MAX_COMPACTION_LEVELS + 1],
    l0_checked: Option<Timestamp>,
    /// When snapshot retention was refused last.
    snapshots_refused: Option<Timestamp>,
    /// No file below the snapshots ends before this TXID any more.
    floor: Txid,
    /// Files that cannot be read. Compaction goes on after them as soon as a snapshot bridges the hole.
    damaged: Vec<(Level, TxidRange)>,
    hole: Option<Hole>,
    said_denied: bool,
}

impl History {
    /// Nothing has been looked at yet.
    pub fn new(setup: Setup) -> Self {
        let levels = setup.options.levels.len().min(Level::MAX_COMPACTION_LEVELS);
        History {
            top: u8::try_from(levels).ok().and_then(Level::new).unwrap_or(Level::L0),
            started: setup.clock.now(),
            setup,
            known: None,
            // Long ago, so that what lies there at the start is due at once.
            waiting: [Some(Timestamp::from_millis(i64::MIN)); Level::MAX_COMPACTION_LEVELS + 1],
            l0_checked: None,
            snapshots_refused: None,
            floor: Txid::ZERO,
            damaged: Vec::new(),
            hole: None,
            said_denied: false,
        }
    }

    /// Compacts and deletes for as long as it is polled. Returns only the error that it cannot get over by itself:
    /// the replica belongs to another writer.
    pub async fn run(mut self) -> EngineError {
        let replica = self.client().location();
        let mut trouble = Trouble::new(FIRST_BACKOFF, LONGEST_BACKOFF);
        loop {
            match Box::pin(self.work()).await {
                Ok(next) => {
                    trouble.over(|row| {
                        info!(%replica, previous_errors = row.count, failed_for = %row.lasting, "compaction recovered");
                    });
                    self.rest(next).await;
                }
                Err(fatal @ EngineError::Fenced { .. }) => return fatal,
                Err(error) => {
                    self.setup.database.history_errors.add(1);
                    let pause = trouble.failed(|row| {
                        let (count, lasting) = (row.count, row.lasting);
                        error!(%replica, %error, consecutive_errors = count, failing_for = %lasting, "compaction or retention failed, trying again");
                    });
                    self.set_aside(&error);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Does what is due, and says when something will be again. An error throws away what was known.
    async fn work(&mut self) -> Result<Option<Timestamp>, EngineError> {
        let permits = Arc::clone(&self.setup.permits);
        // Never closed; if it were, there would be no bound and nothing worse.
        let _permit = permits.acquire().await;
        let mut known = self.look().await?;
        self.note_sources(&known);
        for level in self.levels() {
            if self.is_due(level) {
                self.compact(&mut known, level).await?;
                self.note_sources(&known);
            }
        }
        self.retain_l0(&mut known).await?;
        self.retain_snapshots(&mut known).await?;
        let next = self.next_due(&known);
        self.known = Some(known);
        Ok(next)
    }

    /// Sleeps until something is due or somebody tells of something that could make work.
    async fn rest(&mut self, next: Option<Timestamp>) {
        let now = self.now();
        let pause = next.map(|next| until(now, next).clamp(SHORTEST_SLEEP, LONGEST_SLEEP));
        let level1_waits = self.waiting[1].is_some();
        let Signals { level0, snapshot, .. } = &mut self.setup.signals;
        tokio::select! {
            () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            // One more file for a level that has work anyway is no news.
            Ok(()) = level0.changed(), if !level1_waits => {}
            Ok(()) = snapshot.changed() => {}
            // Nobody is left who could tell, and nothing is left to do.
            else => std::future::pending().await,
        }
    }

    /// What is on the replica, as far as it matters here.
    async fn look(&mut self) -> Result<Known, EngineError> {
        let newest_snapshot = *self.setup.signals.snapshot.borrow_and_update();
        self.setup.signals.level0.mark_unchanged();
        let mut known = match self.known.take() {
            Some(known) => known,
            None => {
                let deletes_l0 = !self.setup.options.l0_retention.is_zero();
                Known::look(self.client(), self.top, deletes_l0).await?
            }
        };
        if newest_snapshot > known.end(Level::SNAPSHOT) {
            known.look_for_snapshots(self.client()).await?;
        }
        known.set_aside(&self.damaged);
        Ok(known)
    }

    /// Notes which levels have something to take in. A level that gets something now waits for its next window; at
    /// the start the newest file of the level tells when it last had its turn.
    fn note_sources(&mut self, known: &Known) {
        let now = self.now();
        for level in self.levels() {
            let has_sources = self.has_sources(known, level);
            let made_at = known.newest(level).map(|file| file.created_at).filter(|&made_at| made_at <= now);
            let since = &mut self.waiting[usize::from(level.get())];
            *since = has_sources.then(|| since.map_or(now, |since| since.max(made_at.unwrap_or(since))));
        }
    }

    fn has_sources(&mut self, known: &Known, level: Level) -> bool {
        if level.get() == 1 && self.waits_for_first_snapshot(known) {
            return false;
        }
        match known.next_sources(level, &Limits { files: 1, ..Limits::default() }) {
            Ok(sources) => !sources.is_empty() || (level.get() == 1 && self.has_new_l0(known)),
            Err(hole) => {
                self.ask_for_bridge(level, hole);
                false
            }
        }
    }

    fn has_new_l0(&self, known: &Known) -> bool {
        *self.setup.signals.level0.borrow() > known.end(Level::L0)
    }

    fn waits_for_first_snapshot(&self, known: &Known) -> bool {
        known.files(Level::SNAPSHOT).is_empty() && self.now() < after(self.started, FIRST_SNAPSHOT_PATIENCE)
    }

    fn ask_for_bridge(&mut self, level: Level, hole: Hole) {
        if self.hole.replace(hole) != Some(hole) {
            let (have, next) = (hole.have, hole.next);
            warn!(%level, %have, %next, "TXIDs are missing; a new snapshot will bridge the hole");
            self.setup.signals.snapshot_needed.notify_one();
        }
    }

    fn is_due(&self, level: Level) -> bool {
        let since = self.waiting[usize::from(level.get())];
        since.is_some_and(|since| is_due(self.now(), self.window(level), Some(since)))
    }

    /// Takes into `level` everything that the level below has.
    async fn compact(&mut self, known: &mut Known, level: Level) -> Result<(), EngineError> {
        if level.get() == 1 && self.has_new_l0(known) {
            known.look_for_l0(self.client()).await?;
            known.set_aside(&self.damaged);
        }
        let limits = self.setup.compactor.limits;
        while let Ok(sources) = known.next_sources(level, &limits)
            && !sources.is_empty()
        {
            let started = std::time::Instant::now();
            let file = self.setup.compactor.compact(level, &sources).await?;
            self.setup.metrics.made(level, started.elapsed());
            self.damaged.retain(|&damaged| damaged != (file.level, file.txids));
            known.add(file);
            self.verify(level).await?;
        }
        self.waiting[usize::from(level.get())] = None;
        if level.get() == 1 {
            self.l0_checked = None;
        }
        Ok(())
    }

    /// Where it is asked for: says so if the files of a level leave something out.
    async fn verify(&self, level: Level) -> Result<(), EngineError> {
        if !self.setup.options.verify_compaction {
            return Ok(());
        }
        let files = self.client().list(level, Txid::FIRST, TimestampSource::Listing).await?;
        for pair in files.windows(2) {
            let (end, next) = (pair[0].txids.max(), pair[1].txids.min());
            if next > end.next() {
                self.setup.database.verify_errors.add(1);
                warn!(%level, %end, %next, "post-compaction verification failed");
            }
        }
        Ok(())
    }

    /// Deletes level-0 files that level 1 has made superfluous, here and on the replica.
    async fn retain_l0(&mut self, known: &mut Known) -> Result<(), EngineError> {
        let now = self.now();
        if self.l0_checked.is_some_and(|checked| now < after(checked, self.l0_check_interval())) {
            return Ok(());
        }
        self.l0_checked = Some(now);
        let gone = self.superfluous_l0(known, now);
        self.setup.database.l0_seen(l0_files(known, &gone));
        let Some(end) = gone.iter().map(|file| file.txids.max()).max() else { return Ok(()) };
        match enforce::delete(self.client(), &self.setup.options, &gone).await? {
            Deletion::Done => {
                let max_l1_txid = Level::L0.next().map_or(end, |level1| known.end(level1));
                info!(deleted_count = gone.len(), %max_l1_txid, "l0 retention enforced");
            }
            Deletion::Denied(error) if !self.said_denied => {
                self.said_denied = true;
                enforce::say_denied(&error);
            }
            Deletion::Denied(_) | Deletion::Off => {}
        }
        known.remove(&gone);
        let local = Arc::clone(&self.setup.compactor.local);
        spawn_blocking(move || local.release(end)).await?
    }

    fn superfluous_l0(&self, known: &Known, now: Timestamp) -> Vec<FileInfo> {
        let level1 = Level::L0.next().map_or(&[][..], |level| known.files(level));
        let keep = self.setup.options.l0_retention;
        let (l0, above) = (known.files(Level::L0), known.files_above_level_1());
        l0_to_delete(l0, level1, &above, known.files(Level::SNAPSHOT), now, keep)
    }

    /// Deletes old snapshots and what only they needed.
    async fn retain_snapshots(&mut self, known: &mut Known) -> Result<(), EngineError> {
        let (now, keep) = (self.now(), self.setup.options.snapshot_retention);
        let snapshots = known.files(Level::SNAPSHOT);
        let floor = floor(snapshots, now, keep);
        let nothing_to_do = floor <= self.floor && snapshots_to_delete(snapshots, now, keep).is_empty();
        let too_soon = |checked| now < after(checked, SNAPSHOT_CHECK_INTERVAL);
        if !self.setup.options.retention_enabled
            || nothing_to_do
            || self.snapshots_refused.is_some_and(too_soon)
        {
            return Ok(());
        }
        let gone = enforce::enforce_snapshot_retention(self.client(), &self.setup.options, now).await?;
        known.remove(&gone);
        self.floor = floor;
        let still_due = !snapshots_to_delete(known.files(Level::SNAPSHOT), now, keep).is_empty();
        self.snapshots_refused = still_due.then_some(now);
        Ok(())
    }

    /// When there will be something to do, if nobody tells of anything new.
    fn next_due(&self, known: &Known) -> Option<Timestamp> {
        let now = self.now();
        let levels = self.levels().filter(|level| self.waiting[usize::from(level.get())].is_some());
        let levels = levels.map(|level| next_window(now, self.window(level)));
        let has_l0 = !known.files(Level::L0).is_empty() || self.has_new_l0(known);
        let first_snapshot = (has_l0 && self.waits_for_first_snapshot(known))
            .then(|| after(self.started, FIRST_SNAPSHOT_PATIENCE));
        // What would go if any amount of time had passed?
        let end_of_time = Timestamp::from_millis(i64::MAX);
        let l0 = (!self.superfluous_l0(known, end_of_time).is_empty())
            .then(|| after(self.l0_checked.unwrap_or(now), self.l0_check_interval()));
        levels.chain(first_snapshot).chain(l0).chain(self.next_snapshot_check(known, now)).min()
    }

    /// The oldest snapshot may go once the one after it is older than the time that is kept.
    fn next_snapshot_check(&self, known: &Known, now: Timestamp) -> Option<Timestamp> {
        let second = known.files(Level::SNAPSHOT).get(1).filter(|_| self.setup.options.retention_enabled)?;
        let old_enough = after(second.created_at, self.setup.options.snapshot_retention);
        let not_before =
            self.snapshots_refused.map_or(now, |checked| after(checked, SNAPSHOT_CHECK_INTERVAL));
        Some(after(old_enough, Duration::from_millis(1)).max(not_before))
    }

    /// Remembers which file stands in the way, so that the next attempt goes around it.
    fn set_aside(&mut self, error: &EngineError) {
        if let EngineError::Damaged { level, txids, .. } = error
            && !self.damaged.contains(&(*level, *txids))
        {
            self.damaged.push((*level, *txids));
        }
    }

    fn levels(&self) -> impl Iterator<Item = Level> + use<> {
        Level::all().skip(1).take(usize::from(self.top.get()))
    }

    fn window(&self, level: Level) -> Duration {
        self.setup.options.levels.get(usize::from(level.get()) - 1).copied().unwrap_or_default()
    }

    fn l0_check_interval(&self) -> Duration {
        self.setup.options.l0_retention_check_interval
    }

    fn now(&self) -> Timestamp {
        self.setup.clock.now()
    }

    fn client(&self) -> &dyn ReplicaClient {
        self.setup.compactor.client.as_ref()
    }
}

/// What retention says of each level-0 file of the replica.
fn l0_files(known: &Known, gone: &[FileInfo]) -> L0Files {
    let compacted = Level::L0.next().map_or(Txid::ZERO, |level1| known.end(level1));
    let l0 = known.files(Level::L0);
    let not_compacted = l0.iter().filter(|file| file.txids.max() > compacted).count();
    let eligible = gone.len();
    L0Files { eligible, not_compacted, too_recent: l0.len().saturating_sub(eligible + not_compacted) }
}

#[cfg(test)]
mod tests;
