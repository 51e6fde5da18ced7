//! A disk that fails on command, on which processes die in the midst of their work, and that forgets at a power cut
//! what nobody made durable.
//!
//! Everything is really written, and a journal is kept of what a power cut may take back: of the metadata folder,
//! which the engine writes through [`Disk`], and of the database, which SQLite writes (see [`super::sqlite`]).
//! At every operation of the engine's others may act, as the kernel would let them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::random::Random;
use crate::capture::brake;
use crate::fs::{Disk, DiskFile};

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Actor {
    Engine,
    Application,
    /// Looks on, or does what never fails.
    Bystander,
}

/// What will go wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// So many operations succeed before.
    pub(super) after: usize,
    pub(super) kind: io::ErrorKind,
    /// The operation is done, and an error all the same.
    pub(super) done: bool,
    /// Every later operation fails too: the process has been killed, and only does not know it yet.
    pub(super) for_good: bool,
}

/// An operation that failed.
pub(super) struct Refused {
    /// Whether it was done all the same.
    pub(super) done: bool,
    kind: io::ErrorKind,
}

impl Refused {
    pub(super) fn is_full(&self) -> bool {
        self.kind == io::ErrorKind::StorageFull
    }
}

/// What SQLite does to a file.
pub(super) enum Edit {
    Write(usize, Vec<u8>),
    Resize(usize),
    Sync,
    Remove,
}

impl Edit {
    fn apply(self, content: &mut Vec<u8>) {
        match self {
            Edit::Write(at, bytes) => {
                content.resize(content.len().max(at + bytes.len()), 0);
                content[at..at + bytes.len()].copy_from_slice(&bytes);
            }
            Edit::Resize(size) => content.resize(size, 0),
            Edit::Sync | Edit::Remove => {}
        }
    }
}

/// A file of a database: what is durable of it, and what came after.
struct Unsynced {
    durable: Vec<u8>,
    edits: Vec<Edit>,
}

impl Unsynced {
    /// Each edit may have reached the disk or not, in whatever order.
    fn after_power_cut(self, random: &mut Random) -> Vec<u8> {
        let chance = random.pick(&[0, 50, 90, 100]);
        let mut content = self.durable;
        for edit in self.edits {
            match edit {
                Edit::Write(at, mut bytes) if random.percent(5) => {
                    bytes.truncate(random.below(bytes.len()));
                    Edit::Write(at, bytes).apply(&mut content);
                }
                edit if random.percent(chance) => edit.apply(&mut content),
                _ => {}
            }
        }
        content
    }
}

/// A change of names that a power cut may take back.
enum Change {
    Created(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
    Removed(PathBuf, Vec<u8>),
}

impl Change {
    fn folder(&self) -> Option<&Path> {
        let (Change::Created(path) | Change::Renamed { to: path, .. } | Change::Removed(path, _)) = self;
        path.parent()
    }

    fn take_back(self) {
        // What is not there any more need not be taken back.
        let _ = match self {
            Change::Created(path) => fs::remove_file(path),
            Change::Renamed { from, to, replaced } => {
                let renamed = fs::rename(&to, from);
                replaced.map_or(renamed, |content| fs::write(to, content))
            }
            Change::Removed(path, content) => fs::write(path, content),
        };
    }
}

/// Somebody who acts now and then while the engine is at work.
pub(super) struct Disturbance {
    pub(super) random: Random,
    /// At so many of a hundred operations.
    pub(super) chance: usize,
    pub(super) act: Box<dyn FnMut(&mut Random) + Send>,
}

struct State {
    actor: Actor,
    engine: Option<Failure>,
    application: Option<Failure>,
    failed: usize,
    unsynced: BTreeSet<PathBuf>,
    journal: Vec<Change>,
    databases: BTreeMap<PathBuf, Unsynced>,
    disturbance: Option<Disturbance>,
    /// What the engine did to a WAL. It must not do anything to it.
    trespass: Option<String>,
}

/// The disk of one machine. Cheap to clone.
#[derive(Clone)]
pub(super) struct FragileDisk {
    state: Arc<Mutex<State>>,
}

impl Default for FragileDisk {
    fn default() -> Self {
        let state = State {
            actor: Actor::Engine,
            engine: None,
            application: None,
            failed: 0,
            unsynced: BTreeSet::new(),
            journal: Vec::new(),
            databases: BTreeMap::new(),
            disturbance: None,
            trespass: None,
        };
        FragileDisk { state: Arc::new(Mutex::new(state)) }
    }
}

impl State {
    fn failure(&mut self, actor: Actor) -> Option<&mut Option<Failure>> {
        match actor {
            Actor::Engine => Some(&mut self.engine),
            Actor::Application => Some(&mut self.application),
            Actor::Bystander => None,
        }
    }

    /// Counts an operation, and says whether it fails.
    fn operate(&mut self) -> Result<(), Refused> {
        let actor = self.actor;
        let Some(slot) = self.failure(actor) else { return Ok(()) };
        let Some(failure) = slot else { return Ok(()) };
        if failure.after > 0 {
            failure.after -= 1;
            return Ok(());
        }
        let refused = Refused { done: failure.done, kind: failure.kind };
        // Whoever is dead does nothing any more.
        failure.done = false;
        if !failure.for_good {
            *slot = None;
        }
        self.failed += 1;
        Err(refused)
    }
}

impl FragileDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets somebody act.
    pub(super) fn acting<T>(&self, actor: Actor, act: impl FnOnce() -> T) -> T {
        let before = std::mem::replace(&mut self.state().actor, actor);
        let done = act();
        self.state().actor = before;
        done
    }

    pub(super) fn fail(&self, actor: Actor, failure: Failure) {
        if let Some(slot) = self.state().failure(actor) {
            *slot = Some(failure);
        }
    }

