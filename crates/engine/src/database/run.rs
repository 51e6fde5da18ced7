//! The task that owns one database: it wakes, captures, checkpoints, and answers commands.
//!
//! Invariant: whatever fails, the task goes on trying; the application never notices. The read lock is given
//! up only where the database is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use walstream_ltx::Txid;

use super::command::Command;
use super::keep::{self, Keep};
use super::open::{self, Opened, Silence};
use super::ship::{self, Contact};
use super::snapshots::Snapshots;
use crate::clock::Clock;
use crate::error::EngineError;
use crate::options::DatabaseOptions;
use crate::upload::position::Remote;
use crate::upload::queue::{Uploaded, Uploader};
use crate::watch::{Wake, Watch};

/// With file-system events a database is looked at this often in case one was missed.
const SLOW_LOOK: Duration = Duration::from_secs(15);
/// While an application writes, the WAL is looked at this often, so that it cannot outgrow the pace.
const PRESSURE_LOOK: Duration = Duration::from_millis(20);
/// So many bytes of uncaptured WAL are captured at once, whatever the pace.
const PRESSURE_BYTES: u64 = 8 << 20;
/// A lasting failure is said again after this time.
const REMINDER: Duration = Duration::from_secs(60);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// What ends a task, and how patient it is then.
#[derive(Clone, Debug)]
pub(crate) struct Shutdown {
    pub(crate) timeout: Duration,
    pub(crate) retry_interval: Duration,
}

/// TXIDs that did not reach the replica before the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unshipped {
    /// The database.
    pub path: std::path::PathBuf,
    /// The last TXID on the replica.
    pub shipped: Txid,
    /// The last TXID captured.
    pub captured: Txid,
    /// Why, where it is known.
    pub reason: String,
}

/// What a database shares with the others of its fleet.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) watch: Watch,
    /// Bounds how many databases capture at the same time.
    pub(crate) permits: Arc<Semaphore>,
    /// Bounds how many databases are compacted at the same time.
    pub(crate) history_permits: Arc<Semaphore>,
    pub(crate) shutdown: watch::Receiver<Option<Shutdown>>,
    /// Fires when the operator does not want to wait any longer.
    pub(crate) abort: watch::Receiver<bool>,
}

/// One database of a fleet.
pub(crate) struct Database {
    options: DatabaseOptions,
    shared: Shared,
}

enum End {
    Shutdown(Option<Unshipped>),
    Reopen(&'static str),
}

impl Database {
    pub(crate) fn new(options: DatabaseOptions, shared: Shared) -> Self {
        Database { options, shared }
    }

    /// Replicates until the fleet shuts down.
    pub(crate) async fn live(mut self) -> Option<Unshipped> {
        let mut trouble = Trouble::default();
        loop {
            if self.shared.shutdown.borrow().is_some() {
                return None;
            }
            let wake = self.shared.watch.database(&self.options.path);
            let opened = if self.options.path.exists() {
                let (clock, permits) = (Arc::clone(&self.shared.clock), Arc::clone(&self.shared.permits));
                Some(open::open(&self.options, clock, permits, Silence::Tolerated).await)
            } else {
                None
            };
            let pause = match opened {
                Some(Ok(opened)) => {
                    trouble.over(&self.options, "database opened");
                    tracing::info!(path = %self.options.path.display(), "initialized db");
                    match self.replicate(opened, &wake).await {
                        Ok(End::Shutdown(unshipped)) => return unshipped,
                        Ok(End::Reopen(reason)) => {
                            tracing::info!(path = %self.options.path.display(), reason, "database is opened anew");
                            Duration::ZERO
                        }
                        Err(error) => trouble.with(&self.options, "replication failed, trying again", &error),
                    }
                }
                Some(Err(error)) => trouble.with(&self.options, "database cannot be opened, trying again", &error),
                None => self.options.monitor_interval,
            };
            let mut shutdown = self.shared.shutdown.clone();
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wake.wait(), if !trouble.active() => {}
                () = requested(&mut shutdown) => {}
            }
        }
    }

