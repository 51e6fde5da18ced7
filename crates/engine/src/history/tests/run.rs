//! The history of a database over hours and days, in milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use walstream_ltx::{Level, Txid};
use walstream_storage::StorageError;

use super::model::{Model, START, level, names, txids};
use crate::clock::Clock;
use crate::error::EngineError;
use crate::history::compact::{Compactor, LocalL0, NoLocalL0, OpenFile};
use crate::history::sources::Limits;
use crate::history::{History, Setup, Signals};
use crate::metrics::Metrics;
use crate::options::HistoryOptions;
use crate::restore::plan::Target;
use crate::testing::{Request, TokioClock, unavailable};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Remembers what it was told to remove.
#[derive(Default)]
struct Local {
    released: AtomicU64,
}

impl LocalL0 for Local {
    fn open(
        &self,
        txids: walstream_ltx::TxidRange,
        most: usize,
    ) -> Result<Option<Vec<OpenFile>>, EngineError> {
        NoLocalL0.open(txids, most)
    }

    fn release(&self, through: Txid) -> Result<(), EngineError> {
        self.released.store(through.get(), Ordering::Relaxed);
        Ok(())
    }
}

/// A daemon around the model: what it captures is on the replica at once.
struct Daemon {
    model: Model,
    options: HistoryOptions,
    clock: Arc<TokioClock>,
    level0: watch::Sender<Txid>,
    snapshot: watch::Sender<Txid>,
    snapshot_needed: Arc<Notify>,
    local: Arc<Local>,
    running: Option<JoinHandle<EngineError>>,
    metrics: Metrics,
}

impl Daemon {
    fn new() -> Self {
        Daemon {
            model: Model::new(),
            options: HistoryOptions::default(),
            clock: Arc::new(TokioClock::start_at(START)),
            level0: watch::Sender::new(Txid::ZERO),
            snapshot: watch::Sender::new(Txid::ZERO),
            snapshot_needed: Arc::default(),
            local: Arc::default(),
            running: None,
            metrics: Metrics::default(),
        }
    }

    /// A database that was captured and snapshotted, and whose history is kept.
    async fn started() -> Self {
        let mut daemon = Daemon::new();
        daemon.write();
        daemon.make_snapshot();
        daemon.start();
        daemon.pass(SECOND).await;
        daemon
    }

    fn start(&mut self) {
        let history = History::new(Setup {
            compactor: Compactor {
                client: self.model.replica.clone(),
                local: self.local.clone(),
                limits: Limits::default(),
            },
            options: self.options.clone(),
            clock: self.clock.clone(),
            permits: Arc::new(Semaphore::new(1)),
            signals: Signals {
                level0: self.level0.subscribe(),
                snapshot: self.snapshot.subscribe(),
                snapshot_needed: self.snapshot_needed.clone(),
            },
            database: self.metrics.database("a.db".as_ref()),
            metrics: self.metrics.clone(),
        });
        self.running = Some(tokio::spawn(history.run()));
    }

    fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.abort();
        }
    }

    fn write(&mut self) {
        let changed = (self.model.txid % 3) as u32 + 1;
        self.model.capture(3, &[changed], self.clock.now());
        self.level0.send_replace(Txid::new(self.model.txid));
    }

    fn make_snapshot(&mut self) {
        let txid = self.model.snapshot(self.clock.now());
        self.snapshot.send_replace(txid);
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// One write a second.
    async fn write_for(&mut self, time: Duration) {
        for _ in 0..time.as_secs() {
            self.write();
            self.pass(SECOND).await;
        }
    }

    fn names(&self, number: u8) -> Vec<(u64, u64)> {
        names(&self.model.replica, number)
    }
}

fn denied() -> StorageError {
    StorageError::Denied { location: "memory:".into(), reason: "retention policy".into() }
}

#[tokio::test(start_paused = true)]
async fn levels_are_filled_at_their_windows_and_level_0_is_emptied() {
    let mut daemon = Daemon::started().await;
    daemon.write_for(HOUR + 10 * SECOND).await;
    daemon.model.check().await;

    // The first window of level 1 starts at the beginning of the test.
    let level1 = daemon.names(1);
    assert_eq!(level1.len(), 120);
    assert!(level1.iter().skip(1).all(|(min, max)| max - min == 29), "{level1:?}");
    assert_eq!(daemon.names(2).len(), 12);
    assert_eq!(daemon.names(3).len(), 1);
    let level0 = daemon.names(0);
    assert!((300..=345).contains(&level0.len()), "5 minutes and at most a window: {}", level0.len());
    assert_eq!(daemon.local.released.load(Ordering::Relaxed) + 1, level0[0].0);
}

