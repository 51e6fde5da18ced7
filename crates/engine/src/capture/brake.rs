//! Slowing down a writer that is faster than the checkpoint.
//!
//! Invariant: a writer waits for the brake no longer than [`HOLD`] and then has its turn, and nothing is written.
//!
//! Without it the WAL of such a writer would grow until it pauses: whatever is captured and checkpointed, as much has
//! come meanwhile. An application that waits for locks at all sees transactions that take some milliseconds longer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;

use super::connection::{Reader, connect, end, keep_writers_out};
use super::wal_index::{self, WalEnd};
use crate::error::EngineError;

/// A writer has this much of the WAL for itself before it is braked.
const LONG: u64 = 36 << 20;
/// SQLite's own busy handler tries again after 1, 3, 8, 18, 33 and 53 ms.
const HOLD: Duration = Duration::from_millis(32);
const RELEASE: Duration = Duration::from_millis(10);

/// Brakes until it is dropped, which takes [`HOLD`] at most.
pub(super) struct Brake {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Brake {
    /// Begins to brake the writers of a database, whenever its WAL is long.
    pub(super) fn apply(path: &Path) -> Result<Self, EngineError> {
        let mut reader = Reader::new(connect(path, Duration::ZERO)?);
        // A connection opens its WAL when it first reads.
        reader.begin().and_then(|()| reader.end()).map_err(EngineError::sqlite(path))?;
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let brake = move || {
            while !told.load(Ordering::Relaxed) {
                if wal_bytes(&reader.connection) >= LONG {
                    hold(&reader.connection);
                }
                std::thread::sleep(RELEASE);
            }
        };
        let thread = std::thread::Builder::new().name("walstream-brake".into()).spawn(brake);
        let thread = thread.map_err(EngineError::io("start a thread for", path))?;
        Ok(Brake { over, thread: Some(thread) })
    }
}

/// Keeps writers out once. Not to get the lock is no harm.
fn hold(connection: &Connection) {
    if keep_writers_out(connection, HOLD).is_ok_and(|kept_out| kept_out) {
        std::thread::sleep(HOLD);
        let _ = end(connection);
    }
}

fn wal_bytes(connection: &Connection) -> u64 {
    match wal_index::read(connection) {
        Ok(Some(WalEnd { frames, page_size: Some(page_size), .. })) => frames.end_offset(page_size),
        _ => 0,
    }
}

impl Drop for Brake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
