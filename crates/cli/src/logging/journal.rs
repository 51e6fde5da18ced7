//! Where lines are written.
//!
//! Invariant: a line is written whole or not at all, and logging never fails a command: an output that cannot be written to is
//! ignored. What was held back is written a minute later, or at the end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use chrono::Local;

use super::line::{Form, Line};
use super::repeats::{Kind, Repeats};

/// The lines of the process.
pub(super) struct Journal {
    form: Form,
    write: Box<dyn Fn(&str) + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    repeats: Repeats,
    /// Whether a thread waits for the next sum.
    is_watched: bool,
}

impl Journal {
    pub(super) fn new(form: Form, write: impl Fn(&str) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Journal { form, write: Box::new(write), state: Mutex::default() })
    }

    /// Writes a line, unless too many of its kind were written of late. One without a kind is always written.
    pub(super) fn take(self: &Arc<Self>, kind: Option<Kind>, line: Line) {
        let Some(kind) = kind else { return self.write(&line) };
        let mut state = self.state();
        let lines = state.repeats.take(kind, line, Instant::now());
        let wants_watch = lines.is_empty() && !state.is_watched;
        state.is_watched |= wants_watch;
        drop(state);
        lines.iter().for_each(|line| self.write(line));
        if wants_watch {
            self.watch();
        }
    }

    /// Writes what was held back.
    pub(super) fn finish(&self) {
        let rest = self.state().repeats.rest();
        rest.iter().for_each(|line| self.write(line));
    }

    /// Writes sums when they are due. The thread ends when nothing is held back, so that an idle process has none.
    fn watch(self: &Arc<Self>) {
        let journal = Arc::clone(self);
        let watching = thread::Builder::new().name("log".to_owned()).spawn(move || journal.write_sums());
        if watching.is_err() {
            self.state().is_watched = false;
        }
    }

    fn write_sums(&self) {
        loop {
            let mut state = self.state();
            let Some(due) = state.repeats.due() else {
                state.is_watched = false;
                return;
            };
            let now = Instant::now();
            let sums = state.repeats.sums(now);
            drop(state);
            sums.iter().for_each(|line| self.write(line));
            thread::sleep(due.saturating_duration_since(now));
        }
    }

    fn write(&self, line: &Line) {
        (self.write)(&line.render(Local::now().fixed_offset(), self.form));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // After a panic elsewhere it still counts lines.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
