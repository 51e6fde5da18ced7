//! Proof that a replica can be restored, without restoring it.
//!
//! Invariant: what is called sound was read to its last byte and agrees with its own checksums, and a state is called
//! restorable only if sound files lead to it. Nothing is written to the replica.
//!
//! | question | module |
//! |---|---|
//! | is each file what was written? | `contents` |
//! | do the files of one history fit each other? | `lineage` |
//! | is each level whole? | [`levels`] |
//! | which states do they lead to, and what is missing? | [`chain`] |
//! | what comes of it | [`report`] |
//! | the same beside a daemon, a share at a time | `rolling` |

pub mod chain;
mod contents;
pub mod levels;
mod lineage;
pub mod report;
pub(crate) mod rolling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use futures::try_join;
use walstream_ltx::{Header, Level, Txid, TxidRange};
use walstream_storage::{FileInfo, ReplicaClient, TimestampSource};

use self::chain::State;
use self::contents::Content;
use self::report::{Damage, Report};
use crate::error::EngineError;
use crate::restore::{self, IntegrityCheck, Progress, RestoreOptions, plan, v3};

/// Files that are read at the same time.
const FILES_AT_ONCE: usize = 4;
/// Files that vanish while they are to be read are those that retention deletes. It never deletes that fast for long.
const LOOKS: usize = 8;

/// How thoroughly to look.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Restore the newest state to this path, have SQLite check all of it, and remove it again.
    pub deep: Option<PathBuf>,
}

/// Reads everything that a replica holds and tells what can be restored from it. An error means that the replica could
/// not be read, or holds nothing; what is wrong with it is in the report. `progress` is told how the restore goes on, if
/// there is one.
pub async fn verify(
    client: &Arc<dyn ReplicaClient>,
    options: &VerifyOptions,
    progress: &dyn Progress,
) -> Result<Report, EngineError> {
    let (mut report, legacy) = try_join!(look(client), v3::check(client))?;
    if report.files() == 0 && legacy.objects == 0 {
        return Err(EngineError::NoBackup { location: client.location() });
    }
    report.legacy = Some(legacy).filter(|legacy| legacy.objects > 0);
    if let Some(path) = &options.deep {
        report.deep = Some(deep(client, path, progress).await?);
    }
    Ok(report)
}

/// Every file of a listing, and what reading it showed.
type Contents = BTreeMap<(Level, TxidRange), (FileInfo, Content)>;

/// Reads and judges every file. What a daemon deletes meanwhile is no damage, and nothing is missed for it: then the
/// replica is listed anew, and what is new in it is read as well.
async fn look(client: &Arc<dyn ReplicaClient>) -> Result<Report, EngineError> {
    let mut read = read_all(client, Contents::new()).await?;
    let mut report = judge(client, &read).await?;
    for _ in 1..LOOKS {
        let nothing_found = report.problem().is_none() && report.findings.is_empty();
        if nothing_found || !is_any_gone(client, &read).await? {
            break;
        }
        read = read_all(client, read).await?;
        report = judge(client, &read).await?;
    }
    Ok(report)
}

/// Whether files were deleted since they were listed.
async fn is_any_gone(client: &Arc<dyn ReplicaClient>, read: &Contents) -> Result<bool, EngineError> {
    let listing = plan::list_upwards(&**client, TimestampSource::Listing).await?;
    let there: BTreeSet<_> = listing.iter().map(|file| (file.level, file.txids)).collect();
    Ok(!read.keys().all(|name| there.contains(name)))
}

/// Lists the replica and reads every file that was not read before.
async fn read_all(client: &Arc<dyn ReplicaClient>, mut known: Contents) -> Result<Contents, EngineError> {
    let (mut read, mut unread) = (Contents::new(), Vec::new());
    for file in plan::list_upwards(&**client, TimestampSource::Listing).await? {
        match known.remove(&(file.level, file.txids)) {
            Some((_, Content::Vanished)) | None => unread.push(file),
            Some(found) => _ = read.insert((file.level, file.txids), found),
        }
    }
    let reading = unread.into_iter().map(|file| async {
        let content = contents::read(client, &file).await?;
        Ok::<_, EngineError>(((file.level, file.txids), (file, content)))
    });
    let found: Vec<_> = stream::iter(reading).buffer_unordered(FILES_AT_ONCE).try_collect().await?;
    read.extend(found);
    Ok(read)
}

/// Puts together what the files say.
async fn judge(client: &Arc<dyn ReplicaClient>, read: &Contents) -> Result<Report, EngineError> {
    let (mut listed, mut sound, mut headers, mut damaged) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (file, content) in read.values() {
        let file = file.clone();
        listed.push(file.clone());
        match content {
            Content::Sound(header) => {
                // The time of capture, where a store only knows that of the upload.
                sound.push(FileInfo { created_at: header.timestamp, ..file });
                headers.push((file.level, header.as_ref().clone()));
            }
            Content::Damaged(reason) => damaged.push(Damage { file, reason: reason.clone() }),
            Content::Vanished => damaged.push(Damage { file, reason: "it is listed but not there".into() }),
        }
    }
    let chain = chain::judge(&listed, &sound);
    let newest = restore::newest_whole_state(client, &sound).await?;
    Ok(Report {
        location: client.location(),
        levels: report::count(&listed),
        without_digest: headers.iter().filter(|(_, header)| !has_digest(header)).count(),
        damaged,
        disagreements: lineage::disagreements(&headers),
        findings: levels::look(&listed),
        stretches: chain.stretches,
        holes: chain.holes,
        unreachable: chain.unreachable,
        listed: listed.iter().map(|file| file.txids.max()).max().unwrap_or(Txid::ZERO),
        newest: newest.as_ref().map(State::from),
        legacy: None,
        deep: None,
    })
}

fn has_digest(header: &Header) -> bool {
    header.lineage.post_apply.is_some() || header.tracked
}

/// Restores the newest state and takes it away again.
async fn deep(
    client: &Arc<dyn ReplicaClient>,
    path: &Path,
    progress: &dyn Progress,
) -> Result<report::Deep, EngineError> {
    let options = RestoreOptions { integrity_check: IntegrityCheck::Full, ..RestoreOptions::new(path) };
    match restore::restore(Arc::clone(client), &options, progress).await {
        Ok(restored) => {
            tokio::fs::remove_file(path).await.map_err(EngineError::io("remove", path))?;
            Ok(Ok(restored))
        }
        Err(
            error @ (EngineError::Storage(_)
            | EngineError::Io { .. }
            | EngineError::Output(_)
            | EngineError::TaskLost(_)),
        ) => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}
