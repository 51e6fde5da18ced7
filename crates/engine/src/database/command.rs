//! What other tasks may ask of the task that owns a capture.

use tokio::sync::{mpsc, oneshot};
use walstream_ltx::Txid;

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
