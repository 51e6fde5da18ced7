//! Sealing a WAL generation, so that the next writer starts the WAL anew.
//!
//! Invariant: at no moment can a frame vanish that is not captured. The order of the steps is the proof:
//!
//! 1. a newer read lock is taken, everything up to it is captured, then the older one ends;
//! 2. a PASSIVE checkpoint beside the lock moves the bulk into the database file, and the file is synced. 1 and 2
//!    are repeated until little is left, and stop no writer. If nothing is left, one more 1 takes mark 0, and that is
//!    all: the next writer restarts the WAL;
//! 3. else `BEGIN IMMEDIATE` keeps writers out, and the tail is captured: the generation is sealed;
//! 4. only now the read lock ends, the few frames that are left are checkpointed, and the lock is taken again,
//!    on mark 0 if all went well;
//! 5. `ROLLBACK` lets writers in. The first of them restarts the WAL;
//! 6. the file with the tail is made durable. Until then its pages are in the database file, durable there; so if this
//!    fails, the next capture finds them by comparing.
//!
//! Writers wait for 3 to 5 only, and for the [`Brake`] if they are faster than 1 and 2; then it has the lock for 3 to 5.
//! A crash anywhere leaves a WAL that SQLite recovers and that the next start compares with the newest level-0 file.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::brake::Brake;
use super::flusher::Flusher;
use super::session::{Capture, Captured, Pending};
use super::wal::FrameCount;
use super::wal_index::WalEnd;
use crate::error::EngineError;

/// Writers are kept out once no more than this is left to do, so that they wait for milliseconds,
const LITTLE: u64 = 512 << 10;
/// or after so many flushes while they are braked,
const BRAKED_FLUSHES: usize = 16;
/// or so many pauses of this length in which somebody else checkpoints.
const LONGEST_WAIT: usize = 500;
const WAIT: Duration = Duration::from_millis(1);
/// They are if there is more than this to do, or after so many rounds without.
const MUCH: u64 = 6 << 20;
const ROUNDS: usize = 2;
/// A larger WAL file is cut when it is empty. A smaller one is worth keeping, since writing over it is cheaper than
/// making it grow.
const LARGE: u64 = 64 << 20;

/// What a checkpoint did.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// Captures on the way.
    pub(crate) captured: Vec<Captured>,
    /// How long writers were kept out.
    pub(crate) stall: Duration,
    /// How long it took to cut the WAL, if it was cut.
    pub(crate) cut: Option<Duration>,
    /// Whether the whole WAL is in the database file, so that the next writer restarts it.
    pub(crate) complete: bool,
}

impl Capture {
    /// Frames in the WAL that are not in the database file.
    pub(crate) fn frames_to_checkpoint(&self) -> Result<u32, EngineError> {
        let end = self.source.peek()?;
        Ok(end.map_or(0, |end| end.frames.0.saturating_sub(end.backfilled.0)))
    }

    /// The same in bytes.
    pub(crate) fn bytes_to_checkpoint(&self) -> Result<u64, EngineError> {
        Ok(u64::from(self.frames_to_checkpoint()?) * self.frame_size())
    }

    /// Captures and checkpoints everything, in the order above.
    pub(crate) fn checkpoint(&mut self) -> Result<Sealed, EngineError> {
        let mut sealed = Sealed::default();
        let is_possible = self.checkpoint_bulk(&mut sealed)?;
        if is_possible && !sealed.complete {
            self.checkpoint_tail(&mut sealed)?;
        }
        if sealed.complete && self.source.wal_size()? > LARGE {
            let started = Instant::now();
            self.source.truncate_wal()?;
            sealed.cut = Some(started.elapsed());
        }
        tracing::debug!(
            db = %self.path().display(), mode = "PASSIVE", complete = sealed.complete, stall = ?sealed.stall,
            "checkpoint"
        );
        Ok(sealed)
    }

    /// Steps 1 and 2. False: a reader keeps them from getting on.
    fn checkpoint_bulk(&mut self, sealed: &mut Sealed) -> Result<bool, EngineError> {
        for _ in 0..ROUNDS {
            if self.bytes_to_checkpoint()? > MUCH {
                return self.catch_up(sealed);
            }
            sealed.captured.extend(self.renew_lock()?);
            self.source.checkpoint_beside_lock()?;
            let left = self.bytes_to_checkpoint()?;
            if left == 0 {
                sealed.captured.extend(self.renew_lock()?);
                sealed.complete = self.source.is_locked_on_file();
                return Ok(true);
            }
            // SQLite does it only where it moved everything.
            self.source.sync_file()?;
            if left <= LITTLE {
                return Ok(true);
            }
        }
        self.catch_up(sealed)
    }

