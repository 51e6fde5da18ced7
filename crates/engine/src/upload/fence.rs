//! A name that we wanted to write is taken.
//!
//! Invariant: either what is stored there is byte for byte what we wanted to store (an answer of the store was
//! lost, or we were killed before we noted it), or another writer owns the replica and this one stops.
//! Nothing is ever overwritten.

use std::io::{self, Read};

use walstream_ltx::header::Header;
use walstream_ltx::{Level, Txid, TxidRange};
use walstream_storage::{ReplicaClient, StorageError};

use crate::capture::session::{Position, RemoteNewest};
use crate::error::EngineError;
use crate::shadow::folder::ShadowFolder;

/// Compared this many bytes at a time.
const CHUNK: usize = 1 << 20;

/// Succeeds if the stored level-0 file is the local one.
pub(crate) async fn confirm_ours(
    client: &dyn ReplicaClient,
    shadow: &ShadowFolder,
    txids: TxidRange,
) -> Result<(), EngineError> {
    let mut local = shadow.open_file(txids)?.ok_or_else(|| EngineError::Shadow {
        path: shadow.path(txids),
        reason: "it vanished while it was uploaded".into(),
    })?;
    let path = shadow.path(txids);
    let length = local.metadata().map_err(EngineError::io("read", &path))?.len();
    let mut offset = 0;
    let mut expected = vec![0; CHUNK];
    // One byte more than we have, so that a longer stored file is seen.
    while offset <= length {
        let wanted = CHUNK.min((length - offset) as usize);
        local.read_exact(&mut expected[..wanted]).map_err(EngineError::io("read", &path))?;
        let range = offset..offset + wanted.max(1) as u64;
        let stored = match client.read(Level::L0, txids, range).await {
            Ok(stored) => stored,
            // Reading at the end of a file of the right length.
            Err(StorageError::PastEnd { .. }) if wanted == 0 => break,
            Err(error) => return Err(error.into()),
        };
        if stored != expected[..wanted] {
            let reason = format!("level-0 file {txids} is there already with other content");
            return Err(EngineError::Fenced { location: client.location(), reason });
        }
        if wanted == 0 {
            break;
        }
        offset += wanted as u64;
    }
    Ok(())
}

/// Succeeds unless the replica holds another file under the name of our newest local one.
pub(crate) async fn same_lineage(client: &dyn ReplicaClient, newest: &Header) -> Result<(), EngineError> {
    let stored = match client.read(Level::L0, newest.txids, 0..Header::SIZE as u64).await {
        Ok(stored) => stored,
        Err(StorageError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    match Header::parse(&stored) {
        Ok(header) if header == *newest => Ok(()),
        _ => Err(EngineError::Fenced {
            location: client.location(),
            reason: format!("its level-0 file {} is not the one in the local metadata folder", newest.txids),
        }),
    }
}

/// Succeeds unless the newest state on the replica is another than the one that the local files go through, of which
/// those up to `sound` are trusted. A machine that was set back to an earlier moment may have files that follow another
/// state of the same number.
pub(crate) fn same_history(
    client: &dyn ReplicaClient,
    shadow: &ShadowFolder,
    sound: Txid,
    newest: Option<RemoteNewest>,
) -> Result<(), EngineError> {
    let Some(Position { txid, checksum: Some(there) }) = newest.map(|newest| newest.position) else {
        return Ok(());
    };
    let files = shadow.files()?.into_iter().filter(|&file| file.max() <= sound);
    for file in files {
        let ours = if file.max() == txid {
            header(shadow, file)?.and_then(|header| header.lineage.post_apply)
        } else if file.min() == txid.next() {
            header(shadow, file)?.and_then(|header| header.lineage.pre_apply)
        } else {
            None
        };
        if ours.is_some_and(|ours| ours != there) {
            let reason = format!("its state of TXID {txid} is not the one that the local files go through");
            return Err(EngineError::Fenced { location: client.location(), reason });
        }
    }
    Ok(())
}

/// The header of a local file; `None` if it is gone or has none.
fn header(shadow: &ShadowFolder, txids: TxidRange) -> Result<Option<Header>, EngineError> {
    let Some(mut file) = shadow.open_file(txids)? else { return Ok(None) };
    let mut bytes = [0; Header::SIZE];
    match file.read_exact(&mut bytes) {
        Ok(()) => Ok(Header::parse(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(EngineError::io("read", &shadow.path(txids))(error)),
    }
}
