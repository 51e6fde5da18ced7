//! How far a restore has come, for whoever watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Is told how a restore goes on. Everything is counted since the last call; [`Progress::planned`] starts
/// anew, which happens again if a damaged file has to be replaced by others.
pub trait Progress: Send + Sync {
    /// So many bytes will be fetched, to write so many pages.
    fn planned(&self, bytes: u64, pages: u64);
    /// So many more bytes were fetched.
    fn fetched(&self, bytes: u64);
    /// So many more pages are in place.
    fn written(&self, pages: u64);
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn planned(&self, _bytes: u64, _pages: u64) {}
    fn fetched(&self, _bytes: u64) {}
    fn written(&self, _pages: u64) {}
}

/// What the threads of a restore have done so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    fetched: AtomicU64,
    written: AtomicU64,
}

impl Counts {
    pub(super) fn add_fetched(&self, bytes: usize) {
        self.fetched.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes fetched since the beginning.
    pub(super) fn fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    pub(super) fn add_written(&self, pages: usize) {
        self.written.fetch_add(pages as u64, Ordering::Relaxed);
    }
}

/// Carries counts from the threads to the watcher.
pub(super) struct Meter<'a> {
    progress: &'a dyn Progress,
    counts: Arc<Counts>,
    told_fetched: u64,
    told_written: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(progress: &'a dyn Progress) -> Self {
        Meter { progress, counts: Arc::default(), told_fetched: 0, told_written: 0 }
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    pub(super) fn planned(&self, bytes: u64, pages: u64) {
        self.progress.planned(bytes, pages);
    }

    /// Bytes fetched since the beginning.
    pub(super) fn fetched(&self) -> u64 {
        self.counts.fetched()
    }

    /// Tells what is new.
    pub(super) fn tell(&mut self) {
        let fetched = self.fetched();
        let written = self.counts.written.load(Ordering::Relaxed);
        if fetched > self.told_fetched {
            self.progress.fetched(fetched - self.told_fetched);
        }
        if written > self.told_written {
            self.progress.written(written - self.told_written);
        }
        (self.told_fetched, self.told_written) = (fetched, written);
    }
}
