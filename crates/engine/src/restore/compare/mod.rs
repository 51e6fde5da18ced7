//! What differs between two states of a database.
//!
//! Invariant: every page that differs is counted, byte for byte and in whichever state it is there; a page belongs to
//! what SQLite says it belongs to, in either state. What is read grows with what differs and not with the database: no
//! state is restored, but for replicas of Litestream 0.3.
//!
//! ```text
//! plans ─► versions: pages one by one ─► changes: those that differ ─► explain: what they belong to
//!                                                    schema, claims, walk, overflow, rows ─┘
//! ```

mod btree;
mod changes;
mod claims;
mod explain;
mod objects;
mod overflow;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod versions;
mod walk;
mod whole;

use std::path::Path;
use std::sync::Arc;

use futures::try_join;
use tokio::task::spawn_blocking;
use walstream_ltx::{Commit, Header, Level, PageSize, Timestamp, Txid, TxidRange};
use walstream_storage::{FileInfo, LegacyObject, ReplicaClient};

use self::changes::Changes;
use self::explain::explain;
pub use self::rows::Rows;
use self::rows::change;
use self::versions::{Side, Versions};
use super::plan::{self, RestorePlan, Target, extend};
use super::progress::Counts;
use super::{RestoreOptions, Restored, Unwatched, restore, v3};
use crate::error::EngineError;

/// What differs between two databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differences {
    /// How many pages differ, or are only in one of the two.
    pub pages: usize,
    /// How many of them belong to no table or index in either: free pages, and SQLite's own.
    pub other_pages: usize,
    /// Tables and indexes with pages that differ, or that are only in one of the two. Those with the most pages first.
    pub objects: Vec<ChangedObject>,
}

/// A table or an index that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedObject {
    /// Its name.
    pub name: String,
    /// Whether it is a table; else it is an index.
    pub is_table: bool,
    /// How many of its pages differ.
    pub pages: usize,
    /// Its rows before and after. An index has none.
    pub rows: [Rows; 2],
    /// How many rows it has more after than before. `None` for an index, and for a table that got its name from
    /// another, or another name, and was not counted.
    pub change: Option<i64>,
}

/// A state that was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComparedState {
    /// Its number; [`Txid::ZERO`] if it comes from a replica of Litestream 0.3, which has no TXIDs.
    pub txid: Txid,
    /// When it was captured.
    pub created_at: Timestamp,
    /// How many pages it has.
    pub commit: Commit,
}

/// Two states and what differs between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Before and after.
    pub states: [ComparedState; 2],
    /// What differs.
    pub differences: Differences,
    /// Bytes that were fetched from the replica.
    pub bytes_fetched: u64,
}

/// Compares two states of a replica. `scratch` is an empty folder for temporary files, small ones but for a replica of
/// Litestream 0.3. With `count_all` the rows of every table that differs are counted, for which it is read as a whole.
pub async fn compare(
    client: &Arc<dyn ReplicaClient>,
    targets: [Target; 2],
    scratch: &Path,
    count_all: bool,
) -> Result<Comparison, EngineError> {
    let exact = targets.iter().find(|target| matches!(target, Target::At(_))).unwrap_or(&Target::Latest);
    let (listing, legacy) = try_join!(plan::list(&**client, exact), v3::list(&**client))?;
    if targets.iter().any(|target| v3::choose(&legacy, &listing, target).is_some()) {
        return compare_whole(client, targets, scratch).await;
    }
    let mut plans = plans(client, &listing, &legacy, targets)?;
    let mut lost: Vec<(Level, TxidRange)> = Vec::new();
    loop {
        let error = match compare_files(client, &plans, scratch, count_all).await {
            Err(EngineError::Damaged { level, txids, reason }) => {
                lost.push((level, txids));
                EngineError::Damaged { level, txids, reason }
            }
            other => return other,
        };
        let mut others = plan::list(&**client, exact).await?;
        others.retain(|file| !lost.contains(&(file.level, file.txids)));
        plans = match self::plans(client, &others, &legacy, targets) {
            Ok(others) => others,
            Err(_) => return Err(error),
        };
        tracing::warn!(%error, "comparing by other files that lead to the same states");
    }
}

/// The files of both states, oldest first. Where it is possible the later state is the older one and what came after,
/// so that the pages that may differ are those in the files that came after.
fn plans(
    client: &Arc<dyn ReplicaClient>,
    listing: &[FileInfo],
    legacy: &[LegacyObject],
    targets: [Target; 2],
) -> Result<[Vec<FileInfo>; 2], EngineError> {
    let plan = |target| plan::plan_from(listing, legacy, &**client, target);
    let (before, after) = (plan(&targets[0])?, plan(&targets[1])?);
    Ok(if before.txid() <= after.txid() {
        let after = continued(listing, &before, after);
        [before.files, after]
    } else {
        [continued(listing, &after, before), after.files]
    })
}

/// The files of an older state and what leads on from there, if anything does; else those of the plan.
fn continued(listing: &[FileInfo], older: &RestorePlan, plan: RestorePlan) -> Vec<FileInfo> {
    let wanted = plan.txid();
    let between = listing.iter().filter(|file| file.level != Level::SNAPSHOT && file.txids.max() <= wanted);
    let chain = extend(between, older.txid());
    if chain.last().map_or(older.txid(), |last| last.txids.max()) < wanted {
        return plan.files;
    }
    older.files.iter().chain(chain).cloned().collect()
}

async fn compare_files(
    client: &Arc<dyn ReplicaClient>,
    plans: &[Vec<FileInfo>; 2],
    scratch: &Path,
    count_all: bool,
) -> Result<Comparison, EngineError> {
    let counts: Arc<Counts> = Arc::default();
    let mut versions = Versions::open(client, plans, &counts).await?;
    let changes = Changes::find(&mut versions).await?;
    let differences = explain(&mut versions, &changes, scratch, count_all).await?;
    let states = Side::BOTH.map(|side| {
        let Header { txids, timestamp: created_at, commit, .. } = *versions.header(side);
        ComparedState { txid: txids.max(), created_at, commit }
    });
    Ok(Comparison { states, differences, bytes_fetched: counts.fetched() })
}

/// Restores both states and compares the files.
async fn compare_whole(
    client: &Arc<dyn ReplicaClient>,
    [before, after]: [Target; 2],
    scratch: &Path,
) -> Result<Comparison, EngineError> {
    let restored = async |name: &str, target| {
        let path = scratch.join(name);
        let options = RestoreOptions { target, ..RestoreOptions::new(path.clone()) };
        Ok::<_, EngineError>((path, restore(Arc::clone(client), &options, &Unwatched).await?))
    };
    let (old, before) = restored("before.db", before).await?;
    let (new, after) = restored("after.db", after).await?;
    let page_size = one_page_size([before.page_size, after.page_size])?;
    let differences = spawn_blocking(move || whole::compare(&old, &new, page_size.bytes())).await??;
    let bytes_fetched = before.bytes_fetched + after.bytes_fetched;
    let states = [before, after].map(|restored| {
        let Restored { txid, created_at, commit, .. } = restored;
        ComparedState { txid, created_at, commit }
    });
    Ok(Comparison { states, differences, bytes_fetched })
}

fn one_page_size([before, after]: [PageSize; 2]) -> Result<PageSize, EngineError> {
    if before == after { Ok(after) } else { Err(EngineError::PageSizeChanged { before, after }) }
}
