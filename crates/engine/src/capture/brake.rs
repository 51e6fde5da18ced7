//! Slowing down a writer that is faster than the checkpoint.
//!
//! Invariant: a writer waits for the brake no longer than [`HOLD`], a [`Hold`] excepted, and then has its turn; and
//! nothing is written.
//!
//! Without it the WAL of such a writer would grow until it pauses: whatever is captured and checkpointed, as much has
//! come meanwhile. An application that waits for locks at all sees transactions that take some milliseconds longer.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use walstream_storage::counted::Spent;

use super::connection::{LOCK_STEP, connect_to_wal};
use super::database_file::DatabaseFile;
use super::wal_index::{self, WalEnd};
use crate::error::EngineError;

/// Name of the thread.
pub(crate) const THREAD: &str = "walstream-brake";
/// A writer has this much of the WAL for itself before it is braked.
const LONG: u64 = 28 << 20;
/// The nearer the WAL is to this, the less a writer may add before he is kept out again,
const TOO_LONG: u64 = 52 << 20;
/// but not less than this.
const LEAST: u64 = 128 << 10;
/// SQLite's own busy handler tries again 1, 3, 8, 18, 33 and 53 ms after the first time. So whoever began to wait for
/// us tries again while he is let in.
const HOLD: Duration = Duration::from_millis(17);
/// A [`Hold`] begins so soon after writers were kept out, or not at all.
const EARLY: Duration = Duration::from_millis(4);
/// The longest turn. A writer that is there ends it by his ration.
const TURN: Duration = Duration::from_millis(40);
/// For so long the lock is tried for without a pause: a busy writer lets go of it for less than any pause would take,
/// some times in this time.
const EAGER: Duration = Duration::from_millis(1);
/// Letting go of the lock takes no longer than the thread takes to wake up.
const RELEASE: Duration = Duration::from_secs(1);
/// How often a WAL that is not long is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Brakes writers whenever the WAL is long, until it is dropped. Then it lets go at once.
pub(super) struct Brake {
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

/// Keeps writers out until it is dropped.
pub(super) struct Hold {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    flags: Mutex<Flags>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Flags {
    /// Whether somebody wants a [`Hold`], or has it.
    wanted: bool,
    /// Whether he has it.
    held: bool,
    /// Whether the lock is tried for, or had, for his sake alone: the WAL is not long.
    for_hold: bool,
    /// Whether a turn is as short as can be.
    tight: bool,
    over: bool,
}

impl State {
    fn flags(&self) -> MutexGuard<'_, Flags> {
        self.flags.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes them, and lets the other side know.
    fn change(&self, change: impl FnOnce(&mut Flags)) -> MutexGuard<'_, Flags> {
        let mut flags = self.flags();
        change(&mut flags);
        self.changed.notify_all();
        flags
    }

