//! A snapshot on its way to the replica.
//!
//! Invariant: it is streamed; at no time is there a copy of the database on the local disk. The stores show it
//! only once it is whole.

use walstream_ltx::{Level, Txid};
use walstream_storage::{PutOutcome, ReplicaClient};

use crate::capture::snapshot::Snapshot;
use crate::error::EngineError;
use crate::stream;

/// Encodes and uploads a snapshot; returns the TXID it holds.
pub(crate) async fn upload(client: &dyn ReplicaClient, snapshot: Snapshot) -> Result<Txid, EngineError> {
    let (txids, created_at) = (snapshot.header().txids, snapshot.header().timestamp);
    let started = std::time::Instant::now();
    let (mut writer, body) = stream::body();
    let encode = tokio::task::spawn_blocking(move || {
        let size = snapshot.encode(&mut writer)?;
        let finished = writer.finish();
        finished.map_err(|source| EngineError::Io { action: "upload", path: "snapshot".into(), source })?;
        Ok::<_, EngineError>(size)
    });
    let put = client.put(Level::SNAPSHOT, txids, created_at, body).await;
    let encoded = encode.await?;
    match (put, encoded) {
        // Somebody wrote the snapshot of this TXID before: a run of ours that was killed before it noted it.
        (Ok(PutOutcome::AlreadyExists), _) => Ok(txids.max()),
        (Ok(PutOutcome::Created), Ok(size)) => {
            tracing::info!(txid = %txids.max(), size, elapsed = ?started.elapsed(), "snapshot complete");
            Ok(txids.max())
        }
        // An encoder that found nobody to write to is not the cause; any other failure of it is.
        (Err(error), Err(encoding)) if !is_broken_pipe(&encoding) => {
            tracing::debug!(%error, "upload ended because the snapshot could not be encoded");
            Err(encoding)
        }
        (Err(error), _) => Err(error.into()),
        (Ok(PutOutcome::Created), Err(error)) => Err(error),
    }
}

fn is_broken_pipe(error: &EngineError) -> bool {
    matches!(error, EngineError::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}
