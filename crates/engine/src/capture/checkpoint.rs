//! Sealing a WAL generation, so that the next writer starts the WAL anew.
//!
//! Invariant: at no moment can a frame vanish that is not captured. The order of the steps is the proof:
//!
//! 1. a newer read lock is taken, everything up to it is captured, then the older one ends;
//! 2. a PASSIVE checkpoint beside the lock moves the bulk into the database file, and the file is synced. 1 and 2
//!    are repeated until little is left, and stop no writer;
//! 3. `BEGIN IMMEDIATE` keeps writers out, and the tail is captured: the generation is sealed;
//! 4. only now the read lock ends, the few frames that are left are checkpointed, and the lock is taken again,
//!    on mark 0 if all went well;
//! 5. `ROLLBACK` lets writers in. The first of them restarts the WAL.
//!
//! Writers wait for 3 to 5 only. A crash anywhere leaves a WAL that SQLite recovers and that the next start
//! compares with the newest level-0 file.

use std::time::{Duration, Instant};

use super::session::{Capture, Captured};
use super::wal_index::WalEnd;
use crate::error::EngineError;

/// Writers are kept out once no more than this is left to do, so that they wait for milliseconds.
const LITTLE: u64 = 1 << 20;
/// A writer that is faster than the checkpoint is kept out after so many rounds all the same.
const ROUNDS: usize = 4;

/// What a checkpoint did.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// Captures on the way.
    pub(crate) captured: Vec<Captured>,
    /// How long writers were kept out.
    pub(crate) stall: Duration,
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
        for _ in 0..ROUNDS {
            sealed.captured.extend(self.renew_lock()?);
            self.source.checkpoint_beside_lock()?;
            self.source.sync_file()?;
            if self.bytes_to_checkpoint()? <= LITTLE {
                break;
            }
        }
        if !self.source.keep_writers_out()? {
            return Ok(sealed);
        }
        let started = Instant::now();
        let outcome = self.seal(&mut sealed);
        self.source.let_writers_in()?;
        sealed.stall = started.elapsed();
        outcome?;
        tracing::debug!(
            db = %self.path().display(), mode = "PASSIVE", complete = sealed.complete, stall = ?sealed.stall,
            "checkpoint"
        );
        Ok(sealed)
    }

    /// Whether the application waits, or may come to wait, for our read lock without need: everything is captured and
    /// copied into the database file, and yet the lock keeps the WAL from being restarted. A newer one would not.
    pub(crate) fn is_in_the_way(&self) -> Result<bool, EngineError> {
        let whole = |end: WalEnd| end.frames.0 > 0 && end.frames == end.backfilled;
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

    /// Steps 3 and 4, while writers are kept out.
    fn seal(&mut self, sealed: &mut Sealed) -> Result<(), EngineError> {
        while let Some(captured) = self.capture()? {
            sealed.captured.push(captured);
        }
        self.source.checkpoint_without_lock()?;
        // Nobody can have written meanwhile, so the new lock stands behind everything that was captured.
        self.set_covered(true);
        let end = self.source.committed()?;
        sealed.complete = end.frames == end.backfilled;
        Ok(())
    }

    /// Gives back what only a busy database needs.
    pub(crate) fn rest(&mut self) {
        self.source.rest();
    }
}
