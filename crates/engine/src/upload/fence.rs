//! Is what is on the replica ours?
//!
//! Invariant: whatever is stored under a name that we want to write, or between names of ours, is what we stored or
//! would have stored (an answer of the store was lost, or we were killed before we noted it), or another writer owns
//! the replica and this one stops. Nothing is ever overwritten.

use std::io::Read;

use walstream_ltx::header::{Header, Salts};
use walstream_ltx::trailer::Trailer;
use walstream_ltx::{Level, Summary, Txid, TxidRange};
use walstream_storage::{FileInfo, ReplicaClient, StorageError, TimestampSource};

use super::position::{Remote, read_header};
use crate::error::EngineError;
use crate::shadow::folder::ShadowFolder;
use crate::shadow::recover::LocalEnd;

/// Compared this many bytes at a time.
const CHUNK: usize = 1 << 20;
/// Salt-1 grows by one at each restart of a WAL: some weeks of a busy application. Of another database it lies in this
/// range by a chance of one in 4096.
const LATER_GENERATIONS: u32 = 1 << 20;

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
            return Err(taken(client, txids));
        }
        if wanted == 0 {
            break;
        }
        offset += wanted as u64;
    }
    Ok(())
}

/// Succeeds if the stored level-0 file is the one that our files merge into: the same header, length and checksum.
pub(crate) async fn confirm_merged(client: &dyn ReplicaClient, ours: &Summary) -> Result<(), EngineError> {
    let txids = ours.header.txids;
    let head = client.read(Level::L0, txids, 0..Header::SIZE as u64).await?;
    let end = ours.size.saturating_sub(Trailer::SIZE as u64);
    // One byte more than we would have written.
    let tail = match client.read(Level::L0, txids, end..ours.size + 1).await {
        Err(StorageError::PastEnd { .. }) => Default::default(),
        tail => tail?,
    };
    let same = Header::parse(&head).is_ok_and(|header| header == ours.header);
    if same && tail == ours.trailer.encode().as_slice() { Ok(()) } else { Err(taken(client, txids)) }
}

/// Succeeds if the stored snapshot is of the same state.
pub(crate) async fn confirm_snapshot(client: &dyn ReplicaClient, ours: &Header) -> Result<(), EngineError> {
    let bytes = client.read(Level::SNAPSHOT, ours.txids, 0..Header::SIZE as u64).await?;
    match Header::parse(&bytes) {
        Ok(stored) if is_same_state(Level::SNAPSHOT, &stored, ours) => Ok(()),
        _ => {
            let reason = format!("snapshot {} is there already with other content", ours.txids);
            Err(EngineError::Fenced { location: client.location(), reason })
        }
    }
}

fn taken(client: &dyn ReplicaClient, txids: TxidRange) -> EngineError {
    let reason = format!("level-0 file {txids} is there already with other content");
    EngineError::Fenced { location: client.location(), reason }
}

/// Succeeds if whatever overlaps a file that was just written is ours. Files that begin after it are no concern: whoever
/// wrote them saw it, and our next file will meet them.
pub(crate) async fn confirm_alone(
    client: &dyn ReplicaClient,
    shadow: &ShadowFolder,
    level: Level,
    written: TxidRange,
) -> Result<(), EngineError> {
    for file in client.list(level, written.min(), TimestampSource::Listing).await? {
        let overlaps = file.txids != written && file.txids.min() <= written.max();
        if overlaps && !is_ours(client, shadow, &file).await? {
            return Err(foreign(client, &file));
        }
    }
    Ok(())
}

/// How far the replica's level 0 goes on from `done`, as a listing has it, if all of that is ours.
pub(crate) async fn reached(
    client: &dyn ReplicaClient,
    shadow: &ShadowFolder,
    done: Txid,
) -> Result<Txid, EngineError> {
    let mut reached = done;
    for file in client.list(Level::L0, done.next(), TimestampSource::Listing).await? {
        if !is_ours(client, shadow, &file).await? {
            return Err(foreign(client, &file));
        }
        if file.txids.min() <= reached.next() {
            reached = reached.max(file.txids.max());
        }
    }
    Ok(reached)
}

