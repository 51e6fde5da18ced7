//! The task that ships level-0 files: first contact with the replica, then one upload after the other.
//!
//! Invariant: no level-0 file goes up that could not be restored because nothing before it is there. On a replica
//! without a beginning the files wait for the first snapshot, and those that it covers are left out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use walstream_ltx::Txid;
use walstream_storage::ReplicaClient;

use crate::error::EngineError;
use crate::upload::fence;
use crate::upload::position::{self, Remote};
use crate::upload::queue::{Uploaded, Uploader};

/// Between two tries to reach a replica that did not answer at the start.
const FIRST_CONTACT_PAUSE: Duration = Duration::from_secs(2);

/// What the owner of the capture learns at first contact.
pub(crate) enum Contact {
    /// Go on; this is what the replica holds.
    Known(Remote),
    /// The replica is ahead of what is captured: open the database anew, now that it is known.
    Ahead,
}

/// Runs until it is cancelled or fenced. `snapshot` tells the last TXID of the newest snapshot on the replica.
pub(crate) async fn run(
    uploader: Uploader,
    known: Option<Remote>,
    contact: oneshot::Sender<Contact>,
    mut snapshot: watch::Receiver<Txid>,
) {
    let remote = match known {
        Some(remote) => remote,
        None => first_contact(&uploader.client).await,
    };
    let captured = *uploader.captured.borrow();
    if remote.newest.is_some_and(|newest| newest.position.txid > captured) {
        // If nobody listens any more, the database is being closed.
        let _ = contact.send(Contact::Ahead);
        return;
    }
    let history = fence::same_history(uploader.client.as_ref(), &uploader.shadow, captured, remote.newest);
    if let Err(error @ EngineError::Fenced { .. }) = history {
        tracing::error!(replica = uploader.client.kind(), %error, "replication stopped");
        uploader.uploaded.send_modify(|uploaded| uploaded.fenced = Some(error.to_string()));
        return;
    }
    let mut start = remote.level0;
    let has_beginning = !remote.restorable.is_zero();
    let _ = contact.send(Contact::Known(remote));
    if !has_beginning {
        let Ok(first) = snapshot.wait_for(|txid| !txid.is_zero()).await.map(|txid| *txid) else { return };
        start = first_useful(start, first);
    }
    uploader.uploaded.send_replace(Uploaded { txid: start, fenced: None });
    uploader.run().await;
}

/// After which TXID files are to be uploaded to a replica that begins with the snapshot of `first`.
pub(crate) fn first_useful(level0: Txid, first: Txid) -> Txid {
    level0.max(first.prev())
}

async fn first_contact(client: &Arc<dyn ReplicaClient>) -> Remote {
    loop {
        match position::look(client.as_ref()).await {
            Ok(remote) => {
                tracing::info!(replica = %client.location(), "replica answers again");
                return remote;
            }
            Err(error) => tracing::debug!(replica = %client.location(), %error, "replica does not answer"),
        }
        tokio::time::sleep(FIRST_CONTACT_PAUSE).await;
    }
}
