//! From the options of a database to a capture that knows where to go on.
//!
//! Invariant: no TXID is given out before it is known which ones are taken, here and on the replica.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::worker::Worker;
use crate::capture::session::{Capture, Setup};
use crate::capture::source::Source;
use crate::clock::Clock;
use crate::error::EngineError;
use crate::fs::{Disk, SystemDisk};
use crate::options::DatabaseOptions;
use crate::shadow::folder::ShadowFolder;
use crate::shadow::owner_lock::OwnerLock;
use crate::shadow::recover::{Local, recover};
use crate::upload::fence;
use crate::upload::position::{self, Remote};

/// With local state at hand, the start waits for the replica no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long one database that waits for its replica may keep the next one from being opened.
const TURN: Duration = Duration::from_millis(100);

/// A database that is ready to be captured.
pub(crate) struct Opened {
    pub(crate) worker: Worker,
    pub(crate) shadow: ShadowFolder,
    /// What the replica held; `None` if it did not answer and there is local state to go on with.
    pub(crate) remote: Option<Remote>,
    // Dropped last, when everything else has been closed.
    _owner: OwnerLock,
}

/// Opens a database. An error leaves nothing open and can be tried again. A turn is given away when it is done, or when the replica
/// does not answer soon: where replicas are slow or away, nobody waits long for the others.
pub(crate) async fn open(
    options: &DatabaseOptions,
    clock: Arc<dyn Clock>,
    permits: Arc<Semaphore>,
    silence: Silence,
    turn: Option<OwnedSemaphorePermit>,
) -> Result<Opened, EngineError> {
    open_on(SystemDisk::like, options, clock, permits, silence, turn).await
}

/// [`open`], with the disk for the metadata folder of the database at a path.
pub(crate) async fn open_on<D: Disk>(
    disk: impl FnOnce(&Path) -> io::Result<D> + Send + 'static,
    options: &DatabaseOptions,
    clock: Arc<dyn Clock>,
    permits: Arc<Semaphore>,
    silence: Silence,
    mut turn: Option<OwnedSemaphorePermit>,
) -> Result<Opened, EngineError> {
    let permit = Arc::clone(&permits).acquire_owned().await;
    let (owner, setup, local) = {
        let options = options.clone();
        tokio::task::spawn_blocking(move || open_local(disk, &options, clock)).await??
    };
    drop(permit);
    let shadow = setup.shadow.clone();
    let (remote, estranged) = {
        let mut looked = pin!(look(options, &local, &shadow, silence));
        match tokio::time::timeout(TURN, &mut looked).await {
            Ok(looked) => looked?,
            Err(_) => {
                turn.take();
                looked.await?
            }
        }
    };
    let newest = remote.as_ref().and_then(|remote| remote.newest);
    let location = options.replica.location();
    let resume = move || match estranged.zip(newest) {
        // Only the database itself can still show that it belongs where the replica ends.
        Some((reason, newest)) => {
            Capture::rejoin(setup, newest)?.ok_or(EngineError::Fenced { location, reason })
        }
        None => Capture::resume(setup, local, newest),
    };
    let _permit = Arc::clone(&permits).acquire_owned().await;
    let capture = tokio::task::spawn_blocking(resume).await??;
    Ok(Opened { worker: Worker::new(capture, permits), shadow, remote, _owner: owner })
}

/// What to do if the replica does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Go on with the local state if there is any and it is sound: a daemon must capture while the store is away.
    Tolerated,
    /// Give up.
    Fatal,
}

/// What the replica holds, and why the local state does not lead there, if it does not.
async fn look(
    options: &DatabaseOptions,
    local: &Local,
    shadow: &ShadowFolder,
    silence: Silence,
) -> Result<(Option<Remote>, Option<String>), EngineError> {
    let replica = options.replica.as_ref();
    let remote = match silence {
        Silence::Tolerated if local.is_sound() => look_briefly(options).await?,
        _ => Some(position::look(replica).await?),
    };
    let estranged = match (local.end(), &remote) {
        (Some(end), Some(remote)) => fence::estrangement(replica, shadow, end, remote).await?,
        _ => None,
    };
    Ok((remote, estranged))
}

async fn look_briefly(options: &DatabaseOptions) -> Result<Option<Remote>, EngineError> {
    let replica = options.replica.location();
    match tokio::time::timeout(PATIENCE, position::look(options.replica.as_ref())).await {
        Ok(Ok(remote)) => Ok(Some(remote)),
        Ok(Err(EngineError::Storage(error))) if error.is_transient() => {
            tracing::warn!(%error, "replica does not answer, capturing locally");
            Ok(None)
        }
        Ok(Err(error)) => Err(error),
        Err(_) => {
            tracing::warn!(%replica, waited = ?PATIENCE, "replica does not answer, capturing locally");
            Ok(None)
        }
    }
}

fn open_local<D: Disk>(
    disk: impl FnOnce(&Path) -> io::Result<D>,
    options: &DatabaseOptions,
    clock: Arc<dyn Clock>,
) -> Result<(OwnerLock, Setup, Local), EngineError> {
    let path = &options.path;
    let disk = disk(path).map_err(EngineError::io("open", path))?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(".".as_ref());
    let shadow = ShadowFolder::open(&options.meta_path, folder, Arc::new(disk))?;
    let owner = OwnerLock::acquire(&options.meta_path, path)?;
    let source = Source::open(path, options.busy_timeout)?;
    let local = recover(&shadow)?;
    let setup = Setup { source, shadow, clock, max_bytes: options.max_sync_wal_bytes };
    Ok((owner, setup, local))
}

impl Opened {
    /// Whether the replica, once the local files are uploaded, lacks something between its last restorable state
    /// and the position, so that only a new snapshot makes it whole.
    pub(crate) fn needs_snapshot(&mut self, remote: &Remote) -> Result<bool, EngineError> {
        let mut reached = remote.restorable;
        for file in self.shadow.files_after(reached)? {
            if file.min() > reached.next() {
                return Ok(true);
            }
            reached = file.max();
        }
        let position = self.worker.ask(|capture| Ok(capture.position()))?;
        Ok(reached.is_zero() || reached < position.txid)
    }
}
