//! Slowing down a writer that is faster than the checkpoint.
//!
//! Invariant: a writer waits for the brake no longer than [`HOLD`] and then has its turn, and nothing is written.
//!
//! Without it the WAL of such a writer would grow until it pauses: whatever is captured and checkpointed, as much has
//! come meanwhile. An application that waits for locks at all sees transactions that take some milliseconds longer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::connection::{LOCK_STEP, connect_to_wal, end, keep_writers_out};
use super::wal_index::{self, WalEnd};
use crate::error::EngineError;

/// A writer has this much of the WAL for itself before it is braked.
const LONG: u64 = 8 << 20;
/// The nearer the WAL is to this, the less a writer may add before he is kept out again,
const TOO_LONG: u64 = 36 << 20;
/// but not less than this.
const LEAST: u64 = 128 << 10;
/// SQLite's own busy handler tries again 1, 3, 8, 18 and 33 ms after the first time. So whoever began to wait for us
/// tries again while he is let in.
const HOLD: Duration = Duration::from_millis(17);
const RELEASE: Duration = Duration::from_millis(10);

/// Brakes until it is dropped, and then lets go at once.
pub(super) struct Brake {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    holding: AtomicBool,
    over: AtomicBool,
}

impl Brake {
    /// Begins to brake the writers of a database, whenever its WAL is long.
    pub(super) fn apply(path: &Path) -> Result<Self, EngineError> {
        let connection = connect_to_wal(path)?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("walstream-brake".into());
        let spawned = thread.spawn(move || brake(&connection, &shared));
        spawned.map_err(EngineError::io("start a thread for", path))?;
        Ok(Brake { state })
    }

    /// Ends, if it can while writers are kept out: then whoever tries for the lock right now gets it before them, who
    /// wait for some milliseconds between two tries.
    pub(super) fn hand_over(self) {
        let started = Instant::now();
        while !self.state.holding.load(Ordering::Relaxed) && started.elapsed() < RELEASE * 2 {
            sleep(LOCK_STEP);
        }
    }
}

impl Drop for Brake {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Relaxed);
    }
}

fn brake(connection: &Connection, state: &State) {
    let is_over = || state.over.load(Ordering::Relaxed);
    while !is_over() {
        // Not to get the lock is no harm.
        if wal_bytes(connection) >= LONG && keep_writers_out(connection, Duration::ZERO).unwrap_or(false) {
            let held = Instant::now();
            state.holding.store(true, Ordering::Relaxed);
            while held.elapsed() < HOLD && !is_over() {
                sleep(LOCK_STEP);
            }
            state.holding.store(false, Ordering::Relaxed);
            let _ = end(connection);
            let (released, before) = (Instant::now(), wal_bytes(connection));
            let ration = (TOO_LONG.saturating_sub(before) / 16).max(LEAST);
            while released.elapsed() < RELEASE && wal_bytes(connection) < before + ration && !is_over() {
                sleep(LOCK_STEP);
            }
        } else {
            // The gaps between the transactions of a busy writer are short.
            sleep(LOCK_STEP / 5);
        }
    }
}

fn wal_bytes(connection: &Connection) -> u64 {
    match wal_index::read(connection) {
        Ok(Some(WalEnd { frames, page_size: Some(page_size), .. })) => frames.end_offset(page_size),
        _ => 0,
    }
}
