//! A line on the terminal that shows how far a restore is. Without a terminal there is none.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use walstream_engine::restore::Progress;

use crate::output::human_size;

/// Not more often than the eye can follow.
const INTERVAL: Duration = Duration::from_millis(100);

/// Redraws one line on stderr, and takes it away at the end.
pub(crate) struct TerminalProgress {
    shown: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    fetched: u64,
    pages: u64,
    written: u64,
    drawn: Instant,
}

impl TerminalProgress {
    /// Nothing is drawn before the first [`INTERVAL`] is over, so a quick restore shows nothing.
    pub(crate) fn new() -> Self {
        TerminalProgress { shown: io::stderr().is_terminal(), state: Mutex::new(State::new()) }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        // The state is a few numbers: after a panic elsewhere they are still fit to be shown.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        if self.shown && state.drawn.elapsed() >= INTERVAL {
            state.drawn = Instant::now();
            // The cursor goes back to the beginning, so that a log line does not start in the middle.
            let _ = write!(io::stderr(), "\x1b[K{}\r", state.line());
        }
    }
}

impl State {
    fn new() -> Self {
        State { fetched: 0, pages: 0, written: 0, drawn: Instant::now() }
    }

    fn line(&self) -> String {
        let percent = (self.written * 100).checked_div(self.pages).unwrap_or(0).min(100);
        format!("restoring: {percent}%, {} fetched", human_size(self.fetched))
    }
}

impl Progress for TerminalProgress {
    fn planned(&self, _bytes: u64, pages: u64) {
        self.change(|state| *state = State { pages, drawn: state.drawn, ..State::new() });
    }

    fn fetched(&self, bytes: u64) {
        self.change(|state| state.fetched += bytes);
    }

    fn written(&self, pages: u64) {
        self.change(|state| state.written += pages);
    }
}

impl Drop for TerminalProgress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_pages_and_bytes() {
        let mut state = State { pages: 200, ..State::new() };
        assert_eq!(state.line(), "restoring: 0%, 0 B fetched");
        (state.fetched, state.written) = (34_000_000, 50);
        assert_eq!(state.line(), "restoring: 25%, 34 MB fetched");
    }
}
