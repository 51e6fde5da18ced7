//! Which state a restore would give, without fetching its pages.
//!
//! Invariant: for the state that is named, the planned files continue each other and hold every page of the database.

use std::sync::Arc;

use walstream_storage::{FileInfo, ReplicaClient};

use super::by_index;
use super::fetch::Source;
use super::plan::{Target, choose};
use super::points::{Point, of_files};
use super::progress::Counts;
use crate::error::EngineError;

/// Requests on their way at once.
const PARALLELISM: usize = 8;

/// The newest state that `files` hold every page of; `None` if there is none. A file that turns out not to fit is set
/// aside, as a restore would do it.
pub(crate) async fn newest_whole_state(
    client: &Arc<dyn ReplicaClient>,
    files: &[FileInfo],
) -> Result<Option<Point>, EngineError> {
    let mut files = files.to_vec();
    while let Some(newest) = of_files(&files).pop() {
        let Ok(plan) = choose(&files, &Target::Txid(newest.txid)) else { return Ok(None) };
        match open(client, plan).await {
            Ok(()) => return Ok(Some(newest)),
            Err(EngineError::Damaged { level, txids, .. }) => {
                files.retain(|file| (file.level, file.txids) != (level, txids));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Looks for every page in the indexes of the planned files.
async fn open(client: &Arc<dyn ReplicaClient>, plan: Vec<FileInfo>) -> Result<(), EngineError> {
    let counts: Arc<Counts> = Arc::default();
    let source = |file| Source::new(Arc::clone(client), file, Arc::clone(&counts));
    let mut sources: Vec<Source> = plan.into_iter().map(source).collect();
    let Some(newest) = sources.last_mut() else { return Ok(()) };
    let newest = newest.read_header(true).await?;
    by_index::open(sources, newest, PARALLELISM).await.map(|_| ())
}
