//! A machine with a database, an application, a daemon and a replica, and whatever may happen to them.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use walstream_ltx::{Level, Timestamp};
use walstream_storage::ReplicaClient;

use super::application::{self, Application, DEEDS, Deed, Habits};
use super::daemon::Daemon;
use super::disk::{Failure, FragileDisk};
use super::files::Files;
use super::image::Image;
use super::random::Random;
use super::record::Record;
use super::store::{FragileStore, Outage};
use super::trace::Trace;
use crate::clock::Clock;
use crate::error::EngineError;
use crate::options::DatabaseOptions;

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Act(Deed),
    OpenApplication,
    CloseApplication,
    KillApplication,
    Start,
    Stop,
    Kill,
    Work(Work),
    CutPower,
    DiskFails(Failure),
    StoreFails(Outage),
    StoreHeals,
    BackUp,
    Replace,
    RemoveWal,
    Rebuild,
    Injure(Injury),
    Quiesce,
}

/// A piece of the daemon's work.
#[derive(Clone, Copy, Debug)]
enum Work {
    Contact,
    Capture,
    CaptureAll,
    Checkpoint,
    Rest,
    SaveMap,
    Upload,
    Pin,
    UploadPinned,
    Compact(u8),
    Retain,
}

/// What may happen to the metadata folder while no daemon runs.
#[derive(Clone, Copy, Debug)]
enum Injury {
    FolderGone,
    NewestTorn,
    MiddleGone,
    MapDamaged,
    MapGone,
}

const WORK: &[(usize, Work)] = &[
    (2, Work::Contact),
    (12, Work::Capture),
    (8, Work::CaptureAll),
    (10, Work::Checkpoint),
    (1, Work::Rest),
    (3, Work::SaveMap),
    (12, Work::Upload),
    (2, Work::Pin),
    (3, Work::UploadPinned),
    (3, Work::Compact(1)),
    (2, Work::Compact(2)),
    (2, Work::Retain),
];

const INJURIES: &[(usize, Injury)] = &[
    (2, Injury::FolderGone),
    (3, Injury::NewestTorn),
    (2, Injury::MiddleGone),
    (2, Injury::MapDamaged),
    (1, Injury::MapGone),
];

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
    trace: Trace,
    pub(super) random: Random,
    pub(super) runtime: Runtime,
    clock: Arc<StepClock>,
    habits: Habits,
    pub(super) daemon: Option<Daemon>,
    pub(super) application: Option<Application>,
    path: PathBuf,
    files: Files,
    pub(super) disk: FragileDisk,
    pub(super) store: Arc<FragileStore>,
    pub(super) options: DatabaseOptions,
    pub(super) record: Record,
    backups: Vec<Image>,
    /// Why proofs of the state may be missing, so that a full copy is no waste.
    pub(super) lost: Option<&'static str>,
    /// Whether captured files were lost before they were uploaded.
    pub(super) has_holes: bool,
    pub(super) folder: tempfile::TempDir,
}

impl World {
    /// A machine on which the application is about to begin.
    pub(super) fn from_seed(seed: u64, watched: bool) -> Self {
        let mut random = Random::from_seed(seed);
        let folder = tempfile::tempdir_in(fast_folder()).unwrap();
        let path = folder.path().join("app.db");
        let store = Arc::new(FragileStore::default());
        let habits = Habits::choose(&mut random);
        let mut options = DatabaseOptions::new(&path, Arc::clone(&store) as Arc<dyn ReplicaClient>);
        // One thread plays everybody, so waiting for somebody else would be waiting for oneself.
        options.busy_timeout = Duration::ZERO;
        options.max_sync_wal_bytes = random.pick(&[0, 0, 10_000, 100_000]);
        options.history.l0_retention = Duration::from_millis(800);
        options.history.snapshot_retention = Duration::from_secs(3);
        let mut trace = Trace::new(seed, watched);
        trace.add(&format!("{habits:?}, max_sync_wal_bytes: {}", options.max_sync_wal_bytes));
        let mut world = World {
            trace,
            random,
            runtime: Builder::new_current_thread().enable_time().build().unwrap(),
            clock: Arc::new(StepClock(AtomicI64::new(1_700_000_000_000))),
            habits,
            daemon: None,
            application: None,
            files: Files::new(&path, folder.path().join("aside")),
            path,
            disk: FragileDisk::default(),
            store,
            options,
            record: Record::default(),
            backups: Vec::new(),
            lost: None,
            has_holes: false,
            folder,
        };
        world.open_application();
        world
    }

    /// Lets things happen. Returns how many steps that were.
    pub(super) fn run(mut self) -> usize {
        let steps = 30 + self.random.below(120);
        for _ in 0..steps {
            let step = self.choose();
            self.perform(step);
        }
        self.perform(Step::Quiesce);
        self.check_all();
        self.trace.len()
    }

