//! The daemon, one step at a time: what its tasks do in `database/`, without the tasks.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{FileInfo, ReplicaClient, TimestampSource};

use super::disk::FragileDisk;
use super::steps::Work;
use crate::capture::session::{Capture, Position};
use crate::capture::snapshot::Snapshot;
use crate::clock::Clock;
use crate::database::open::{self, Opened, Silence};
use crate::database::ship;
use crate::error::EngineError;
use crate::history::compact::{Compactor, LocalL0, OpenFile};
use crate::history::enforce;
use crate::history::retention::l0_to_delete;
use crate::history::sources::{Limits, next_sources};
use crate::options::DatabaseOptions;
use crate::shadow::folder::ShadowFolder;
use crate::shadow::recover::LocalEnd;
use crate::upload::fence;
use crate::upload::position::{self, Remote};
use crate::upload::queue::{Acquaintance, Uploaded, Uploader};
use crate::upload::snapshot;

/// A running daemon.
pub(super) struct Daemon {
    // Dropped in this order: readers first, then the capture.
    pinned: Option<Snapshot>,
    uploader: Uploader,
    captured: watch::Sender<Txid>,
    options: DatabaseOptions,
    opened: Opened,
    in_contact: bool,
    /// Whether the replica has anything that a restore can begin with; nothing goes up before.
    has_beginning: bool,
    /// The TXID from which on a snapshot is needed; zero: it is not.
    snapshot_wanted: Txid,
}

impl Daemon {
    pub(super) async fn start(
        options: &DatabaseOptions,
        clock: Arc<dyn Clock>,
        disk: FragileDisk,
    ) -> Result<Self, EngineError> {
        let (permits, uploader_clock) = (Arc::new(Semaphore::new(1)), Arc::clone(&clock));
        let mut opened =
            open::open_on(move |_| Ok(disk), options, clock, permits, Silence::Tolerated, None).await?;
        let position = opened.worker.ask(|capture| Ok(capture.position()))?;
        let (captured, captured_seen) = watch::channel(position.txid);
        let uploader = Uploader {
            client: Arc::clone(&options.replica),
            shadow: opened.shadow.clone(),
            captured: captured_seen,
            uploaded: watch::Sender::new(Uploaded::default()),
            hurry: watch::Sender::new(None).subscribe(),
            sync_interval: Duration::ZERO,
            clock: uploader_clock,
            acquaintance: Acquaintance::New,
        };
        let remote = opened.remote.take();
        let options = options.clone();
        let mut daemon = Daemon {
            pinned: None,
            uploader,
            captured,
            options,
            opened,
            in_contact: false,
            has_beginning: false,
            snapshot_wanted: Txid::ZERO,
        };
        if let Some(remote) = remote {
            daemon.meet(&remote)?;
        }
        daemon.publish()?;
        Ok(daemon)
    }

    pub(super) fn shadow(&self) -> &ShadowFolder {
        &self.opened.shadow
    }

    pub(super) fn position(&self) -> Position {
        self.opened.worker.ask(|capture| Ok(capture.position())).unwrap()
    }

    /// Whether the database must be opened anew, because another file has its name.
    pub(super) fn is_current(&self) -> bool {
        self.opened.worker.ask(Capture::is_current).unwrap()
    }

    /// First contact with a replica that did not answer at the start. False: it is ahead, open the database anew.
    pub(super) async fn contact(&mut self) -> Result<bool, EngineError> {
        if self.in_contact {
            return Ok(true);
        }
        let remote = position::look(self.client()).await?;
        let captured = *self.captured.borrow();
        let end = LocalEnd { sound: captured, given_out: captured };
        if fence::estrangement(self.client(), self.shadow(), end, &remote).await?.is_some() {
            return Ok(false);
        }
        self.meet(&remote)
    }

