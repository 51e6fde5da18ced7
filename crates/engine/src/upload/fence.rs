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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use walstream_ltx::{Checksum, Commit, Lineage, PageSize, Timestamp, WalSpan};

    use super::*;
    use crate::fs::SystemDisk;
    use crate::testing::MemoryReplica;

    fn digest(value: u64) -> Option<Checksum> {
        Checksum::from_stored(value | 1 << 63).unwrap()
    }

    /// A folder with the file of TXID 7, which leads from state 6 to state 7.
    fn folder_with_txid_7(folder: &std::path::Path) -> ShadowFolder {
        let disk = Arc::new(SystemDisk::like(folder).unwrap());
        let shadow = ShadowFolder::open(folder, folder, disk).unwrap();
        let txids = TxidRange::single(Txid::new(7)).unwrap();
        let header = Header {
            page_size: PageSize::new(512).unwrap(),
            commit: Commit::new(1),
            txids,
            timestamp: Timestamp::from_millis(0),
            tracked: false,
            pre_apply: None,
            wal: WalSpan::default(),
            node_id: 0,
            lineage: Lineage { pre_apply: digest(6), post_apply: digest(7) },
        };
        std::fs::write(shadow.path(txids), header.encode().unwrap()).unwrap();
        shadow
    }

    #[test]
    fn local_files_go_through_the_newest_state_of_the_replica_or_nothing_is_added_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let shadow = folder_with_txid_7(folder.path());
        let replica = MemoryReplica::default();
        let check = |txid: u64, state: u64| {
            let position = Position { txid: Txid::new(txid), checksum: digest(state) };
            let newest = Some(RemoteNewest { position, commit: Commit::new(1) });
            same_history(&replica, &shadow, Txid::new(7), newest)
        };
        check(6, 6).unwrap();
        check(7, 7).unwrap();
        // What lies in between is bridged by a snapshot.
        check(5, 99).unwrap();
        assert!(matches!(check(6, 99), Err(EngineError::Fenced { .. })));
        assert!(matches!(check(7, 99), Err(EngineError::Fenced { .. })));
    }
}