    async fn replicate(&mut self, mut opened: Opened, wake: &Wake) -> Result<End, EngineError> {
        let (commands, inbox) = mpsc::channel(16);
        let captured = opened.worker.ask(|capture| Ok(capture.position().txid))?;
        let (captured, captured_seen) = watch::channel(captured);
        let (uploaded, uploaded_seen) = watch::channel(Uploaded::default());
        let (hurry, hurry_seen) = watch::channel(None);
        let (contact, contacted) = oneshot::channel();
        let uploader = Uploader {
            client: Arc::clone(&self.options.replica),
            shadow: opened.shadow.clone(),
            captured: captured_seen,
            uploaded,
            hurry: hurry_seen,
            sync_interval: self.options.sync_interval,
        };
        let mut helpers = JoinSet::new();
        helpers.spawn(ship::run(uploader, opened.remote.take(), contact));
        let mut running = Running {
            options: &self.options,
            shared: self.shared.clone(),
            opened,
            wake,
            inbox,
            commands,
            captured,
            uploaded: uploaded_seen,
            hurry,
            snapshot_needed: Arc::new(Notify::new()),
            helpers,
            trouble: Trouble::default(),
            last_checkpoint: Instant::now(),
            captured_since_checkpoint: true,
            next_capture: Instant::now(),
        };
        let end = running.run(contacted).await?;
        if let End::Reopen(reason) = end {
            running.close().await;
            return Ok(End::Reopen(reason));
        }
        Ok(End::Shutdown(running.finish().await))
    }
}

/// A database that is open and being captured.
struct Running<'a> {
    options: &'a DatabaseOptions,
    shared: Shared,
    opened: Opened,
    wake: &'a Wake,
    inbox: mpsc::Receiver<Command>,
    commands: mpsc::Sender<Command>,
    captured: watch::Sender<Txid>,
    uploaded: watch::Receiver<Uploaded>,
    hurry: watch::Sender<Option<Duration>>,
    snapshot_needed: Arc<Notify>,
    /// Uploads, snapshots, history; they end with the set.
    helpers: JoinSet<()>,
    trouble: Trouble,
    last_checkpoint: Instant,
    captured_since_checkpoint: bool,
    /// No capture of one's own accord before this moment.
    next_capture: Instant,
}

