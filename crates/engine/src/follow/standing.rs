//! Which state of a replica a database is in.
//!
//! Invariant: nothing but a mark, or a digest of the whole database that a file of the replica carries too, is believed;
//! and the note of a Litestream follower, which is never ahead of its copy.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use tokio::task::spawn_blocking;
use walstream_ltx::{Checksum, Commit, Header, Txid};
use walstream_storage::{FileInfo, ReplicaClient};

use super::copy::Copy;
use crate::error::EngineError;
use crate::restore::mark::Mark;
use crate::restore::plan::{self, Target};

/// Opens a copy and tells where it stands.
pub(super) async fn of(
    client: &Arc<dyn ReplicaClient>,
    path: &Path,
    parallelism: usize,
) -> Result<(Copy, Mark), EngineError> {
    let owned = path.to_owned();
    let open = move || {
        let copy = Copy::open(&owned)?;
        let mark = match copy.mark()? {
            None => note_of_litestream(&owned)?.map(|txid| Mark { txid, digest: None }),
            mark => mark,
        };
        Ok::<_, EngineError>((copy, mark))
    };
    let (copy, mark) = spawn_blocking(open).await??;
    if let Some(mark) = mark {
        return Ok((copy, mark));
    }
    let (copy, digest) = spawn_blocking(move || copy.digest().map(|digest| (copy, digest))).await??;
    match find(client, digest, parallelism).await? {
        Some(mark) => Ok((copy, mark)),
        None => Err(EngineError::Output(format!(
            "cannot follow, {} exists and is no state of this replica. Use -force to restore it anew",
            path.display()
        ))),
    }
}

/// The newest state with this digest and size.
async fn find(
    client: &Arc<dyn ReplicaClient>,
    (digest, commit): (Checksum, Commit),
    parallelism: usize,
) -> Result<Option<Mark>, EngineError> {
    let mut listing = plan::list(&**client, &Target::Latest).await?;
    listing.sort_by_key(|file| std::cmp::Reverse(file.txids.max()));
    let reading = listing.into_iter().map(|file| ends_in(client, file, digest, commit));
    let mut reading = std::pin::pin!(stream::iter(reading).buffered(parallelism.max(1)));
    while let Some(found) = reading.next().await {
        if let Some(txid) = found? {
            return Ok(Some(Mark { txid, digest: Some(digest) }));
        }
    }
    Ok(None)
}

/// The TXID that a file leads to, if that is the wanted state. A file that cannot be read is not asked further.
async fn ends_in(
    client: &Arc<dyn ReplicaClient>,
    file: FileInfo,
    digest: Checksum,
    commit: Commit,
) -> Result<Option<Txid>, EngineError> {
    let bytes = match client.read(file.level, file.txids, 0..file.size.min(Header::SIZE as u64)).await {
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(_) => return Ok(None),
        Ok(bytes) => bytes,
    };
    let header = Header::parse(&bytes).ok();
    let is_it =
        header.is_some_and(|header| header.lineage.post_apply == Some(digest) && header.commit == commit);
    Ok(is_it.then(|| file.txids.max()))
}

/// The TXID that Litestream's `restore -f` wrote beside its copy. The copy may be ahead of it by a step; then the next
/// one, which goes to the newest state, writes those pages again.
fn note_of_litestream(path: &Path) -> Result<Option<Txid>, EngineError> {
    let mut note = path.to_owned().into_os_string();
    note.push("-txid");
    let note = Path::new(&note);
    match fs::read_to_string(note) {
        Ok(text) => Ok(text.trim().parse().ok().filter(|txid: &Txid| !txid.is_zero())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::io("read", note)(error)),
    }
}
