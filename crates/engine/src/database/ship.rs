//! The task that ships level-0 files: first contact with the replica, then one upload after the other.
//!
//! Invariant: no level-0 file goes up that could not be restored because nothing before it is there. On a replica
//! without a beginning the files wait for the first snapshot, and those that it covers are left out.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use walstream_ltx::Txid;

use crate::error::EngineError;
use crate::shadow::recover::LocalEnd;
use crate::trouble::Trouble;
use crate::upload::fence;
use crate::upload::position::{self, Remote};
use crate::upload::queue::{Uploaded, Uploader};

/// Between two tries to reach a replica that did not answer at the start.
const FIRST_CONTACT_PAUSE: Duration = Duration::from_secs(2);

/// What the owner of the capture learns at first contact.
pub(crate) enum Contact {
    /// Go on; this is what the replica holds.
    Known(Remote),
    /// The replica is ahead of what is captured, or another's: open the database anew, now that it is known.
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
        Some(remote) => Some(remote),
        None => Box::pin(first_contact(&uploader)).await,
    };
    let Some(remote) = remote else {
        // If nobody listens any more, the database is being closed.
        let _ = contact.send(Contact::Ahead);
        return;
    };
    let mut start = remote.level0;
    let captured_at = remote.newest_header.as_ref().map(|(_, header)| header.timestamp);
    let has_beginning = !remote.restorable.is_zero();
    let _ = contact.send(Contact::Known(remote));
    if !has_beginning {
        let Ok(first) = snapshot.wait_for(|txid| !txid.is_zero()).await.map(|txid| *txid) else { return };
        start = first_useful(start, first);
    }
    uploader.uploaded.send_replace(Uploaded { txid: start, captured_at, fenced: None });
    uploader.run().await;
}

/// After which TXID files are to be uploaded to a replica that begins with the snapshot of `first`.
pub(crate) fn first_useful(level0: Txid, first: Txid) -> Txid {
    level0.max(first.prev())
}

/// Asks until the replica answers; `None` if what is captured does not lead on from there.
async fn first_contact(uploader: &Uploader) -> Option<Remote> {
    let replica = uploader.client.location();
    let mut trouble = Trouble::new(FIRST_CONTACT_PAUSE, FIRST_CONTACT_PAUSE);
    loop {
        match contact(uploader).await {
            Ok(remote) => {
                trouble.over(|row| {
                    tracing::info!(%replica, silent_for = %row.lasting, "replica answers again");
                });
                return remote;
            }
            Err(error) => {
                let captured = *uploader.captured.borrow();
                let pause = trouble.failed(|row| {
                    let silent_for = row.lasting;
                    tracing::error!(%replica, %error, %captured, %silent_for, "replica does not answer, trying again");
                });
                tokio::time::sleep(pause).await;
            }
        }
    }
}

async fn contact(uploader: &Uploader) -> Result<Option<Remote>, EngineError> {
    let remote = position::look(uploader.client.as_ref()).await?;
    let captured = *uploader.captured.borrow();
    let end = LocalEnd { sound: captured, given_out: captured };
    let estranged = fence::estrangement(uploader.client.as_ref(), &uploader.shadow, end, &remote).await?;
    Ok(estranged.is_none().then_some(remote))
}