    fn meet(&mut self, remote: &Remote) -> Result<bool, EngineError> {
        if remote.newest.is_some_and(|newest| newest.position.txid > *self.captured.borrow()) {
            return Ok(false);
        }
        self.uploader.uploaded.send_replace(Uploaded { txid: remote.level0, ..Uploaded::default() });
        if self.opened.needs_snapshot(remote)? {
            self.want_snapshot();
        }
        self.has_beginning = !remote.restorable.is_zero();
        self.in_contact = true;
        Ok(true)
    }

    fn publish(&mut self) -> Result<(), EngineError> {
        self.captured.send_replace(self.position().txid);
        if self.opened.worker.tell(|capture| Ok(capture.take_snapshot_need()))? {
            self.want_snapshot();
        }
        Ok(())
    }

    fn want_snapshot(&mut self) {
        self.snapshot_wanted = *self.captured.borrow();
    }

    /// Does a piece of work. False: the replica is ahead.
    pub(super) async fn work(&mut self, work: Work, now: Timestamp) -> Result<bool, EngineError> {
        match work {
            Work::Contact => return self.contact().await,
            Work::Capture => self.capture().await?,
            Work::CaptureAll => self.capture_all().await?,
            Work::Checkpoint => self.checkpoint().await.map(|_| ())?,
            Work::Rest => self.rest(),
            Work::SaveMap => self.save_map().await.map(|_| ())?,
            Work::Upload => self.upload().await?,
            Work::Pin => self.pin().await?,
            Work::UploadPinned => self.upload_pinned().await?,
            Work::Compact(number) => {
                let below = Level::new(number - 1).unwrap();
                self.compact(below.next().unwrap(), below).await?
            }
            Work::Retain => self.retain(now).await?,
        }
        Ok(true)
    }