    /// The process does nothing any more.
    pub(super) fn die(&self, actor: Actor) {
        self.fail(actor, Failure { after: 0, kind: io::ErrorKind::Other, done: false, for_good: true });
    }

    pub(super) fn heal(&self, actor: Actor) {
        if let Some(slot) = self.state().failure(actor) {
            *slot = None;
        }
    }

    /// How many operations have failed so far.
    pub(super) fn failed(&self) -> usize {
        self.state().failed
    }

    /// Whether a process is as good as dead.
    pub(super) fn is_dead(&self, actor: Actor) -> bool {
        let mut state = self.state();
        let failure = state.failure(actor).and_then(|failure| *failure);
        failure.is_some_and(|failure| failure.for_good && failure.after == 0 && !failure.done)
    }

    pub(super) fn disturb(&self, disturbance: Option<Disturbance>) {
        self.state().disturbance = disturbance;
    }

    pub(super) fn take_trespass(&self) -> Option<String> {
        self.state().trespass.take()
    }

    /// Lets others act while the engine is at work.
    pub(super) fn pause(&self) {
        // The brake outlives the step that is disturbed, and would have the deeds done in the midst of another one.
        if std::thread::current().name() == Some(brake::THREAD) {
            return;
        }
        let mut disturbance = {
            let mut state = self.state();
            if state.actor != Actor::Engine {
                return;
            }
            match state.disturbance.take() {
                Some(disturbance) => disturbance,
                None => return,
            }
        };
        if disturbance.random.percent(disturbance.chance) {
            (disturbance.act)(&mut disturbance.random);
        }
        self.state().disturbance = Some(disturbance);
    }

    /// SQLite does something to a file; `before` reads what is in it.
    pub(super) fn edit(
        &self,
        path: &Path,
        before: Option<&dyn Fn() -> Vec<u8>>,
        edit: Edit,
    ) -> Result<(), Refused> {
        let mut state = self.state();
        let outcome = state.operate();
        if outcome.as_ref().is_err_and(|refused| !refused.done) {
            return outcome;
        }
        match edit {
            Edit::Sync | Edit::Remove => drop(state.databases.remove(path)),
            edit => {
                if state.actor == Actor::Engine && path.to_string_lossy().ends_with("-wal") {
                    state.trespass = Some(format!("the engine wrote to {}", path.display()));
                }
                let start = || Unsynced {
                    durable: before.map(|before| before()).unwrap_or_default(),
                    edits: Vec::new(),
                };
                state.databases.entry(path.to_owned()).or_insert_with(start).edits.push(edit);
            }
        }
        outcome
    }

    /// What lies there now is durable: a person put it there.
    pub(super) fn make_durable(&self, path: &Path) {
        self.state().databases.remove(path);
    }

    /// Everything that lies there now is durable.
    pub(super) fn make_all_durable(&self) {
        let mut state = self.state();
        (state.unsynced, state.journal, state.databases) = Default::default();
    }

    /// Some of what was not made durable is gone, the latest first. Nothing may be open.
    pub(super) fn cut_power(&self, random: &mut Random) {
        let mut state = self.state();
        for (path, unsynced) in std::mem::take(&mut state.databases) {
            if path.exists() {
                fs::write(path, unsynced.after_power_cut(random)).unwrap();
            }
        }
        let keep = random.below(state.journal.len() + 1);
        let lost = state.journal.split_off(keep);
        lost.into_iter().rev().for_each(Change::take_back);
        for path in std::mem::take(&mut state.unsynced) {
            let Ok(mut content) = fs::read(&path) else { continue };
            let kept = random.below(content.len() + 1);
            if random.percent(50) {
                content.truncate(kept)
            } else {
                content[kept..].fill(0)
            }
            fs::write(path, content).unwrap();
        }
        state.journal.clear();
    }

    /// Does an operation on the metadata folder, if it may be done, and fails it, if it fails.
    fn perform<T>(&self, act: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.pause();
        let mut state = self.state();
        match state.operate() {
            Ok(()) => act(&mut state),
            Err(refused) => {
                if refused.done {
                    act(&mut state)?;
                }
                Err(refused.kind.into())
            }
        }
    }
}

impl Disk for FragileDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.perform(|state| {
            let is_new = !path.exists();
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
            state.unsynced.insert(path.to_owned());
            if is_new {
                state.journal.push(Change::Created(path.to_owned()));
            }
            Ok(file)
        })?;
        Ok(Box::new(FragileFile { disk: self.clone(), path: path.to_owned(), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.perform(|state| {
            let replaced = fs::read(to).ok();
            fs::rename(from, to)?;
            state.unsynced.remove(to);
            if state.unsynced.remove(from) {
                state.unsynced.insert(to.to_owned());
            }
            state.journal.push(Change::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
            Ok(())
        })
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.perform(|state| {
            state.journal.retain(|change| change.folder() != Some(folder));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.perform(|state| {
            let content = fs::read(path)?;
            fs::remove_file(path)?;
            state.unsynced.remove(path);
            state.journal.push(Change::Removed(path.to_owned(), content));
            Ok(())
        })
    }
}

struct FragileFile {
    disk: FragileDisk,
    path: PathBuf,
    file: File,
}

impl Write for FragileFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let disk = self.disk.clone();
        let mut file = &self.file;
        let written = disk.perform(|_| file.write(bytes));
        if written.is_err() {
            // A disk that is full, or a process that is killed, has taken a part.
            file.write_all(&bytes[..bytes.len() / 2])?;
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl DiskFile for FragileFile {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.perform(|state| {
            state.unsynced.remove(&self.path);
            Ok(())
        })
    }
}