    fn choose(&mut self) -> Step {
        let random = &mut self.random;
        let failure = Failure {
            after: random.below(12),
            kind: random.pick(&[io::ErrorKind::StorageFull, io::ErrorKind::Other]),
            for_good: random.percent(50),
        };
        let once = Outage::Once { after: random.below(6), done: random.percent(50) };
        let outage = random.weighed(&[(6, once), (2, Outage::Lasting), (1, Outage::LateListing)]);
        let deed = random.weighed(DEEDS);
        let work = random.weighed(WORK);
        let injury = random.weighed(INJURIES);
        random.weighed(&[
            (100, Step::Act(deed)),
            (100, Step::Work(work)),
            (4, Step::OpenApplication),
            (2, Step::CloseApplication),
            (3, Step::KillApplication),
            (12, Step::Start),
            (3, Step::Stop),
            (4, Step::Kill),
            (2, Step::CutPower),
            (4, Step::DiskFails(failure)),
            (5, Step::StoreFails(outage)),
            (3, Step::StoreHeals),
            (3, Step::BackUp),
            (2, Step::Replace),
            (2, Step::RemoveWal),
            (2, Step::Rebuild),
            (5, Step::Injure(injury)),
            (6, Step::Quiesce),
        ])
    }

    fn perform(&mut self, step: Step) {
        self.trace.add(&format!("{step:?}"));
        let pause = self.random.below(100) as i64;
        self.clock.0.fetch_add(pause, Ordering::Relaxed);
        if self.disk.is_dead() {
            self.kill();
        }
        match step {
            Step::Act(deed) => self.act(deed),
            Step::OpenApplication => self.open_application(),
            Step::CloseApplication => self.application = None,
            Step::KillApplication => self.kill_application(),
            Step::Start => self.start(),
            Step::Stop => self.stop(),
            Step::Kill => self.kill(),
            Step::Work(work) => self.work(work),
            Step::CutPower => self.cut_power(),
            Step::DiskFails(failure) => self.disk.fail(failure),
            Step::StoreFails(outage) => self.store.fail(outage),
            Step::StoreHeals => self.store.heal(),
            Step::BackUp => self.back_up(),
            Step::Replace => self.replace(),
            Step::RemoveWal => self.remove_wal(),
            Step::Rebuild => self.rebuild(),
            Step::Injure(injury) => self.injure(injury),
            Step::Quiesce => self.quiesce(),
        }
        if self.daemon.is_none() && self.application.is_none() {
            self.files.note_closed();
        }
    }

    // The application.

    pub(super) fn open_application(&mut self) {
        if self.application.is_none() {
            self.application = Some(Application::open(&self.path, &self.habits));
            self.note_commit();
        }
    }

    fn note_commit(&mut self) -> usize {
        let Some(application) = &mut self.application else { return 0 };
        let image = application.image();
        self.record.commit(&image);
        image.bytes().len()
    }

    fn act(&mut self, deed: Deed) {
        let Some(application) = &mut self.application else { return };
        let done = application.act(deed, &mut self.random);
        self.trace.outcome(if done { "" } else { "busy" });
        let size = self.note_commit();
        if self.application.as_mut().is_some_and(|application| application.tidy(size)) {
            self.note_commit();
        }
    }

    fn kill_application(&mut self) {
        let alone = self.daemon.is_none() && self.application.is_some();
        if alone {
            self.files.copy_aside();
        }
        self.application = None;
        if alone {
            self.files.put_back();
        }
    }

    fn back_up(&mut self) {
        if let Some(application) = &mut self.application {
            self.backups.push(application.image());
        }
    }

    fn replace(&mut self) {
        if self.backups.is_empty() {
            return self.trace.outcome("no backup");
        }
        self.application = None;
        let backup = self.random.below(self.backups.len());
        self.files.replace(self.backups[backup].bytes());
    }

    fn remove_wal(&mut self) {
        if self.daemon.is_none() {
            self.application = None;
            let done = self.files.remove_wal();
            self.trace.outcome(if done { "" } else { "still there" });
        }
    }

    fn rebuild(&mut self) {
        if self.daemon.is_none() {
            self.application = None;
            application::rebuild(&self.path, &mut self.random);
        }
    }

    fn cut_power(&mut self) {
        self.files.copy_aside();
        (self.daemon, self.application) = (None, None);
        self.files.put_back();
        self.files.lose_wal_tail(&mut self.random);
        self.disk.cut_power(&mut self.random);
        self.disk.heal();
    }

    // The daemon.

