//! A name that we wanted to write is taken.
//!
//! Invariant: either what is stored there is byte for byte what we wanted to store (an answer of the store was
//! lost, or we were killed before we noted it), or another writer owns the replica and this one stops.
//! Nothing is ever overwritten.

use std::io::Read;

use walstream_ltx::header::Header;
use walstream_ltx::{Level, TxidRange};
use walstream_storage::{ReplicaClient, StorageError};

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
