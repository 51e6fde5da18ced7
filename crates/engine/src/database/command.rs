//! What other tasks may ask of the task that owns a capture.

use tokio::sync::{mpsc, oneshot};
use walstream_ltx::Txid;

use super::waiters::{Shipped, Waiters};
use crate::capture::session::Position;
use crate::capture::snapshot::Snapshot;
use crate::error::EngineError;

/// An answer that will come.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, EngineError>>;

/// A request to the owner of a capture.
pub(crate) enum Command {
    /// Capture everything that is committed now.
    Sync(Answer<Position>),
    /// Pin the present state, for a snapshot.
    Snapshot(Answer<Snapshot>),
    /// Store the page map; answers up to which TXID local files are not needed to rebuild it.
    SaveMap(Answer<Txid>),
}

/// Asks and waits for the answer.
pub(crate) async fn ask<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(Answer<T>) -> Command,
) -> Result<T, EngineError> {
    let gone = || EngineError::TaskLost("the database is not being replicated".into());
    let (answer, reply) = oneshot::channel();
    commands.send(command(answer)).await.map_err(|_| gone())?;
    reply.await.map_err(|_| gone())?
}

/// What somebody outside may ask of a database that is replicated. It may be closed just then, so the answer takes as
/// long as it takes.
pub(crate) enum Request {
    /// Bring a snapshot of the present state, or of a later one, to the replica.
    Snapshot(Answer<Txid>),
    /// Capture everything that is committed now.
    Sync(Answer<Txid>),
    /// Tell when this TXID is on the replica; without one, everything that is committed now.
    Shipped(Option<Txid>, Answer<Shipped>),
}

impl Request {
    /// Answers that it cannot be done.
    pub(crate) fn refuse(self, error: EngineError) {
        // Whoever asked may have lost patience.
        let _ = match self {
            Request::Snapshot(answer) | Request::Sync(answer) => answer.send(Err(error)).is_ok(),
            Request::Shipped(_, answer) => answer.send(Err(error)).is_ok(),
        };
    }
}

/// Those outside who ask something of a database. They stay while it is opened anew.
pub(crate) struct Callers {
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) waiters: Waiters,
}

impl Callers {
    pub(crate) fn new(requests: mpsc::Receiver<Request>) -> Self {
        Callers { requests, waiters: Waiters::default() }
    }
}