    /// Waits until nobody reads the database any more whose work was given up.
    pub(super) fn wait_for_readers(&self) {
        while self.pinned.is_none() && self.opened.worker.ask(|capture| Ok(capture.is_pinned())).unwrap() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Capture) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let result = self.opened.worker.run(work).await?;
        self.publish()?;
        Ok(result)
    }

    pub(super) async fn capture(&mut self) -> Result<(), EngineError> {
        self.run(|capture| capture.capture_and_follow()).await.map(|_| ())
    }

    pub(super) async fn capture_all(&mut self) -> Result<(), EngineError> {
        self.run(|capture| capture.capture_all()).await.map(|_| ())
    }

    /// True if the whole WAL is in the database file.
    pub(super) async fn checkpoint(&mut self) -> Result<bool, EngineError> {
        self.run(|capture| capture.checkpoint()).await.map(|sealed| sealed.complete)
    }

    pub(super) fn rest(&mut self) {
        let rest = |capture: &mut crate::capture::session::Capture| {
            capture.rest();
            Ok(())
        };
        self.opened.worker.tell(rest).unwrap();
    }

    pub(super) async fn save_map(&mut self) -> Result<Txid, EngineError> {
        self.run(|capture| capture.save_map()).await
    }

    pub(super) async fn upload(&mut self) -> Result<(), EngineError> {
        if !self.in_contact || !self.has_beginning {
            return Ok(());
        }
        self.uploader.upload_pending().await
    }

    /// Pins the present state for a snapshot.
    pub(super) async fn pin(&mut self) -> Result<(), EngineError> {
        if !self.in_contact {
            return Ok(());
        }
        let (pinned, _) = self.run(|capture| capture.snapshot()).await?;
        self.pinned = Some(pinned);
        Ok(())
    }

    /// Uploads the pinned state, if there is one.
    pub(super) async fn upload_pinned(&mut self) -> Result<(), EngineError> {
        let Some(pinned) = self.pinned.take() else { return Ok(()) };
        let made = snapshot::upload(self.client(), pinned).await?;
        if !std::mem::replace(&mut self.has_beginning, true) {
            self.uploader
                .uploaded
                .send_modify(|uploaded| uploaded.txid = ship::first_useful(uploaded.txid, made));
        }
        if made >= self.snapshot_wanted {
            self.snapshot_wanted = Txid::ZERO;
        }
        Ok(())
    }

    /// Everything that is committed can be restored from the replica after this.
    pub(super) async fn ship(&mut self) -> Result<(), EngineError> {
        self.capture_all().await?;
        if !self.snapshot_wanted.is_zero() {
            self.pin().await?;
            self.upload_pinned().await?;
        }
        self.upload().await
    }

    /// Takes what a level has not yet from the level below.
    pub(super) async fn compact(&mut self, level: Level, below: Level) -> Result<(), EngineError> {
        let sources = {
            let client = self.client();
            let newest = listed(client, level).await?.last().map(|file| file.txids.max());
            let (below, snapshots) = (listed(client, below).await?, listed(client, Level::SNAPSHOT).await?);
            next_sources(&below, newest, &snapshots, &Limits::default())
        };
        let sources = sources.unwrap_or_else(|_hole| {
            self.want_snapshot();
            Vec::new()
        });
        if sources.is_empty() {
            return Ok(());
        }
        let local = Arc::new(LocalFiles { folder: self.shadow().clone() });
        let client = Arc::clone(&self.options.replica);
        let compactor = Compactor { client, local, limits: Limits::default() };
        compactor.compact(level, &sources).await.map(|_| ())
    }

    /// Deletes what compaction has made superfluous, there and here.
    pub(super) async fn retain(&mut self, now: Timestamp) -> Result<(), EngineError> {
        let client = Arc::clone(&self.options.replica);
        let history = &self.options.history;
        let level1 = Level::L0.next().unwrap();
        let (l0, l1) = (listed(&*client, Level::L0).await?, listed(&*client, level1).await?);
        let snapshots = listed(&*client, Level::SNAPSHOT).await?;
        // No level above is compacted into here.
        let l2 = listed(&*client, level1.next().unwrap()).await?;
        let gone = l0_to_delete(&l0, &l1, &l2, &snapshots, now, history.l0_retention);
        enforce::enforce_snapshot_retention(&*client, history, now).await?;
        let names: Vec<_> = gone.iter().map(|file| (file.level, file.txids)).collect();
        client.delete(&names).await?;
        let Some(end) = gone.iter().map(|file| file.txids.max()).max() else { return Ok(()) };
        self.release(end).await
    }

    /// As `database/keep.rs` does it.
    async fn release(&mut self, through: Txid) -> Result<(), EngineError> {
        let saved = self.save_map().await?;
        let mut files = self.shadow().files()?;
        files.pop();
        let superfluous = files.into_iter().filter(|&file| file.max() <= through.min(saved));
        superfluous.into_iter().try_for_each(|file| self.shadow().remove(file))
    }

    fn client(&self) -> &dyn ReplicaClient {
        self.options.replica.as_ref()
    }
}

async fn listed(client: &dyn ReplicaClient, level: Level) -> Result<Vec<FileInfo>, EngineError> {
    Ok(client.list(level, Txid::FIRST, TimestampSource::Exact).await?)
}

/// Local files are read for compaction, and released by the daemon itself.
struct LocalFiles {
    folder: ShadowFolder,
}

impl LocalL0 for LocalFiles {
    fn open(&self, txids: TxidRange, most: usize) -> Result<Option<Vec<OpenFile>>, EngineError> {
        // A compaction runs inside the runtime, as it does in the daemon.
        debug_assert!(Handle::try_current().is_ok());
        let parts = self.folder.open_parts(txids, most)?;
        let opened = |(txids, file)| OpenFile { txids, content: Box::new(file) };
        Ok(parts.map(|parts| parts.into_iter().map(opened).collect()))
    }

    fn release(&self, _through: Txid) -> Result<(), EngineError> {
        Ok(())
    }
}