impl Running<'_> {
    async fn run(&mut self, mut contacted: oneshot::Receiver<Contact>) -> Result<End, EngineError> {
        let mut in_contact = false;
        let mut shutdown = self.shared.shutdown.clone();
        loop {
            let look = self.next_look();
            tokio::select! {
                biased;
                () = requested(&mut shutdown) => return Ok(End::Shutdown(None)),
                contact = &mut contacted, if !in_contact => match contact {
                    Ok(Contact::Known(remote)) => {
                        in_contact = true;
                        self.begin_history(&remote)?;
                    }
                    Ok(Contact::Ahead) => return Ok(End::Reopen("the replica is ahead of the local state")),
                    Err(_) => return Err(EngineError::TaskLost("upload".into())),
                },
                Some(command) = self.inbox.recv() => self.answer(command).await,
                () = self.wake.wait() => {}
                () = tokio::time::sleep(look) => {}
            }
            match self.look().await {
                Ok(Look::Same) => {}
                Ok(Look::Replaced) => return Ok(End::Reopen("the file was replaced")),
                Err(error @ EngineError::TaskLost(_)) => return Err(error),
                Err(error) => {
                    let pause = self.trouble.with(self.options, "sync error", &error);
                    self.next_capture = Instant::now() + pause;
                }
            }
        }
    }

    fn next_look(&self) -> Duration {
        let regular = if self.wake.reliable { SLOW_LOOK } else { self.options.monitor_interval };
        let checkpoint = self.options.checkpoint_interval;
        let mut look = regular.max(Duration::from_millis(1));
        if self.captured_since_checkpoint && !checkpoint.is_zero() {
            look = look.min(checkpoint.saturating_sub(self.last_checkpoint.elapsed()).max(PRESSURE_LOOK));
        }
        look
    }

    /// The replica is known now: what it lacks is made, and its history is kept from here on.
    fn begin_history(&mut self, remote: &Remote) -> Result<(), EngineError> {
        if self.opened.needs_snapshot(remote)? {
            self.snapshot_needed.notify_one();
        }
        let newest = remote.snapshot.map_or(Txid::ZERO, |(txid, _)| txid);
        let (made, snapshot) = watch::channel(newest);
        let snapshots = Snapshots {
            client: Arc::clone(&self.options.replica),
            commands: self.commands.clone(),
            needed: Arc::clone(&self.snapshot_needed),
            interval: self.options.history.snapshot_interval,
            clock: Arc::clone(&self.shared.clock),
            last: remote.snapshot,
            made,
        };
        self.helpers.spawn(snapshots.run());
        let keep = Keep {
            options: self.options.clone(),
            clock: Arc::clone(&self.shared.clock),
            shadow: self.opened.shadow.clone(),
            commands: self.commands.clone(),
            permits: Arc::clone(&self.shared.history_permits),
            uploaded: self.uploaded.clone(),
            snapshot,
            snapshot_needed: Arc::clone(&self.snapshot_needed),
        };
        self.helpers.spawn(keep::run(keep));
        Ok(())
    }

    /// Captures what is new, at the pace that was chosen, and checkpoints where it is time.
    async fn look(&mut self) -> Result<Look, EngineError> {
        if !self.opened.worker.ask(|capture| capture.is_current())? {
            return Ok(Look::Replaced);
        }
        while self.opened.worker.ask(|capture| capture.has_news())? {
            if !self.may_capture().await? {
                break;
            }
            self.capture().await?;
        }
        self.checkpoint_if_due().await?;
        Ok(Look::Same)
    }

    /// Waits for the moment of the next capture; false if there is something else to do before.
    async fn may_capture(&mut self) -> Result<bool, EngineError> {
        let mut shutdown = self.shared.shutdown.clone();
        while Instant::now() < self.next_capture {
            if !self.trouble.active() && self.opened.worker.ask(|capture| capture.pending_bytes())? >= PRESSURE_BYTES {
                return Ok(true);
            }
            let until = self.next_capture.min(Instant::now() + PRESSURE_LOOK);
            tokio::select! {
                biased;
                () = requested(&mut shutdown) => return Ok(false),
                Some(command) = self.inbox.recv() => self.answer(command).await,
                () = tokio::time::sleep_until(until) => {}
            }
        }
        Ok(true)
    }

    async fn capture(&mut self) -> Result<(), EngineError> {
        let started = Instant::now();
        let captured = self.opened.worker.run(|capture| capture.capture()).await?;
        self.trouble.over(self.options, "sync recovered");
        if captured.is_some() {
            self.next_capture = started + self.options.sync_interval;
            self.captured_since_checkpoint = true;
        }
        self.publish()?;
        self.checkpoint_if_due().await
    }

    /// Tells the uploader, and asks for a snapshot where the capture found that one is needed.
    fn publish(&mut self) -> Result<(), EngineError> {
        let position = self.opened.worker.ask(|capture| Ok(capture.position()))?;
        self.captured.send_if_modified(|txid| std::mem::replace(txid, position.txid) != position.txid);
        if self.opened.worker.tell(|capture| Ok(capture.take_snapshot_need()))? {
            self.snapshot_needed.notify_one();
        }
        Ok(())
    }

    async fn checkpoint_if_due(&mut self) -> Result<(), EngineError> {
        if !self.captured_since_checkpoint {
            return Ok(());
        }
        let frames = self.opened.worker.ask(|capture| capture.frames_to_checkpoint())?;
        let many = frames >= self.options.min_checkpoint_pages;
        let interval = self.options.checkpoint_interval;
        let old = !interval.is_zero() && self.last_checkpoint.elapsed() >= interval;
        if !(many || old) || self.opened.worker.ask(|capture| Ok(capture.is_pinned()))? {
            return Ok(());
        }
        self.last_checkpoint = Instant::now();
        let sealed = self.opened.worker.run(|capture| {
            let sealed = capture.checkpoint()?;
            capture.rest();
            Ok(sealed)
        });
        let sealed = sealed.await?;
        self.captured_since_checkpoint = !sealed.complete;
        self.publish()
    }

    async fn answer(&mut self, command: Command) {
        // A caller that no longer waits for its answer does not need it.
        match command {
            Command::Sync(answer) => {
                let result = self.opened.worker.run(|capture| capture.capture_all().map(|_| capture.position())).await;
                self.captured_since_checkpoint = true;
                let _ = answer.send(result.and_then(|position| self.publish().map(|()| position)));
            }
            Command::Snapshot(answer) => {
                let result = self.opened.worker.run(|capture| capture.snapshot()).await;
                let _ = answer.send(result.and_then(|(snapshot, _)| self.publish().map(|()| snapshot)));
            }
            Command::SaveMap(answer) => {
                let _ = answer.send(self.opened.worker.run(|capture| capture.save_map()).await);
            }
        }
    }

    /// The end of the daemon: a last capture, uploads until everything is there or time is up, and the map.
    async fn finish(mut self) -> Option<Unshipped> {
        let Some(shutdown) = self.shared.shutdown.borrow().clone() else { return None };
        let deadline = Instant::now() + shutdown.timeout;
        let mut reason = String::new();
        if let Err(error) = self.opened.worker.run(|capture| capture.capture_all()).await {
            tracing::error!(path = %self.options.path.display(), %error, "last capture failed");
            reason = error.to_string();
        }
        // A failure to publish is a failure of the capture, which was told.
        let _ = self.publish();
        let _ = self.hurry.send(Some(shutdown.retry_interval));
        let target = *self.captured.borrow();
        let mut abort = self.shared.abort.clone();
        tokio::select! {
            shipped = ship::shipped(&mut self.uploaded, target) => if let Err(error) = shipped { reason = error.to_string() },
            () = tokio::time::sleep_until(deadline) => reason = format!("not done after {:?}", shutdown.timeout),
            () = aborted(&mut abort) => reason = "the operator did not wait".into(),
        }
        let shipped = self.uploaded.borrow().txid;
        let path = self.options.path.clone();
        self.close().await;
        (shipped < target || !reason.is_empty()).then_some(Unshipped { path, shipped, captured: target, reason })
    }

    /// Ends the helpers, stores the map and closes the database on a blocking thread.
    async fn close(mut self) {
        self.helpers.shutdown().await;
        if let Err(error) = self.opened.worker.run(|capture| capture.save_map()).await {
            tracing::warn!(path = %self.options.path.display(), %error, "page map not stored; it will be rebuilt");
        }
        let opened = self.opened;
        // Nothing is left to do if the runtime itself is ending.
        let _ = tokio::task::spawn_blocking(move || drop(opened)).await;
    }
}