    pub(super) fn start(&mut self) {
        if self.daemon.is_some() {
            return;
        }
        if let Some(application) = &mut self.application
            && !application.is_in_wal_mode()
        {
            application.make_way();
        }
        let failed = self.failed();
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let started = self.runtime.block_on(Daemon::start(&self.options, clock, self.disk.clone()));
        match started {
            Ok(daemon) => self.daemon = Some(daemon),
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
        let alone = self.application.is_none() && self.daemon.is_some();
        if alone {
            self.files.copy_aside();
        }
        self.daemon = None;
        self.disk.heal();
        if alone {
            self.files.put_back();
        }
    }

    fn work(&mut self, work: Work) {
        if self.daemon.as_ref().is_some_and(|daemon| !daemon.is_current()) {
            self.trace.outcome("opened anew");
            self.daemon = None;
            self.start();
        }
        let Some(mut daemon) = self.daemon.take() else { return };
        let (failed, wal) = (self.failed(), self.files.wal());
        let now = self.clock.now();
        let result = self.runtime.block_on(async {
            match work {
                Work::Contact => daemon.contact().await,
                Work::Capture => daemon.capture().await.map(|()| true),
                Work::CaptureAll => daemon.capture_all().await.map(|()| true),
                Work::Checkpoint => daemon.checkpoint().await.map(|_| true),
                Work::Rest => {
                    daemon.rest();
                    Ok(true)
                }
                Work::SaveMap => daemon.save_map().await.map(|_| true),
                Work::Upload => daemon.upload().await.map(|()| true),
                Work::Pin => daemon.pin().await.map(|()| true),
                Work::UploadPinned => daemon.upload_pinned().await.map(|()| true),
                Work::Compact(number) => {
                    let (level, below) = (Level::new(number).unwrap(), Level::new(number - 1).unwrap());
                    daemon.compact(level, below).await.map(|()| true)
                }
                Work::Retain => daemon.retain(now).await.map(|()| true),
            }
        });
        self.daemon = Some(daemon);
        assert!(self.files.wal() == wal, "the WAL is not what it was before");
        self.note();
        match result {
            Ok(true) => {}
            Ok(false) => {
                self.trace.outcome("the replica is ahead");
                self.daemon = None;
            }
            Err(error) => self.tolerate(failed, &error),
        }
    }

    /// Notes what the daemon has captured.
    pub(super) fn note(&mut self) {
        let now = match &mut self.application {
            Some(application) => application.image(),
            None => application::seen_by_a_stranger(&self.path),
        };
        self.record.note(&self.local_files(), &now, &self.files.wal(), self.lost);
    }

    /// The level-0 files in the metadata folder, oldest first.
    fn local_files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.options.meta_path.join("ltx/0")) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "ltx"));
        files.sort();
        files
    }

    fn failed(&self) -> (usize, usize) {
        (self.disk.failed(), self.store.failed())
    }

    /// An error must have a cause.
    fn tolerate(&mut self, before: (usize, usize), error: &EngineError) {
        assert!(before != self.failed(), "an error without a cause: {error}");
        self.trace.outcome(&format!("failed: {error}"));
    }

    fn injure(&mut self, injury: Injury) {
        if self.daemon.is_some() || !self.options.meta_path.exists() {
            return;
        }
        let map = self.options.meta_path.join("walstream.map");
        let mut local = self.local_files();
        // Whoever loses his own books depends on the store's: a late listing would have him fenced.
        self.store.heal();
        let newest = local.pop();
        let lost: Vec<PathBuf> = match injury {
            Injury::FolderGone => {
                fs::remove_dir_all(&self.options.meta_path).unwrap();
                local.into_iter().chain(newest).collect()
            }
            Injury::NewestTorn => newest.into_iter().inspect(|path| self.damage(path)).collect(),
            Injury::MiddleGone if local.is_empty() => return,
            Injury::MiddleGone => {
                let path = local.swap_remove(self.random.below(local.len()));
                fs::remove_file(&path).unwrap();
                vec![path]
            }
            Injury::MapDamaged if map.exists() => {
                self.damage(&map);
                Vec::new()
            }
            Injury::MapDamaged => return,
            Injury::MapGone => {
                let _ = fs::remove_file(map);
                Vec::new()
            }
        };
        self.lost = Some("the metadata folder was damaged");
        self.has_holes |= lost.iter().any(|path| !self.is_on_replica(path));
    }

    fn damage(&mut self, path: &PathBuf) {
        let mut content = fs::read(path).unwrap();
        let at = self.random.below(content.len());
        match self.random.below(3) {
            0 => content.truncate(at),
            1 => content[at..].fill(0),
            _ => content[at] ^= 1 << self.random.below(8),
        }
        fs::write(path, content).unwrap();
    }

    fn is_on_replica(&self, path: &std::path::Path) -> bool {
        let name = path.file_name().unwrap().to_string_lossy();
        let name: walstream_ltx::FileName = name.parse().unwrap();
        self.store.content(Level::L0, name.0).is_some()
    }
}

/// In memory if possible: nothing here outlives the test.
fn fast_folder() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}
