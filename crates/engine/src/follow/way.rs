//! Which files lead from where a copy stands to the newest state.
//!
//! Invariant: the files continue or overlap one another without a hole, or the first is a snapshot; and the last is the
//! newest that there is. Where no such way exists the answer is the error that a restore would give.

use walstream_ltx::{Level, Txid, TxidRange};
use walstream_storage::{FileInfo, ReplicaClient, TimestampSource};

use crate::error::EngineError;
use crate::restore::plan::{self, Target, extend};

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Nothing: the copy is as new as the replica.
    Nothing,
    /// Files that go on from where the copy stands, oldest first.
    Changes(Vec<FileInfo>),
    /// A whole database, and what comes after it. Files that went on from the copy are gone.
    Anew(Vec<FileInfo>),
    /// The replica ends before the state of the copy.
    Behind(Txid),
}

/// Looks at level 0 alone, which tells it all as long as a follower keeps up; `None` if it does not. A level 0 where
/// nothing is new means that nothing is.
pub(super) async fn at_a_glance(client: &dyn ReplicaClient, at: Txid) -> Result<Option<Way>, EngineError> {
    let newer = client.list(Level::L0, at.next(), TimestampSource::Listing).await?;
    let changes = extend(newer.iter(), at);
    Ok(match newer.iter().map(|file| file.txids.max()).max() {
        None => Some(Way::Nothing),
        Some(newest) if changes.last().is_some_and(|last| last.txids.max() == newest) => {
            Some(Way::Changes(owned(changes)))
        }
        Some(_) => None,
    })
}

/// Looks at every level, but at no file that turned out to be of no use.
pub(super) async fn thoroughly(
    client: &dyn ReplicaClient,
    at: Txid,
    lost: &[(Level, TxidRange)],
) -> Result<Way, EngineError> {
    let mut listing = plan::list(client, &Target::Latest).await?;
    listing.retain(|file| !lost.contains(&(file.level, file.txids)));
    let newest = listing.iter().map(|file| file.txids.max()).max().unwrap_or(Txid::ZERO);
    if newest <= at {
        return Ok(if newest == at { Way::Nothing } else { Way::Behind(newest) });
    }
    let changes = extend(listing.iter().filter(|file| file.level != Level::SNAPSHOT), at);
    if changes.last().is_some_and(|last| last.txids.max() == newest) {
        return Ok(Way::Changes(owned(changes)));
    }
    plan::plan_from(&listing, &[], client, &Target::Latest).map(|plan| Way::Anew(plan.files))
}

fn owned(files: Vec<&FileInfo>) -> Vec<FileInfo> {
    files.into_iter().cloned().collect()
}
