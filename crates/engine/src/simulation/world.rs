//! A machine with a database, an application, a daemon and a replica, and whatever may happen to them.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use walstream_ltx::{Level, Timestamp};
use walstream_storage::ReplicaClient;

use super::application::{self, Deed, Done, Habits};
use super::daemon::Daemon;
use super::desk::{Desk, SharedDesk};
use super::disk::{Actor, FragileDisk};
use super::files::Files;
use super::image::Image;
use super::random::Random;
use super::record::Record;
use super::sqlite;
use super::steps::{Step, Work};
use super::store::FragileStore;
use super::trace::{Tally, Trace};
use crate::clock::Clock;
use crate::error::EngineError;
use crate::options::DatabaseOptions;

/// Time as the steps go.
struct StepClock(AtomicI64);

impl Clock for StepClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Everything there is.
pub(super) struct World {
    // Printed first if a check fails, while the rest is still there to be looked at.
    pub(super) trace: Trace,
    pub(super) random: Random,
    pub(super) runtime: Runtime,
    clock: Arc<StepClock>,
    pub(super) daemon: Option<Daemon>,
    desk: SharedDesk,
    path: PathBuf,
    pub(super) files: Files,
    pub(super) disk: FragileDisk,
    pub(super) store: Arc<FragileStore>,
    pub(super) options: DatabaseOptions,
    pub(super) record: Record,
    backups: Vec<Image>,
    /// A map that was stored at some time, for later.
    pub(super) old_map: Option<Vec<u8>>,
    /// Why proofs of the state may be missing, so that a full copy is no waste.
    pub(super) lost: Option<&'static str>,
    /// Whether captured files were lost before they were uploaded.
    pub(super) has_holes: bool,
    /// Whether there may be two histories, because the machine was set back.
    pub(super) was_set_back: bool,
    pub(super) folder: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        sqlite::forget(self.folder.path());
    }
}

impl World {
    /// A machine on which the application is about to begin.
    pub(super) fn from_seed(seed: u64, watched: bool) -> Self {
        let mut random = Random::from_seed(seed);
        let folder = tempfile::tempdir_in(fast_folder()).unwrap();
        let path = folder.path().join("app.db");
        let disk = FragileDisk::default();
        sqlite::watch(folder.path(), &disk);
        let store = Arc::new(FragileStore::new(disk.clone()));
        let habits = Habits::choose(&mut random);
        let mut options = DatabaseOptions::new(&path, Arc::clone(&store) as Arc<dyn ReplicaClient>);
        // One thread plays everybody, so waiting for somebody else would be waiting for oneself.
        options.busy_timeout = Duration::ZERO;
        options.max_sync_wal_bytes = random.pick(&[0, 0, 10_000, 100_000]);
        options.history.l0_retention = Duration::from_millis(800);
        options.history.snapshot_retention = Duration::from_secs(3);
        let mut trace = Trace::new(seed, watched);
        trace.say(&format!("{habits:?}, max_sync_wal_bytes: {}", options.max_sync_wal_bytes));
        let world = World {
            trace,
            random,
            runtime: Builder::new_current_thread().enable_time().start_paused(true).build().unwrap(),
            clock: Arc::new(StepClock(AtomicI64::new(1_700_000_000_000))),
            daemon: None,
            desk: SharedDesk::new(&path, habits, disk.clone()),
            files: Files::new(&path, &options.meta_path, folder.path().join("aside"), disk.clone()),
            path,
            disk,
            store,
            options,
            record: Record::default(),
            backups: Vec::new(),
            old_map: None,
            lost: None,
            has_holes: false,
            was_set_back: false,
            folder,
        };
        world.desk().open();
        world
    }

