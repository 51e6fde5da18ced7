//! How far a restore is: a bar on the terminal, now and then a log line where there is none.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use walstream_engine::restore::Progress;

use crate::output::human_size;

/// Not more often than the eye can follow.
const DRAW: Duration = Duration::from_millis(100);
/// Not more often than a log needs. A restore that takes less leaves no line.
const LOG: Duration = Duration::from_secs(10);
/// Inner width of the bar.
const BAR: usize = 20;

/// Where it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Show {
    /// One line on stderr that is drawn again and again, and taken away at the end.
    Bar,
    /// Lines in the log.
    Log,
}

/// Tells how a restore goes on.
pub(crate) struct RestoreProgress {
    show: Show,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the present plan was begun.
    started: Instant,
    shown: Instant,
    bytes: u64,
    fetched: u64,
    pages: u64,
    written: u64,
}

impl RestoreProgress {
    /// A bar, if there is a terminal. Nothing is shown before the first interval is over, so a quick restore shows
    /// nothing.
    pub(crate) fn new() -> Self {
        let show = if io::stderr().is_terminal() { Show::Bar } else { Show::Log };
        RestoreProgress { show, state: Mutex::new(State::new()) }
    }

    /// Log lines in any case.
    pub(crate) fn logged() -> Self {
        RestoreProgress { show: Show::Log, state: Mutex::new(State::new()) }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        // The state is a few numbers: after a panic elsewhere they are still fit to be shown.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let interval = if self.show == Show::Bar { DRAW } else { LOG };
        if state.shown.elapsed() < interval {
            return;
        }
        state.shown = Instant::now();
        let elapsed = state.started.elapsed();
        match self.show {
            Show::Bar => draw(&format!("{} {}", state.bar(), state.line(elapsed))),
            Show::Log => tracing::info!(progress = state.line(elapsed), "restoring"),
        }
    }
}

impl State {
    fn new() -> Self {
        let now = Instant::now();
        State { started: now, shown: now, bytes: 0, fetched: 0, pages: 0, written: 0 }
    }

    /// How much is done, from 0 to 1. A replica of Litestream 0.3 does not say how many pages it holds.
    fn done(&self) -> f64 {
        let (part, whole) =
            if self.pages > 0 { (self.written, self.pages) } else { (self.fetched, self.bytes) };
        if whole == 0 { 0.0 } else { (part as f64 / whole as f64).min(1.0) }
    }

    fn bar(&self) -> String {
        let filled = (self.done() * BAR as f64) as usize;
        format!("[{:BAR$}]", "=".repeat(filled))
    }

    fn line(&self, elapsed: Duration) -> String {
        let (done, seconds) = (self.done(), elapsed.as_secs_f64());
        // Headers and indexes come on top of what was planned.
        let fetched = human_size(self.fetched.min(self.bytes));
        let mut line = format!("{}%, {fetched} of {}", (done * 100.0) as u32, human_size(self.bytes));
        if self.pages > 0 {
            line.push_str(&format!(", {} of {} pages", self.written, self.pages));
        }
        if seconds > 0.0 {
            line.push_str(&format!(", {}/s", human_size((self.fetched as f64 / seconds) as u64)));
        }
        if done > 0.0 {
            line.push_str(&format!(", {} left", rough(seconds * (1.0 - done) / done)));
        }
        line
    }
}

/// A line too long for the terminal is cut off, not wrapped; and the cursor goes back to the beginning, so that a log
/// line does not start in the middle.
fn draw(line: &str) {
    let _ = write!(io::stderr(), "\x1b[?7l\x1b[K{line}\x1b[?7h\r");
}

/// Some time to come, as exact as a guess deserves.
fn rough(seconds: f64) -> String {
    let seconds = seconds.ceil() as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

impl Progress for RestoreProgress {
    fn planned(&self, bytes: u64, pages: u64) {
        self.change(|state| *state = State { bytes, pages, shown: state.shown, ..State::new() });
    }

    fn fetched(&self, bytes: u64) {
        self.change(|state| state.fetched += bytes);
    }

    fn written(&self, pages: u64) {
        self.change(|state| state.written += pages);
    }
}

impl Drop for RestoreProgress {
    fn drop(&mut self) {
        if self.show == Show::Bar {
            let _ = write!(io::stderr(), "\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64, state: &State) -> String {
        format!("{} {}", state.bar(), state.line(Duration::from_secs(seconds)))
    }

    #[test]
    fn the_line_has_all_that_one_waits_for() {
        let mut state = State { bytes: 136_000_000, pages: 200, ..State::new() };
        assert_eq!(after(0, &state), "[                    ] 0%, 0 B of 136 MB, 0 of 200 pages");
        (state.fetched, state.written) = (34_000_000, 50);
        assert_eq!(
            after(4, &state),
            "[=====               ] 25%, 34 MB of 136 MB, 50 of 200 pages, 8.5 MB/s, 12s left"
        );
        (state.fetched, state.written) = (137_000_000, 200);
        assert_eq!(
            after(16, &state),
            "[====================] 100%, 136 MB of 136 MB, 200 of 200 pages, 8.6 MB/s, 0s left"
        );
    }

    #[test]
    fn without_a_number_of_pages_the_bytes_tell() {
        let state = State { bytes: 1000, fetched: 1, ..State::new() };
        assert_eq!(after(4, &state), "[                    ] 0%, 1 B of 1.0 kB, 0 B/s, 1h06m left");
        let nothing = State::new();
        assert_eq!(after(1, &nothing), "[                    ] 0%, 0 B of 0 B, 0 B/s");
        assert_eq!(rough(99.2), "1m40s");
    }
}
