//! The application at its desk, and somebody who writes down every state that it commits. It acts between the pieces of
//! the engine's work, or in the midst of them.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use walstream_ltx::Checksum;

use super::application::{Application, DEEDS, Deed, Done, Habits, is_busy};
use super::disk::{Actor, Disturbance, FragileDisk};
use super::image::Image;
use super::random::Random;
use super::sqlite;

/// An application that never pauses would only make the simulation slower.
const ENOUGH_DEEDS: usize = 60;

/// Shared with those who act while the engine is at work.
#[derive(Clone)]
pub(super) struct SharedDesk(Arc<Mutex<Desk>>);

impl SharedDesk {
    pub(super) fn new(path: &Path, habits: Habits, disk: FragileDisk) -> Self {
        let path = path.to_owned();
        let (application, witness) = (None, Witness::default());
        let desk = Desk { application, habits, path, disk, witness, meddled: 0, complaint: None };
        SharedDesk(Arc::new(Mutex::new(desk)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The application as one that acts in the midst of the engine's work.
    pub(super) fn disturbance(&self, random: Random, chance: usize) -> Disturbance {
        let desk = self.clone();
        Disturbance { random, chance, act: Box::new(move |random| desk.lock().meddle(random)) }
    }
}

/// The application, if it runs, and the witness.
pub(super) struct Desk {
    application: Option<Application>,
    habits: Habits,
    path: PathBuf,
    disk: FragileDisk,
    pub(super) witness: Witness,
    /// How often the application acted while the engine was at work.
    pub(super) meddled: usize,
    /// What went wrong then.
    pub(super) complaint: Option<String>,
}

impl Desk {
    pub(super) fn is_open(&self) -> bool {
        self.application.is_some()
    }

    pub(super) fn open(&mut self) {
        if self.application.is_none() {
            let open = || Application::open(&self.path, &self.habits);
            self.application = Some(self.disk.acting(Actor::Bystander, open));
            self.note();
        }
    }

    pub(super) fn close(&mut self) {
        let application = self.application.take();
        self.disk.acting(Actor::Application, || drop(application));
    }

    /// The process ends without doing anything any more.
    pub(super) fn kill(&mut self) {
        self.disk.die(Actor::Application);
        self.close();
        self.disk.heal(Actor::Application);
    }

    pub(super) fn act(&mut self, deed: Deed, random: &mut Random) -> Option<Done> {
        let application = self.application.as_mut()?;
        let disk = &self.disk;
        let failed = disk.failed();
        let done = disk.acting(Actor::Application, || application.act(deed, random));
        let done = match done {
            Ok(done) => done,
            Err(_) if disk.failed() > failed => Done::Failed,
            Err(error) => panic!("the application was refused {deed:?}: {error}"),
        };
        if done == Done::Failed {
            disk.acting(Actor::Application, || application.recover());
        }
        if !disk.is_dead(Actor::Application) {
            self.note();
            self.tidy();
        }
        Some(done)
    }

    fn tidy(&mut self) {
        let size = self.witness.size();
        let Some(application) = &mut self.application else { return };
        if self.disk.acting(Actor::Bystander, || application.tidy(size)) {
            self.note();
        }
    }

    /// Does something while the engine is at work.
    fn meddle(&mut self, random: &mut Random) {
        let is_dead = self.application.is_none() || self.disk.is_dead(Actor::Application);
        if is_dead || self.meddled == ENOUGH_DEEDS {
            return;
        }
        let deed = random.weighed(DEEDS);
        let mut act = || {
            let application = self.application.as_mut().unwrap();
            application.expects_others = true;
            let done = self.act(deed, random);
            if let Some(application) = &mut self.application {
                application.expects_others = false;
            }
            done
        };
        match catch_unwind(AssertUnwindSafe(|| sqlite::without_sleep(&mut act))) {
            Ok(_) => self.meddled += 1,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                self.complaint = Some(text.unwrap_or_else(|| "a panic".into()));
            }
        }
    }

    /// What SQLite says is in the database now, if the application runs.
    pub(super) fn image(&mut self) -> Option<Image> {
        let application = self.application.as_mut()?;
        match self.disk.acting(Actor::Bystander, || application.image()) {
            Ok(image) => Some(image),
            // Then it could not do anything either.
            Err(error) if application.expects_others && is_busy(&error) => None,
            Err(error) => panic!("the application cannot read: {error}"),
        }
    }

    fn note(&mut self) {
        if let Some(image) = self.image() {
            self.witness.see(image);
        }
    }

    /// Ends what would keep the daemon from setting the journal mode.
    pub(super) fn make_way(&mut self) {
        let Some(application) = &mut self.application else { return };
        self.disk.acting(Actor::Bystander, || {
            if !application.is_in_wal_mode() {
                application.make_way();
            }
        });
    }
}

/// Every state that SQLite ever called committed.
#[derive(Default)]
pub(super) struct Witness {
    committed: HashSet<u64>,
    /// The latest of them, back to when they were last forgotten.
    latest: Vec<Image>,
}

impl Witness {
    pub(super) fn see(&mut self, image: Image) {
        self.committed.insert(image.hash());
        // The daemon may set the journal mode before anybody looks again.
        self.committed.insert(image.in_wal_mode().hash());
        if self.latest.last() != Some(&image) {
            self.latest.push(image);
        }
    }

    pub(super) fn see_all(&mut self, images: impl IntoIterator<Item = Image>) {
        images.into_iter().for_each(|image| self.see(image));
    }

    pub(super) fn has_seen(&self, image: &Image) -> bool {
        self.committed.contains(&image.hash())
    }

    /// One of the latest states, as it is or after the daemon set the journal mode.
    pub(super) fn find(&self, digest: Checksum) -> Option<Image> {
        let mut states = self.latest.iter().rev().flat_map(|image| [image.clone(), image.in_wal_mode()]);
        states.find(|image| image.digest() == digest)
    }

    pub(super) fn now(&self) -> Option<&Image> {
        self.latest.last()
    }

    /// Only the present state may be found from now on.
    pub(super) fn forget_latest(&mut self) {
        let now = self.latest.pop();
        self.latest = now.into_iter().collect();
    }

    fn size(&self) -> usize {
        self.now().map_or(0, |image| image.bytes().len())
    }
}