    /// Lets things happen. Returns what happened how often.
    pub(super) fn run(mut self) -> Tally {
        let steps = 30 + self.random.below(120);
        for _ in 0..steps {
            let step = Step::choose(&mut self.random);
            self.perform(step);
        }
        self.perform(Step::Quiesce);
        self.check_all();
        std::mem::take(&mut self.trace.tally)
    }

    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock()
    }

    fn perform(&mut self, step: Step) {
        self.trace.step(&step);
        let pause = self.random.below(100) as i64;
        self.clock.0.fetch_add(pause, Ordering::Relaxed);
        self.bury_the_dead();
        match step {
            Step::Act(deed) => self.act(deed),
            Step::OpenApplication => self.desk().open(),
            Step::CloseApplication => self.desk().close(),
            Step::KillApplication => self.desk().kill(),
            Step::Start => self.start(),
            Step::DisturbedStart => self.disturbed(Self::start),
            Step::Stop => self.stop(),
            Step::Kill => self.kill(),
            Step::Work(work) => self.work(work),
            Step::Disturbed(work) => self.disturbed(|world| world.work(work)),
            Step::CutPower => self.cut_power(),
            Step::DiskFails(actor, failure) => self.disk.fail(actor, failure),
            Step::DiskHeals => self.heal_disk(),
            Step::StoreFails(outage) => self.store.fail(outage),
            Step::StoreHeals => self.store.heal(),
            Step::BackUp => self.back_up(),
            Step::Replace => self.replace(),
            Step::Overwrite => self.overwrite(),
            Step::Recreate => self.recreate(),
            Step::RemoveWal => self.remove_wal(),
            Step::Rebuild => self.rebuild(),
            Step::NoteMachine => self.files.copy_aside(),
            Step::SetMachineBack => self.set_machine_back(),
            Step::Injure(injury) => self.injure(injury),
            Step::Quiesce => self.quiesce(),
        }
    }

    /// Processes that were killed in the midst of something are seen to be dead.
    pub(super) fn bury_the_dead(&mut self) {
        if self.disk.is_dead(Actor::Engine) {
            self.kill();
        }
        if self.disk.is_dead(Actor::Application) {
            self.desk().kill();
        }
    }

    pub(super) fn heal_disk(&mut self) {
        self.disk.heal(Actor::Engine);
        self.disk.heal(Actor::Application);
    }

    // The application, and people.

    fn act(&mut self, deed: Deed) {
        let done = self.desk.lock().act(deed, &mut self.random);
        self.trace.outcome(match done {
            None => "nobody there",
            Some(Done::Well) => "",
            Some(Done::Busy) => "busy",
            Some(Done::Failed) => "failed",
        });
    }

    fn back_up(&mut self) {
        let image = self.desk().image();
        self.backups.extend(image.filter(|image| !image.bytes().is_empty()));
    }

    fn any_backup(&mut self) -> Option<Image> {
        if self.backups.is_empty() {
            self.trace.outcome("no backup");
            return None;
        }
        let chosen = self.random.below(self.backups.len());
        Some(self.backups[chosen].clone())
    }

    fn replace(&mut self) {
        if let Some(backup) = self.any_backup() {
            self.desk().close();
            self.files.replace(backup.bytes());
        }
    }

    fn overwrite(&mut self) {
        if self.daemon.is_none()
            && let Some(backup) = self.any_backup()
        {
            self.desk().close();
            self.files.overwrite(backup.bytes());
        }
    }

    fn recreate(&mut self) {
        self.desk().close();
        self.files.delete();
        if self.random.percent(50) {
            self.desk().open();
        }
    }

    fn remove_wal(&mut self) {
        if self.daemon.is_none() && self.path.exists() {
            self.desk().close();
            let done = self.disk.acting(Actor::Bystander, || self.files.remove_wal());
            self.trace.outcome(if done { "" } else { "still there" });
        }
    }

    fn rebuild(&mut self) {
        if self.daemon.is_none() && self.path.exists() {
            self.desk().close();
            self.disk.acting(Actor::Bystander, || application::rebuild(&self.path, &mut self.random));
        }
    }

    fn everybody_dies(&mut self) {
        self.disk.die(Actor::Engine);
        self.desk().kill();
        self.daemon = None;
    }

    fn cut_power(&mut self) {
        self.everybody_dies();
        self.disk.cut_power(&mut self.random);
        self.heal_disk();
    }

    /// Database and metadata folder become those of an earlier moment. Numbers of that moment may be taken by now, so
    /// the replica must be there for the next start.
    fn set_machine_back(&mut self) {
        self.everybody_dies();
        self.heal_disk();
        self.disk.make_all_durable();
        if !self.files.put_back() {
            return self.trace.outcome("no copy");
        }
        self.was_set_back = true;
        self.lost = Some("the machine was set back");
        self.store.heal();
        self.start();
    }

    // The daemon.

    pub(super) fn start(&mut self) {
        if self.daemon.is_some() || !self.path.exists() {
            return;
        }
        self.desk().make_way();
        let failed = self.failed();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let started = self.runtime.block_on(Daemon::start(&self.options, clock, self.disk.clone()));
        match started {
            Ok(daemon) => self.daemon = Some(daemon),
            // What a person does who is told so.
            Err(EngineError::Fenced { .. }) if self.was_set_back => {
                self.trace.outcome("fenced");
                self.forget_meta();
                return self.start();
            }
            Err(error) => self.tolerate(failed, &error),
        }
        self.note();
    }

    fn stop(&mut self) {
        self.work(Work::CaptureAll);
        self.work(Work::Upload);
        self.work(Work::SaveMap);
        self.daemon = None;
    }

    /// Nothing is saved, and nothing is checkpointed on the way out.
    pub(super) fn kill(&mut self) {
        self.disk.die(Actor::Engine);
        self.daemon = None;
        self.disk.heal(Actor::Engine);
    }

    /// The application acts while the daemon does something.
    fn disturbed(&mut self, act: impl FnOnce(&mut Self)) {
        let random = Random::from_seed(self.random.number());
        let chance = self.random.pick(&[5, 20, 60]);
        self.desk().meddled = 0;
        self.disk.disturb(Some(self.desk.disturbance(random, chance)));
        act(self);
        self.disk.disturb(None);
        let meddled = std::mem::take(&mut self.desk().meddled);
        self.trace.outcome(&format!("{meddled} deeds meanwhile"));
        self.trace.tally.add("deeds in the midst of work", meddled);
        let complaint = self.desk().complaint.take();
        assert_eq!(complaint, None);
    }

    fn work(&mut self, work: Work) {
        if self.daemon.as_ref().is_some_and(|daemon| !daemon.is_current()) {
            self.trace.outcome("opened anew");
            self.close_replaced();
            self.start();
        }
        let Some(mut daemon) = self.daemon.take() else { return };
        let failed = self.failed();
        let now = self.clock.now();
        let store = Arc::clone(&self.store);
        let result = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = store.hangs() => None,
                result = daemon.work(work, now) => Some(result),
                () = time_goes_by(), if work.waits_for_store() => None,
            }
        });
        match result {
            Some(Ok(true)) => {}
            Some(Ok(false)) => {
                self.trace.outcome("the replica is ahead");
                self.note();
                drop(daemon);
                return;
            }
            Some(Err(EngineError::Fenced { .. })) if self.was_set_back => {
                self.trace.outcome("fenced");
                drop(daemon);
                self.note();
                return self.forget_meta();
            }
            Some(Err(error)) => self.tolerate(failed, &error),
            None => {
                self.trace.outcome("given up while the store hung");
                daemon.wait_for_readers();
            }
        }
        self.daemon = Some(daemon);
        self.note();
    }

    /// As the daemon does when it finds that the file was replaced.
    fn close_replaced(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let failed = self.failed();
        if let Err(error) = self.runtime.block_on(daemon.save_map()) {
            self.tolerate(failed, &error);
        }
    }

    /// Notes what the daemon has captured, and that it has changed nothing.
    pub(super) fn note(&mut self) {
        assert_eq!(self.disk.take_trespass(), None);
        let meddled = self.desk().meddled > 0;
        let now = self.desk().image();
        let now = now.or_else(|| {
            self.path
                .exists()
                .then(|| self.disk.acting(Actor::Bystander, || application::seen_by_a_stranger(&self.path)))
        });
        let mut desk = self.desk.lock();
        if desk.is_open()
            && !meddled
            && let (Some(before), Some(now)) = (desk.witness.now(), &now)
        {
            let unchanged = before == now || before.in_wal_mode() == *now;
            assert!(unchanged, "the engine changed the database: {}", before.difference(now));
        }
        desk.witness.see_all(now);
        let files = self.local_files();
        let captured = self.record.note(&files, &desk.witness, &self.files.wal(), self.lost);
        desk.witness.forget_latest();
        drop(desk);
        self.trace.tally.add("captured files", captured);
    }

    /// The level-0 files in the metadata folder, oldest first.
    pub(super) fn local_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.options.meta_path.join("ltx/0")) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "ltx"));
        files.sort();
        files
    }

    pub(super) fn failed(&self) -> (usize, usize) {
        (self.disk.failed(), self.store.failed())
    }

    /// An error must have a cause.
    fn tolerate(&mut self, before: (usize, usize), error: &EngineError) {
        let kept_waiting = self.desk().meddled > 0 && is_busy(error);
        assert!(kept_waiting || before != self.failed(), "an error without a cause: {error}");
        self.trace.outcome(&format!("failed: {error}"));
        self.trace.tally.add("errors", 1);
    }

    pub(super) fn is_on_replica(&self, path: &std::path::Path) -> bool {
        let name = path.file_name().unwrap().to_string_lossy();
        let name: walstream_ltx::FileName = name.parse().unwrap();
        self.store.content(Level::L0, name.0).is_some()
    }
}

/// The clock of the runtime stands still, and moves on by itself only while no thread is at work. Where a thread waits
/// for a slow store, somebody must move it.
async fn time_goes_by() {
    loop {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        std::thread::sleep(Duration::from_micros(100));
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}

/// Whether SQLite would have waited, if waiting helped.
fn is_busy(error: &EngineError) -> bool {
    match error {
        EngineError::Sqlite { source, .. } => application::is_busy(source),
        EngineError::NotReplicable { reason, .. } => reason.contains("locked"),
        _ => false,
    }
}

/// In memory if possible: nothing here outlives the test.
fn fast_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}