    /// Steps 1 and 2 side by side, with a brake on writers whose WAL is long. It stays, since such writers go on, unless
    /// a reader is in the way: for him they need not wait.
    fn catch_up(&mut self, sealed: &mut Sealed) -> Result<bool, EngineError> {
        let brake = match self.brake.take() {
            Some(brake) => brake,
            None => Brake::apply(self.path(), Arc::clone(&self.kept_out))?,
        };
        let mut flusher = Flusher::start(self.path())?;
        // What a flush should reach: the older lock is not behind it.
        let (mut reachable, mut failures) = (FrameCount(0), 0);
        let (mut flushes, mut waits) = (0, 0);
        while flushes < BRAKED_FLUSHES && waits < LONGEST_WAIT {
            let frames = self.source.peek()?.map_or(reachable, |end| end.frames);
            flusher.flush();
            sealed.captured.extend(self.renew_lock()?);
            let flushed = flusher.wait()?;
            match self.bytes_to_checkpoint()? {
                left if left <= LITTLE => break,
                left if left <= MUCH => brake.tighten(),
                _ => {}
            }
            if !flushed {
                // The application checkpoints by itself, and moves as much.
                sleep(WAIT);
                waits += 1;
                continue;
            }
            flushes += 1;
            let is_stuck = self.source.peek()?.is_some_and(|end| end.backfilled < reachable);
            failures = if is_stuck { failures + 1 } else { 0 };
            // A few times it may be the transaction of a writer.
            if failures == 4 {
                return Ok(false);
            }
            reachable = frames;
        }
        self.brake = Some(brake);
        Ok(true)
    }

    /// Whether the application waits, or may come to wait, for our read lock without need: everything is captured and
    /// copied into the database file, and yet the lock keeps the WAL from being restarted. A newer one would not.
    pub(crate) fn is_in_the_way(&self) -> Result<bool, EngineError> {
        let whole = |end: WalEnd| end.frames.0 > 0 && end.is_in_file();
        Ok(!self.source.is_locked_on_file() && self.source.peek()?.is_some_and(whole))
    }

    /// Captures everything, then moves the read lock up to what is captured: the application's own checkpoints copy no
    /// frame behind it, and some wait for it. An error of the first capture leaves the lock where it is, and the frames.
    pub(crate) fn capture_and_follow(&mut self) -> Result<Vec<Captured>, EngineError> {
        let mut captured = self.capture_all()?;
        captured.extend(self.renew_lock()?);
        Ok(captured)
    }

    /// Step 1. If the capture fails, the newer lock stays and proves nothing: the next capture compares.
    pub(crate) fn renew_lock(&mut self) -> Result<Vec<Captured>, EngineError> {
        self.source.begin_newer_lock()?;
        let captured = self.capture_all();
        self.set_covered(captured.is_ok());
        self.source.end_older_lock()?;
        captured
    }

    /// Steps 3 to 6. Nothing happens if writers cannot be kept out.
    fn checkpoint_tail(&mut self, sealed: &mut Sealed) -> Result<(), EngineError> {
        let hold = self.brake.as_ref().map(|brake| brake.hold(self.source.busy_timeout()));
        let are_out = match &hold {
            Some(hold) => hold.is_some(),
            None => self.source.keep_writers_out()?,
        };
        if !are_out {
            return Ok(());
        }
        let started = Instant::now();
        let outcome = self.seal(sealed);
        match hold {
            Some(hold) => drop(hold),
            None => self.source.let_writers_in()?,
        }
        sealed.stall = started.elapsed();
        self.kept_out.add(sealed.stall);
        if let Some(tail) = outcome? {
            sealed.captured.push(self.accept(tail)?);
        }
        // Nobody wrote between the tail and the new lock, so that it stands behind everything that was captured.
        self.set_covered(true);
        Ok(())
    }

    /// Steps 3 and 4. The lock proves nothing until what is returned is durable.
    fn seal(&mut self, sealed: &mut Sealed) -> Result<Option<Pending>, EngineError> {
        let (captured, tail) = self.capture_tail()?;
        sealed.captured.extend(captured);
        self.set_covered(false);
        self.source.checkpoint_without_lock()?;
        sealed.complete = self.source.is_locked_on_file();
        Ok(tail)
    }

    /// Gives back what only a busy database needs.
    pub(crate) fn rest(&mut self) {
        self.brake = None;
        self.source.rest();
    }
}
