//! Checkpointing beside the capture, on a thread of its own.
//!
//! Invariant: it only ever moves what the read lock allows, so it never touches a frame that is not captured in a way
//! that matters: frames stay in the WAL until the WAL is restarted, which the lock forbids.

use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};

use rusqlite::Connection;

use super::connection::{Checkpoint, checkpoint, connect_to_wal};
use super::database_file::DatabaseFile;
use crate::error::EngineError;

/// One flush at a time. Ends when dropped, after the flush that is under way.
pub(super) struct Flusher {
    orders: Sender<()>,
    results: Receiver<Result<bool, EngineError>>,
    under_way: bool,
}

impl Flusher {
    pub(super) fn start(path: &Path) -> Result<Self, EngineError> {
        let connection = connect_to_wal(path)?;
        let (orders, ordered) = mpsc::channel();
        let (done, results) = mpsc::channel();
        let database = path.to_owned();
        let work = move || {
            while ordered.recv().is_ok() && done.send(flush(&connection, &database)).is_ok() {}
        };
        let thread = std::thread::Builder::new().name("walstream-flusher".into()).spawn(work);
        thread.map_err(EngineError::io("start a thread for", path))?;
        Ok(Flusher { orders, results, under_way: false })
    }

    /// Begins to move frames into the database file, as far as the read lock allows now.
    pub(super) fn flush(&mut self) {
        self.under_way = self.orders.send(()).is_ok();
    }

    /// Waits until what was begun is done and durable; false if somebody else was checkpointing.
    pub(super) fn wait(&mut self) -> Result<bool, EngineError> {
        let lost = |_| EngineError::TaskLost("checkpoint".into());
        if std::mem::take(&mut self.under_way) { self.results.recv().map_err(lost)? } else { Ok(false) }
    }
}

fn flush(connection: &Connection, path: &Path) -> Result<bool, EngineError> {
    let flushed = checkpoint(connection, Checkpoint::Passive).map_err(EngineError::sqlite(path))?;
    DatabaseFile::of(connection).sync().map_err(EngineError::io("sync", path))?;
    Ok(flushed)
}