#[tokio::test(start_paused = true)]
async fn the_database_is_not_copied_from_the_snapshot_into_every_level() {
    let mut daemon = Daemon::new();
    daemon.write();
    daemon.start();
    daemon.pass(60 * SECOND).await;
    assert_eq!(daemon.names(1), [], "waits for the snapshot");
    daemon.make_snapshot();
    daemon.write_for(600 * SECOND).await;
    for number in 1..=2 {
        assert_eq!(daemon.names(number)[0].0, 2, "level {number}");
    }
    assert!(daemon.names(0)[0].0 > 1, "and level 0 need not keep it");
    daemon.model.check().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_snapshot_level_1_starts_after_an_hour() {
    let mut daemon = Daemon::new();
    daemon.write_for(2 * SECOND).await;
    daemon.start();
    daemon.pass(HOUR).await;
    assert_eq!(daemon.names(1), []);
    daemon.pass(60 * SECOND).await;
    assert_eq!(daemon.names(1), [(1, 2)]);
}

#[tokio::test(start_paused = true)]
async fn a_database_at_rest_costs_nothing() {
    let mut daemon = Daemon::started().await;
    daemon.write_for(600 * SECOND).await;
    daemon.pass(2 * HOUR).await;
    assert_eq!(daemon.names(0).len(), 1);
    daemon.model.replica.take_requests();
    daemon.pass(1000 * HOUR).await;
    assert_eq!(daemon.model.replica.take_requests(), []);

    daemon.write();
    daemon.pass(60 * SECOND).await;
    assert_eq!(daemon.names(1).last(), Some(&(602, 602)), "but it wakes up");
    daemon.model.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_database_costs_one_listing_per_window() {
    let mut daemon = Daemon::started().await;
    daemon.write_for(600 * SECOND).await;
    daemon.model.replica.take_requests();
    daemon.write_for(600 * SECOND).await;
    let requests = daemon.model.replica.take_requests();
    let listings = requests.iter().filter(|request| matches!(request, Request::List(_))).count();
    assert_eq!(listings, 20, "one of level 0 for each file of level 1");
}

#[tokio::test(start_paused = true)]
async fn a_restart_does_not_compact_the_same_window_twice() {
    let mut daemon = Daemon::started().await;
    daemon.write_for(35 * SECOND).await;
    let before = daemon.names(1).len();
    for _ in 0..4 {
        daemon.stop();
        daemon.start();
        daemon.write_for(5 * SECOND).await;
    }
    // What came just before the end of the last window may have been left for this one, and is taken up at once.
    assert!(daemon.names(1).len() <= before + 1, "{:?}", daemon.names(1));
    daemon.write_for(10 * SECOND).await;
    assert_eq!(daemon.names(1).last().unwrap().1, 61);
    daemon.model.check().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_after_a_long_time_compacts_at_once() {
    let mut daemon = Daemon::started().await;
    daemon.write_for(65 * SECOND).await;
    daemon.stop();
    daemon.write_for(700 * SECOND).await;
    daemon.start();
    daemon.pass(SECOND).await;
    assert_eq!(daemon.names(1).last().unwrap().1, daemon.model.txid);
    daemon.model.check().await;
}

#[tokio::test(start_paused = true)]
async fn snapshots_go_after_their_time_but_never_the_ground_of_the_last_day() {
    let mut daemon = Daemon::started().await;
    for _ in 0..5 {
        daemon.write_for(60 * SECOND).await;
        daemon.make_snapshot();
        daemon.pass(24 * HOUR).await;
        // Whoever asks for yesterday gets it.
        let yesterday = walstream_ltx::Timestamp::from_millis(daemon.clock.now().as_millis() - 86_400_000);
        daemon.model.restore(Target::At(yesterday)).await;
        daemon.model.check().await;
    }
    assert_eq!(daemon.names(9).len(), 2);
    let oldest = daemon.names(9)[0].1;
    for number in 1..=3 {
        let ends: Vec<_> = daemon.names(number).into_iter().map(|(_, max)| max).collect();
        let superfluous = ends.iter().rev().skip(1).filter(|&&end| end < oldest);
        assert_eq!(superfluous.count(), 0, "level {number}: {ends:?}, oldest snapshot {oldest}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hole_is_reported_once_and_bridged_by_a_snapshot() {
    let mut daemon = Daemon::started().await;
    daemon.write_for(10 * SECOND).await;
    daemon.model.replica.remove(Level::L0, txids(5, 5));
    daemon.write_for(120 * SECOND).await;
    assert_eq!(daemon.names(1), [(2, 4)]);
    daemon.snapshot_needed.notified().await;
    daemon.make_snapshot();
    daemon.write_for(60 * SECOND).await;
    assert_eq!(daemon.names(1)[1].0, 6);
    daemon.model.restore(Target::Latest).await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_file_is_left_out_once_a_snapshot_bridges_it() {
    let mut daemon = Daemon::started().await;
    daemon.write_for(10 * SECOND).await;
    daemon.model.replica.insert(Level::L0, txids(5, 5), START, vec![0; 500]);
    daemon.write_for(60 * SECOND).await;
    daemon.snapshot_needed.notified().await;
    daemon.make_snapshot();
    daemon.write_for(120 * SECOND).await;
    assert_eq!(daemon.names(1)[0], (2, 4));
    assert_eq!(daemon.names(1)[1].0, 6);
    daemon.model.restore(Target::Latest).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_is_caught_up_with() {
    let mut daemon = Daemon::started().await;
    daemon.write_for(60 * SECOND).await;
    daemon.model.replica.set_fault(|_| Some(unavailable()));
    daemon.write_for(600 * SECOND).await;
    assert!(daemon.model.replica.take_requests().len() < 200, "and it is not stormed meanwhile");
    daemon.model.replica.clear_fault();
    daemon.write_for(400 * SECOND).await;
    assert!(daemon.names(1).last().unwrap().1 > daemon.model.txid - 60);
    daemon.model.check().await;
}

#[tokio::test(start_paused = true)]
async fn deletion_that_is_denied_stops_nothing() {
    let mut daemon = Daemon::started().await;
    daemon.model.replica.set_fault(|request| matches!(request, Request::Delete(..)).then(denied));
    daemon.write_for(1200 * SECOND).await;
    assert_eq!(daemon.names(0).len(), 1201, "retained");
    assert!(daemon.local.released.load(Ordering::Relaxed) > 800, "but not here");
    assert_eq!(daemon.names(1).len(), 40);
    daemon.model.replica.take_requests();
    daemon.pass(100 * HOUR).await;
    assert!(daemon.model.replica.take_requests().len() < 40, "and what is denied is not tried for ever");
}

#[tokio::test(start_paused = true)]
async fn without_retention_only_local_files_go() {
    let mut daemon = Daemon::new();
    daemon.options.retention_enabled = false;
    daemon.write();
    daemon.make_snapshot();
    daemon.start();
    for _ in 0..3 {
        daemon.write_for(600 * SECOND).await;
        daemon.make_snapshot();
        daemon.pass(30 * HOUR).await;
    }
    assert_eq!((daemon.names(0).len(), daemon.names(9).len()), (1801, 4));
    assert!(daemon.local.released.load(Ordering::Relaxed) > 1700);
    let requests = daemon.model.replica.take_requests();
    assert!(!requests.iter().any(|request| matches!(request, Request::Delete(..))));
}

#[tokio::test(start_paused = true)]
async fn a_level_0_that_is_kept_for_ever_is_kept_everywhere() {
    let mut daemon = Daemon::new();
    daemon.options.l0_retention = Duration::ZERO;
    daemon.write();
    daemon.make_snapshot();
    daemon.start();
    for _ in 0..3 {
        daemon.write_for(600 * SECOND).await;
        daemon.make_snapshot();
        daemon.pass(30 * HOUR).await;
    }
    assert_eq!((daemon.names(0).len(), daemon.names(9).len()), (1801, 1));
    assert_eq!(daemon.local.released.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn another_writer_ends_it() {
    let mut daemon = Daemon::started().await;
    daemon.write_for(2 * SECOND).await;
    let mut other = Model::new();
    other.capture(9, &[], START);
    other.capture(9, &[1, 2], START);
    other.capture(9, &[3], START);
    let compactor =
        Compactor { client: other.replica.clone(), local: daemon.local.clone(), limits: Limits::default() };
    compactor.compact(level(1), &other.listing(0).await[1..]).await.unwrap();
    let theirs = other.replica.content(level(1), txids(2, 3)).unwrap();
    daemon.model.replica.insert(level(1), txids(2, 3), START, theirs);

    let error = daemon.running.take().unwrap().await.unwrap();
    assert!(matches!(error, EngineError::Fenced { .. }), "{error}");
}