    /// Waits for the other side, while that holds and no longer than this.
    fn wait<'a>(
        &'a self,
        flags: MutexGuard<'a, Flags>,
        time: Duration,
        condition: impl Fn(&Flags) -> bool,
    ) -> MutexGuard<'a, Flags> {
        let waited = self.changed.wait_timeout_while(flags, time, |flags| condition(flags));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Brake {
    /// Begins to brake the writers of a database, and counts how long they are kept out, a [`Hold`] excepted.
    pub(super) fn apply(path: &Path, kept_out: Arc<Spent>) -> Result<Self, EngineError> {
        let connection = connect_to_wal(path)?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new().name(THREAD.into());
        let spawned = thread.spawn(move || brake(&connection, &shared, &kept_out));
        let thread = spawned.map_err(EngineError::io("start a thread for", path))?;
        Ok(Brake { state, thread: Some(thread) })
    }

    /// Lets writers add no more than the least, until the next hold is over.
    pub(super) fn tighten(&self) {
        drop(self.state.change(|flags| flags.tight = true));
    }

    /// Keeps writers out; `None` if the lock cannot be had within `patience`.
    pub(super) fn hold(&self, patience: Duration) -> Option<Hold> {
        let hold = Hold { state: Arc::clone(&self.state) };
        let flags = self.state.change(|flags| flags.wanted = true);
        let held = self.state.wait(flags, patience, |flags| !flags.held).held;
        held.then_some(hold)
    }
}

impl Drop for Brake {
    fn drop(&mut self) {
        drop(self.state.change(|flags| flags.over = true));
        // Its connection is closed when this is over. It ends at once, so that this may be waited for anywhere.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let flags = self.state.change(|flags| (flags.wanted, flags.tight) = (false, false));
        // Who lets go of it, or has given it up, may rely on that writers are let in.
        drop(self.state.wait(flags, RELEASE, |flags| flags.held || flags.for_hold));
    }
}

fn brake(connection: &Connection, state: &State, kept_out: &Spent) {
    loop {
        let is_long = wal_bytes(connection) >= LONG;
        let begin = |flags: &mut Flags| flags.for_hold = flags.wanted && !flags.over && !is_long;
        let flags = *state.change(begin);
        if flags.over {
            return;
        }
        if !flags.wanted && !is_long {
            drop(state.wait(state.flags(), LOOK, |flags| !flags.wanted && !flags.over));
            continue;
        }
        let locked = keep_out(connection);
        if locked {
            hold(connection, state, is_long, kept_out);
        }
        drop(state.change(|flags| flags.for_hold = false));
        match locked {
            true => give_turn(connection, state),
            // Not to get the lock is no harm.
            false => sleep(LOCK_STEP / 5),
        }
    }
}

/// Takes the lock of writers, unless one died while it published a commit: only a new one can mend that.
fn keep_out(connection: &Connection) -> bool {
    let (file, started) = (DatabaseFile::of(connection), Instant::now());
    let mut locked = false;
    while !locked && started.elapsed() < EAGER {
        locked = file.lock_writers().unwrap_or(false);
    }
    if locked && !matches!(wal_index::read(connection), Ok(Some(_))) {
        DatabaseFile::of(connection).unlock_writers();
        return false;
    }
    locked
}

/// Has the lock for a while if the WAL is long, or as long as a [`Hold`] says. One that is wanted late waits for the next
/// time, so that writers need not wait for both.
fn hold(connection: &Connection, state: &State, is_long: bool, kept_out: &Spent) {
    let started = Instant::now();
    let mut flags = state.flags();
    loop {
        let was_held = flags.held;
        flags.held = flags.wanted && !flags.over && (was_held || started.elapsed() < EARLY);
        let left = HOLD.saturating_sub(started.elapsed());
        let is_enough = was_held || flags.wanted || flags.over || !is_long || left.is_zero();
        state.changed.notify_all();
        // Nobody may believe in the lock from before it ends.
        if is_enough && !flags.held {
            DatabaseFile::of(connection).unlock_writers();
            if !was_held {
                kept_out.add(started.elapsed());
            }
            return;
        }
        flags = match flags.held {
            true => state.wait(flags, HOLD, |flags| flags.wanted && !flags.over),
            false => state.wait(flags, left, |flags| !flags.wanted && !flags.over),
        };
    }
}

/// Lets writers add their ration, or anything at all if somebody wants a [`Hold`].
fn give_turn(connection: &Connection, state: &State) {
    let (started, before) = (Instant::now(), wal_bytes(connection));
    while started.elapsed() < TURN {
        let flags = *state.flags();
        let ration = match flags {
            Flags { wanted: true, .. } => 1,
            Flags { tight: true, .. } => LEAST,
            _ => (TOO_LONG.saturating_sub(before) / 12).max(LEAST),
        };
        if flags.over || wal_bytes(connection) >= before + ration {
            return;
        }
        sleep(LOCK_STEP);
    }
}

/// Length of the WAL; a WAL that the next writer restarts has none.
fn wal_bytes(connection: &Connection) -> u64 {
    match wal_index::read(connection) {
        Ok(Some(end)) if end.is_in_file() => 0,
        Ok(Some(WalEnd { frames, page_size: Some(page_size), .. })) => frames.end_offset(page_size),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_a_hold_up_waits_until_nobody_tries_for_it_any_more() {
        let state = Arc::new(State::default());
        let hold = Hold { state: Arc::clone(&state) };
        // The thread has seen that a hold is wanted, and is about to take the lock.
        drop(state.change(|flags| (flags.wanted, flags.for_hold) = (true, true)));
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || {
                sleep(Duration::from_millis(50));
                drop(state.change(|flags| flags.for_hold = false));
            }
        });
        drop(hold);
        assert!(!state.flags().for_hold, "somebody may still take the lock");
        thread.join().unwrap();
    }

    #[test]
    fn a_hold_keeps_writers_out_and_no_longer_than_it_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let writer = Connection::open(&path).unwrap();
        writer.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
        let write = || writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(1); COMMIT");

        let brake = Brake::apply(&path, Arc::default()).unwrap();
        writer.busy_timeout(Duration::ZERO).unwrap();
        write().expect("a short WAL is nobody's concern");
        let hold = brake.hold(Duration::from_secs(10)).expect("nobody else wants the lock");
        assert!(write().is_err(), "the hold keeps writers out");
        assert!(writer.query_row("SELECT count(*) FROM t", [], |_| Ok(())).is_ok(), "and no reader");
        drop(hold);
        writer.busy_timeout(Duration::from_secs(10)).unwrap();
        write().expect("the hold is over");

        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(brake.hold(Duration::from_millis(10)).is_none(), "a writer has the lock");
        writer.execute_batch("ROLLBACK").unwrap();
        write().expect("a hold that was given up is not taken later for good");
    }
}
