//! A snapshot on its way to the replica.
//!
//! Invariant: it is streamed; at no time is there a copy of the database on the local disk. The stores show it
//! only once it is whole. On a replica that has a beginning, whoever calls waits until level 0 is there up to the same
//! TXID: then that number is ours, and no snapshot of another database comes to stand under it.

use walstream_ltx::{Level, Txid};
use walstream_storage::{PutOutcome, ReplicaClient};

use super::fence;
use crate::capture::snapshot::Snapshot;
use crate::error::EngineError;
use crate::shadow::folder::ShadowFolder;
use crate::stream;

/// Uploads the first snapshot of a replica. Another writer may have come at the same moment: then what was written goes
/// again, and this one stops. It may hit both.
pub(crate) async fn upload_first(
    client: &dyn ReplicaClient,
    shadow: &ShadowFolder,
    snapshot: Snapshot,
) -> Result<Txid, EngineError> {
    let txids = snapshot.header().txids;
    let made = upload(client, snapshot).await?;
    match fence::confirm_alone(client, shadow, Level::SNAPSHOT, txids).await {
        Err(error @ EngineError::Fenced { .. }) => {
            if let Err(error) = client.delete(&[(Level::SNAPSHOT, txids)]).await {
                tracing::warn!(%error, %txids, "cannot take back a snapshot from another writer's replica");
            }
            Err(error)
        }
        confirmed => confirmed.map(|()| made),
    }
}

/// Encodes and uploads a snapshot; returns the TXID it holds.
pub(crate) async fn upload(client: &dyn ReplicaClient, snapshot: Snapshot) -> Result<Txid, EngineError> {
    let header = snapshot.header().clone();
    let txids = header.txids;
    let started = std::time::Instant::now();
    let (mut writer, body) = stream::body();
    let encode = tokio::task::spawn_blocking(move || {
        let size = snapshot.encode(&mut writer)?;
        let finished = writer.finish();
        finished.map_err(|source| EngineError::Io { action: "upload", path: "snapshot".into(), source })?;
        Ok::<_, EngineError>(size)
    });
    let put = client.put(Level::SNAPSHOT, txids, header.timestamp, body).await;
    let encoded = encode.await?;
    match (put, encoded) {
        // A run of ours that was killed before it noted it, or another writer.
        (Ok(PutOutcome::AlreadyExists), _) => {
            fence::confirm_snapshot(client, &header).await?;
            Ok(txids.max())
        }
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
