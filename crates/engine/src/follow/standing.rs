//! Which state of a replica a database is in.
//!
//! Invariant: nothing but a mark, or a digest of the whole database that a file of the replica carries too, is believed;
//! and the note of a Litestream follower, which is never ahead of its copy.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use walstream_ltx::Txid;
use walstream_storage::ReplicaClient;

use super::copy::LocalCopy;
use crate::error::EngineError;
use crate::restore::delta;
use crate::restore::mark::Mark;
use crate::restore::plan::{self, Target};

/// Opens a copy and tells where it stands.
pub(super) async fn of(
    client: &Arc<dyn ReplicaClient>,
    path: &Path,
    parallelism: usize,
) -> Result<(LocalCopy, Mark), EngineError> {
    let owned = path.to_owned();
    let open = move || {
        let copy = LocalCopy::open(&owned)?;
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
    let (copy, database) = spawn_blocking(move || copy.digest().map(|digest| (copy, digest))).await??;
    let listing = plan::list(&**client, &Target::Latest).await?;
    match delta::state(client, &listing, database, parallelism).await? {
        Some(txid) => Ok((copy, Mark { txid, digest: Some(database.0) })),
        None => Err(EngineError::Output(format!(
            "cannot follow, {} exists and is no state of this replica. Use -force to restore it anew",
            path.display()
        ))),
    }
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
