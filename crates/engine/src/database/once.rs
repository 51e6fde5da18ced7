//! `replicate -once`: bring the replica up to date and end.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use walstream_ltx::Txid;

use super::open::{self, Opened, Silence};
use super::ship;
use crate::capture::session::Position;
use crate::clock::{Clock, SystemClock};
use crate::error::EngineError;
use crate::options::DatabaseOptions;
use crate::shadow::folder::ShadowFolder;
use crate::upload::position::Remote;
use crate::upload::queue::{Acquaintance, Uploaded, Uploader};
use crate::upload::snapshot;

/// What a single run should do besides capturing and uploading.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnceOptions {
    /// Make a snapshot even if the replica does not need one.
    pub force_snapshot: bool,
    /// Delete what retention says.
    pub enforce_retention: bool,
}

/// Captures everything that is committed, uploads it, makes a snapshot where the replica needs one, and
/// returns the position that is now on the replica. The first error ends it.
pub async fn sync_once(options: DatabaseOptions, once: OnceOptions) -> Result<Position, EngineError> {
    options.replica.init().await?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut opened = open::open(&options, clock, Arc::new(Semaphore::new(1)), Silence::Fatal, None).await?;
    let remote = opened.remote.take().ok_or_else(|| EngineError::TaskLost("first contact".into()))?;
    let result = run(&options, once, &mut opened, &remote).await;
    tokio::task::spawn_blocking(move || drop(opened)).await?;
    result
}

async fn run(
    options: &DatabaseOptions,
    once: OnceOptions,
    opened: &mut Opened,
    remote: &Remote,
) -> Result<Position, EngineError> {
    opened.worker.run(|capture| capture.capture_all()).await?;
    let needs_snapshot = opened.worker.tell(|capture| Ok(capture.take_snapshot_need()))?;
    let snapshot = once.force_snapshot || needs_snapshot || opened.needs_snapshot(remote)?;
    let mut pinned = match snapshot {
        true => Some(opened.worker.run(|capture| capture.snapshot()).await?.0),
        false => None,
    };
    let (client, mut uploaded) = (options.replica.as_ref(), remote.level0);
    if remote.restorable.is_zero()
        && let Some(pinned) = pinned.take()
    {
        let made = snapshot::upload_first(client, &opened.shadow, pinned).await?;
        uploaded = ship::first_useful(uploaded, made);
    }
    upload_after(uploaded, options, opened).await?;
    if let Some(pinned) = pinned {
        snapshot::upload(client, pinned).await?;
    }
    if once.enforce_retention {
        crate::history::enforce_once(options).await?;
    }
    let saved = opened.worker.run(|capture| capture.save_map()).await?;
    trim(&opened.shadow, saved)?;
    opened.worker.ask(|capture| Ok(capture.position()))
}

/// Removes local files that are uploaded and that the stored map makes superfluous. The newest one stays: it says
/// where in the WAL the next run goes on.
fn trim(shadow: &ShadowFolder, saved: Txid) -> Result<(), EngineError> {
    let mut files = shadow.files()?;
    files.pop();
    files.into_iter().filter(|&file| file.max() <= saved).try_for_each(|file| shadow.remove(file))
}

async fn upload_after(done: Txid, options: &DatabaseOptions, opened: &Opened) -> Result<(), EngineError> {
    let position = opened.worker.ask(|capture| Ok(capture.position()))?;
    let (_captured, captured) = watch::channel(position.txid);
    let (uploaded, _uploaded) = watch::channel(Uploaded { txid: done, ..Uploaded::default() });
    let (_hurry, hurry) = watch::channel(Some(Duration::ZERO));
    let mut uploader = Uploader {
        client: Arc::clone(&options.replica),
        shadow: opened.shadow.clone(),
        captured,
        uploaded,
        hurry,
        sync_interval: Duration::ZERO,
        clock: Arc::new(SystemClock),
        acquaintance: Acquaintance::New,
    };
    uploader.upload_pending().await
}