fn foreign(client: &dyn ReplicaClient, file: &FileInfo) -> EngineError {
    let reason =
        format!("level {} file {} is there, and this database did not write it", file.level, file.txids);
    EngineError::Fenced { location: client.location(), reason }
}

async fn is_ours(
    client: &dyn ReplicaClient,
    shadow: &ShadowFolder,
    file: &FileInfo,
) -> Result<bool, EngineError> {
    let Some(local) = local_header(shadow, |local| local.max() == file.txids.max())? else {
        return Ok(false);
    };
    Ok(is_same_state(file.level, &read_header(client, file.level, file).await?, &local))
}

/// Why the replica is not one that the local state leads to; `None` if it is, or if nothing says otherwise.
pub(crate) async fn estrangement(
    client: &dyn ReplicaClient,
    shadow: &ShadowFolder,
    local: LocalEnd,
    remote: &Remote,
) -> Result<Option<String>, EngineError> {
    let Some((level, stored)) = &remote.newest_header else { return Ok(None) };
    let newest = stored.txids.max();
    if newest > local.given_out {
        let set_back = match local_header(shadow, |file| file.max() == local.sound)? {
            Some(ours) => is_of_later_wal(&ours, stored) && !is_contradicted(client, &ours).await?,
            None => false,
        };
        let end = local.given_out;
        let reason =
            || format!("it has gone on to TXID {newest}, and the local metadata folder ends at {end}");
        return Ok((!set_back).then(reason));
    }
    if newest > local.sound {
        return Ok(None);
    }
    let leads_there = match local_header(shadow, |local| local.max() == newest)? {
        Some(local) => is_same_state(*level, stored, &local),
        None => match local_header(shadow, |local| local.min() == newest.next())? {
            Some(next) => agree(stored.lineage.post_apply, next.lineage.pre_apply),
            None => true,
        },
    };
    let reason = || format!("its TXID {newest} is not the one in the local metadata folder");
    Ok((!leads_there).then(reason))
}

/// Whether a stored file was captured from the WAL that a local one came from, or from one of its next generations:
/// then everything here was set back, and the replica was not. The WAL of another database has other salts, and so has
/// that of a restored one.
fn is_of_later_wal(local: &Header, stored: &Header) -> bool {
    let (ours, theirs) = (local.wal.salts, stored.wal.salts);
    match theirs.salt1.wrapping_sub(ours.salt1) {
        0 => ours.salt2 == theirs.salt2 && ours != Salts::default(),
        restarts => restarts < LATER_GENERATIONS && ours != Salts::default() && theirs != Salts::default(),
    }
}

/// Whether the replica holds another file under the name of a local one.
async fn is_contradicted(client: &dyn ReplicaClient, local: &Header) -> Result<bool, EngineError> {
    match client.read(Level::L0, local.txids, 0..Header::SIZE as u64).await {
        Ok(stored) => Ok(Header::parse(&stored).ok().as_ref() != Some(local)),
        Err(StorageError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a stored file leads to the state that a local level-0 file leads to. One of level 0 was captured at the same
/// moment as well.
fn is_same_state(level: Level, stored: &Header, local: &Header) -> bool {
    let state = |header: &Header| (header.txids.max(), header.page_size, header.commit);
    state(stored) == state(local)
        && agree(stored.lineage.post_apply, local.lineage.post_apply)
        && (level != Level::L0 || stored.timestamp == local.timestamp)
        && (level != Level::L0 || stored.txids != local.txids || stored == local)
}

/// What is unknown contradicts nothing.
fn agree<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// The header of the first local file that is wanted.
fn local_header(
    shadow: &ShadowFolder,
    wanted: impl Fn(TxidRange) -> bool,
) -> Result<Option<Header>, EngineError> {
    let Some(txids) = shadow.files()?.into_iter().find(|&txids| wanted(txids)) else { return Ok(None) };
    Ok(shadow.describe(txids)?.map(|(header, _)| header))
}
