//! What the replica holds when a database starts.
//!
//! Invariant: numbering goes on after the highest TXID that any level of the replica names, so that no name
//! is ever used for two contents.

use futures::future::try_join_all;
use walstream_ltx::header::Header;
use walstream_ltx::{Level, Timestamp, Txid};
use walstream_storage::{FileInfo, ReplicaClient, TimestampSource};

use crate::capture::session::{Position, RemoteNewest};
use crate::error::EngineError;
use crate::restore::plan::{self, PlanError, Target};

/// The replica at the time of the start.
pub(crate) struct Remote {
    /// Its newest file, if it has any, and what that file says of the database.
    pub(crate) newest: Option<RemoteNewest>,
    /// The level and the header of that file.
    pub(crate) newest_header: Option<(Level, Header)>,
    /// The highest TXID on level 0.
    pub(crate) level0: Txid,
    /// The last TXID that a restore can reach; zero: none.
    pub(crate) restorable: Txid,
    /// Its newest snapshot, and when that was made.
    pub(crate) snapshot: Option<(Txid, Timestamp)>,
}

/// Lists every level, and reads the header of the newest file.
pub(crate) async fn look(client: &dyn ReplicaClient) -> Result<Remote, EngineError> {
    let listings = Level::all().map(|level| client.list(level, Txid::ZERO, TimestampSource::Listing));
    let files: Vec<FileInfo> = try_join_all(listings).await?.concat();
    let level0 = files.iter().filter(|file| file.level == Level::L0).map(|file| file.txids.max()).max();
    // Of files that end at the same TXID the one of the lowest level is the smallest.
    let newest = files.iter().max_by_key(|file| (file.txids.max(), std::cmp::Reverse(file.level)));
    let newest_header = match newest {
        Some(file) => Some((file.level, read_header(client, file.level, file).await?)),
        None => None,
    };
    let newest = newest.zip(newest_header.as_ref()).map(|(file, (_, header))| {
        let position = Position { txid: file.txids.max(), checksum: header.lineage.post_apply };
        RemoteNewest { position, commit: header.commit }
    });
    let restorable = match plan::choose(&files, &Target::Latest) {
        Ok(chosen) => chosen.last().map_or(Txid::ZERO, |file| file.txids.max()),
        Err(PlanError::Gap { have, .. }) => have,
        Err(_) => Txid::ZERO,
    };
    let snapshots = files.iter().filter(|file| file.level == Level::SNAPSHOT);
    let snapshot = snapshots.map(|file| (file.txids.max(), file.created_at)).max();
    Ok(Remote { newest, newest_header, level0: level0.unwrap_or(Txid::ZERO), restorable, snapshot })
}

/// The header of a stored file.
pub(crate) async fn read_header(
    client: &dyn ReplicaClient,
    level: Level,
    file: &FileInfo,
) -> Result<Header, EngineError> {
    let bytes = client.read(level, file.txids, 0..Header::SIZE as u64).await?;
    Header::parse(&bytes).map_err(|error| EngineError::Damaged {
        level,
        txids: file.txids,
        reason: error.to_string(),
    })
}