/// Waits until the fleet is told to end, or is gone.
async fn requested(shutdown: &mut watch::Receiver<Option<Shutdown>>) {
    let _ = shutdown.wait_for(Option::is_some).await;
}

async fn aborted(abort: &mut watch::Receiver<bool>) {
    let _ = abort.wait_for(|&abort| abort).await;
}

enum Look {
    Same,
    Replaced,
}

/// One line when something begins to fail, one a minute while it does, one when it works again.
#[derive(Default)]
struct Trouble {
    count: u32,
    said: Option<Instant>,
}

impl Trouble {
    fn active(&self) -> bool {
        self.count > 0
    }

    /// How long to wait before the next try.
    fn with(&mut self, options: &DatabaseOptions, what: &str, error: &EngineError) -> Duration {
        self.count += 1;
        if self.said.is_none_or(|said| said.elapsed() >= REMINDER) {
            self.said = Some(Instant::now());
            tracing::error!(path = %options.path.display(), %error, consecutive_errors = self.count, "{what}");
        }
        (options.monitor_interval.max(Duration::from_millis(100)) * (1 << self.count.min(16))).min(LONGEST_BACKOFF) / 2
    }

    fn over(&mut self, options: &DatabaseOptions, what: &str) {
        if self.active() {
            tracing::info!(path = %options.path.display(), previous_errors = self.count, "{what}");
        }
        *self = Trouble::default();
    }
}
