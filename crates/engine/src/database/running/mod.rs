//! The task that owns the capture of a database: it wakes, captures, checkpoints, and answers commands.
//!
//! Invariant: the read lock is given up only where the database is closed; an error delays the next capture and
//! changes nothing else.

mod ending;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use walstream_ltx::Txid;

use super::command::{Answer, Callers, Command, Request};
use super::keep::{self, Keep};
use super::open::Opened;
use super::run::{End, Shared};
use super::ship::{self, Contact};
use super::snapshots::Snapshots;
use super::trouble::Trouble;
use super::validate::Validate;
use super::waiters::Reached;
use crate::capture::session::Capture;
use crate::error::EngineError;
use crate::metrics::DatabaseMetrics;
use crate::metrics::standing::{Goal, Live};
use crate::options::DatabaseOptions;
use crate::upload::position::Remote;
use crate::upload::queue::{Acquaintance, Uploaded, Uploader};
use crate::watch::Wake;

/// With file-system events a database is looked at this often in case one was missed.
const SLOW_LOOK: Duration = Duration::from_secs(60);
/// A busy database is looked at this often, by the clock.
const BUSY_LOOK: Duration = Duration::from_millis(20);
/// The first look after an event comes this soon, the next ones after twice that, and so on: the event tells of a
/// write to the WAL, and the writer publishes the commit a moment later, after an fsync perhaps.
const FIRST_LOOK: Duration = Duration::from_micros(500);
/// A database is busy for this long after an event or a capture.
const BUSY: Duration = Duration::from_secs(1);
/// So many bytes of uncaptured WAL are captured at once, whatever the pace.
const CAPTURE_PRESSURE: u64 = 4 << 20;
/// A WAL with so many bytes to checkpoint is checkpointed at once; SQLite's own limit of 1,000 pages is the same.
const CHECKPOINT_PRESSURE: u64 = 4 << 20;
/// After a checkpoint that could not complete, the next one waits at least this long.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(250);

/// A database that is open and being captured.
pub(crate) struct Running<'a> {
    options: &'a DatabaseOptions,
    shared: &'a Shared,
    metrics: Arc<DatabaseMetrics>,
    opened: Opened,
    wake: &'a mut Wake,
    callers: &'a mut Callers,
    inbox: mpsc::Receiver<Command>,
    commands: mpsc::Sender<Command>,
    contact: oneshot::Receiver<Contact>,
    in_contact: bool,
    captured: watch::Sender<Txid>,
    uploaded: watch::Receiver<Uploaded>,
    /// For whoever else finds that the replica is another writer's.
    uploaded_told: watch::Sender<Uploaded>,
    hurry: watch::Sender<Option<Duration>>,
    snapshot_needed: Arc<Notify>,
    /// The TXID from which on a snapshot is needed; zero: it is not.
    snapshot_wanted: Txid,
    snapshot_made: watch::Sender<Txid>,
    /// Uploads, snapshots, history; they end with the set.
    helpers: JoinSet<()>,
    /// Those of them that need the database itself.
    upkeep: Vec<AbortHandle>,
    trouble: Trouble,
    /// No capture of one's own accord before this moment, unless the WAL grows fast.
    next_capture: Instant,
    /// Something is committed that waits for that moment.
    news_waits: bool,
    busy_until: Instant,
    /// How long a busy database is left alone before the next look.
    busy_look: Duration,
    last_checkpoint: Instant,
    next_checkpoint: Instant,
    captured_since_checkpoint: bool,
}

impl<'a> Running<'a> {
    /// Starts shipping what is there.
    pub(crate) fn new(
        options: &'a DatabaseOptions,
        shared: &'a Shared,
        mut opened: Opened,
        wake: &'a mut Wake,
        callers: &'a mut Callers,
    ) -> Result<Self, EngineError> {
        let (commands, inbox) = mpsc::channel(16);
        let metrics = shared.metrics.database(&options.path);
        let stalls = Arc::clone(&metrics.stalls);
        opened.worker.tell(|capture| {
            capture.count_stalls(stalls);
            Ok(())
        })?;
        let position = opened.worker.ask(|capture| Ok(capture.position()))?;
        let (captured, captured_seen) = watch::channel(position.txid);
        let (uploaded, uploaded_seen) = watch::channel(Uploaded::default());
        let uploaded_told = uploaded.clone();
        let (hurry, hurry_seen) = watch::channel(None);
        let (contact, contacted) = oneshot::channel();
        let uploader = Uploader {
            client: Arc::clone(&options.replica),
            shadow: opened.shadow.clone(),
            captured: captured_seen,
            uploaded,
            hurry: hurry_seen,
            sync_interval: options.sync_interval,
            clock: Arc::clone(&shared.clock),
            acquaintance: Acquaintance::New,
        };
        let (snapshot_made, snapshot_seen) = watch::channel(Txid::ZERO);
        let live = Live {
            captured: captured.subscribe(),
            uploaded: uploaded_seen.clone(),
            snapshot_made: snapshot_seen.clone(),
            shadow: opened.shadow.clone(),
            goal: None,
        };
        metrics.opened(live, shared.clock.now());
        let mut helpers = JoinSet::new();
        helpers.spawn(ship::run(uploader, opened.remote.take(), contact, snapshot_seen));
        let now = Instant::now();
        Ok(Running {
            options,
            shared,
            metrics,
            opened,
            wake,
            callers,
            inbox,
            commands,
            contact: contacted,
            in_contact: false,
            captured,
            uploaded: uploaded_seen,
            uploaded_told,
            hurry,
            snapshot_needed: Arc::new(Notify::new()),
            snapshot_wanted: Txid::ZERO,
            snapshot_made,
            helpers,
            upkeep: Vec::new(),
            trouble: Trouble::new(options),
            next_capture: now,
            news_waits: false,
            busy_until: now,
            busy_look: BUSY_LOOK,
            last_checkpoint: now,
            next_checkpoint: now,
            captured_since_checkpoint: true,
        })
    }

    /// Replicates until the fleet shuts down or the database must be opened anew.
    pub(crate) async fn run(mut self) -> Result<End, EngineError> {
        let mut fence = self.uploaded.clone();
        let (mut uploaded, mut made) = (self.uploaded.clone(), self.snapshot_made.subscribe());
        loop {
            if let Some(reason) = self.look().await? {
                if self.is_deleted() {
                    return Box::pin(self.outlive()).await;
                }
                Box::pin(self.close()).await;
                return Ok(End::Reopen(reason));
            }
            self.answer_waiters();
            let pause = self.next_look();
            tokio::select! {
                biased;
                () = self.shared.end() => return Box::pin(self.finish()).await,
                reason = fenced(&mut fence) => return Ok(End::Shutdown(Some(Box::pin(self.give_up(reason)).await))),
                contact = &mut self.contact, if !self.in_contact => if !self.contacted(contact)? {
                    Box::pin(self.close()).await;
                    return Ok(End::Reopen("the replica is ahead of the local state"));
                },
                Some(command) = self.inbox.recv() => Box::pin(self.answer(command)).await,
                Some(request) = self.callers.requests.recv() => Box::pin(self.serve(request)).await,
                Ok(()) = uploaded.changed(), if self.callers.waiters.need_upload() => {}
                Ok(()) = made.changed(), if self.callers.waiters.need_upload() => {}
                () = self.wake.wait() => self.expect_news(),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks whether anything is to be done, and does it. Says why, if the database must be opened anew.
    async fn look(&mut self) -> Result<Option<&'static str>, EngineError> {
        match self.try_look().await {
            Err(error @ EngineError::TaskLost(_)) => Err(error),
            // Whatever failed, failed because the files went away meanwhile.
            Err(_) if self.is_deleted() => Ok(Some("the file was deleted")),
            Err(error) => {
                // No writer is slowed down for checkpoints that do not come.
                self.opened.worker.rest();
                self.metrics.cannot_see(&error, self.shared.clock.now());
                let pause = self.trouble.with("sync error", &error);
                self.next_capture = Instant::now() + pause;
                Ok(None)
            }
            Ok(reopen) => Ok(reopen),
        }
    }

    async fn try_look(&mut self) -> Result<Option<&'static str>, EngineError> {
        if !self.opened.worker.ask(|capture| capture.is_current())? {
            return Ok(Some("the file was replaced"));
        }
        if self.may_capture()? {
            self.capture().await?;
            self.callers.waiters.captured(*self.captured.borrow());
        } else if self.opened.worker.ask(|capture| capture.is_in_the_way())? {
            self.step_aside().await?;
        }
        if self.callers.waiters.need_capture() && !self.opened.worker.ask(|capture| capture.has_news())? {
            self.callers.waiters.captured(*self.captured.borrow());
        }
        self.checkpoint_if_due().await?;
        Ok(None)
    }

    /// Whether there is something to capture, and it is time.
    fn may_capture(&mut self) -> Result<bool, EngineError> {
        self.news_waits = false;
        let pending = || self.opened.worker.ask(|capture| capture.pending_bytes());
        let paced = Instant::now() < self.next_capture;
        if paced && self.trouble.active() {
            return Ok(false);
        }
        if paced && pending()? < CAPTURE_PRESSURE {
            if pending()? > 0 {
                self.news_waits = true;
                self.metrics.has_news(self.shared.clock.now());
            }
            return Ok(false);
        }
        let has_news = self.opened.worker.ask(|capture| capture.has_news())?;
        match has_news {
            true => self.metrics.has_news(self.shared.clock.now()),
            false => self.metrics.has_seen_all(),
        }
        Ok(has_news)
    }

    /// How long until the next look. A busy database is looked at by the clock, an idle one when events say so.
    fn next_look(&mut self) -> Duration {
        let now = Instant::now();
        if now < self.busy_until {
            self.wake.mute();
            let pause = self.busy_look;
            let slowest = BUSY_LOOK.min(self.options.sync_interval).max(Duration::from_millis(1));
            self.busy_look = (pause * 2).min(slowest);
            return pause;
        }
        self.opened.worker.rest();
        let was_listening = self.wake.is_listening();
        let listening = was_listening || self.wake.listen();
        if listening && !was_listening {
            // What happened since the last look raised no event.
            self.busy_until = now;
            return Duration::ZERO;
        }
        let mut pause = if listening { SLOW_LOOK } else { SLOW_LOOK.min(self.options.monitor_interval) };
        if self.captured_since_checkpoint && !self.options.checkpoint_interval.is_zero() {
            let due = self.last_checkpoint + self.options.checkpoint_interval;
            pause = pause.min(due.max(self.next_checkpoint).saturating_duration_since(now));
        }
        if self.news_waits {
            pause = pause.min(self.next_capture.saturating_duration_since(now));
        }
        pause.min(self.trouble.pause_until(self.next_capture, now)).max(Duration::from_millis(1))
    }

    /// A file of the database was written to.
    fn expect_news(&mut self) {
        self.busy_until = Instant::now() + BUSY;
        self.busy_look = FIRST_LOOK;
    }

    async fn capture(&mut self) -> Result<(), EngineError> {
        let started = Instant::now();
        let much = self.opened.worker.ask(|capture| capture.pending_bytes())? >= CAPTURE_PRESSURE;
        let is_busy = much || self.callers.waiters.need_capture();
        let work = move |capture: &mut Capture| {
            // One file instead of two, where a fast writer would have something new for the second one.
            if is_busy { capture.renew_lock() } else { capture.capture_and_follow() }
        };
        let captured = self.sync(work).await?;
        self.trouble.over("sync recovered");
        if !captured.is_empty() {
            self.next_capture = started + self.options.sync_interval;
            self.busy_until = started + BUSY;
            self.captured_since_checkpoint = true;
        }
        self.publish()
    }

    /// A capture of everything that is committed.
    async fn sync<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Capture) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let started = std::time::Instant::now();
        let done = self.opened.worker.run(work).await;
        self.metrics.synced(started, &done);
        if done.is_ok() {
            self.metrics.has_seen_all();
        }
        done
    }

    /// The application has copied everything into the database file and may want to restart the WAL.
    async fn step_aside(&mut self) -> Result<(), EngineError> {
        self.opened.worker.run(|capture| capture.renew_lock()).await?;
        self.publish()
    }

    /// Tells the uploader, and asks for a snapshot where the capture found that one is needed.
    fn publish(&mut self) -> Result<(), EngineError> {
        let (wal_bytes, wal_offset) =
            self.opened.worker.tell(|capture| Ok((capture.take_wal_bytes(), capture.wal_offset())))?;
        self.metrics.captured(wal_bytes, wal_offset);
        let position = self.opened.worker.ask(|capture| Ok(capture.position()))?;
        self.captured.send_if_modified(|txid| std::mem::replace(txid, position.txid) != position.txid);
        if self.opened.worker.tell(|capture| Ok(capture.take_snapshot_need()))? {
            self.want_snapshot(position.txid);
        }
        Ok(())
    }

    fn want_snapshot(&mut self, txid: Txid) {
        self.snapshot_wanted = txid;
        self.snapshot_needed.notify_one();
    }

    async fn checkpoint_if_due(&mut self) -> Result<(), EngineError> {
        let now = Instant::now();
        if !self.captured_since_checkpoint || now < self.next_checkpoint {
            return Ok(());
        }
        let frames = self.opened.worker.ask(|capture| capture.frames_to_checkpoint())?;
        if frames == 0 {
            // The application has done it.
            self.captured_since_checkpoint = false;
        } else if self.opened.worker.ask(|capture| Ok(capture.is_pinned()))? {
            self.next_checkpoint = now + CHECKPOINT_PAUSE;
        } else if self.wants_checkpoint(frames, now)? {
            self.checkpoint(now).await?;
        }
        Ok(())
    }

    async fn checkpoint(&mut self, now: Instant) -> Result<(), EngineError> {
        // What it captures on the way is told at its end, so that whatever is committed meanwhile waits for that.
        self.metrics.has_news(self.shared.clock.now());
        let started = std::time::Instant::now();
        let sealed = self.opened.worker.run(|capture| capture.checkpoint()).await;
        self.metrics.checkpointed(started, &sealed);
        let sealed = sealed?;
        self.metrics.has_seen_all();
        let done = Instant::now();
        self.last_checkpoint = done;
        self.next_checkpoint =
            done + if sealed.complete { Duration::ZERO } else { CHECKPOINT_PAUSE.max((done - now) * 4) };
        self.captured_since_checkpoint = !sealed.complete;
        if !sealed.captured.is_empty() {
            self.busy_until = done + BUSY;
        }
        self.publish()
    }

    /// Many frames are checkpointed once the application pauses, very many at once, few after a while.
    fn wants_checkpoint(&self, frames: u32, now: Instant) -> Result<bool, EngineError> {
        let worker = &self.opened.worker;
        let since = now - self.last_checkpoint;
        let interval = self.options.checkpoint_interval;
        let old = !interval.is_zero() && since >= interval;
        let many = frames >= self.options.min_checkpoint_pages && since >= self.options.monitor_interval;
        Ok(old || many || worker.ask(|capture| capture.bytes_to_checkpoint())? >= CHECKPOINT_PRESSURE)
    }

    /// The replica is known now: what it lacks is made, and its history is kept from here on. False: the replica
    /// is ahead of us.
    fn contacted(
        &mut self,
        contact: Result<Contact, oneshot::error::RecvError>,
    ) -> Result<bool, EngineError> {
        let remote = match contact {
            Ok(Contact::Known(remote)) => remote,
            Ok(Contact::Ahead) => return Ok(false),
            Err(_) => return Err(EngineError::TaskLost("upload".into())),
        };
        self.in_contact = true;
        let captured_full = self.opened.worker.tell(|capture| Ok(capture.take_snapshot_need()))?;
        if captured_full || self.opened.needs_snapshot(&remote)? {
            let position = *self.captured.borrow();
            self.want_snapshot(position);
        }
        self.metrics.in_contact(Goal { captured: *self.captured.borrow(), snapshot: self.snapshot_wanted });
        self.spawn_helpers(&remote);
        Ok(true)
    }

    fn spawn_helpers(&mut self, remote: &Remote) {
        self.snapshot_made.send_replace(remote.snapshot.map_or(Txid::ZERO, |(txid, _)| txid));
        let snapshots = Snapshots {
            client: Arc::clone(&self.options.replica),
            commands: self.commands.clone(),
            needed: Arc::clone(&self.snapshot_needed),
            interval: self.options.history.snapshot_interval,
            clock: Arc::clone(&self.shared.clock),
            turns: self.shared.snapshot_turns.at(&self.options.replica.location()),
            last: remote.snapshot,
            made: self.snapshot_made.clone(),
            uploaded: self.uploaded_told.clone(),
            shadow: self.opened.shadow.clone(),
            has_beginning: !remote.restorable.is_zero(),
            metrics: self.shared.metrics.clone(),
        };
        self.upkeep.push(self.helpers.spawn(snapshots.run()));
        let keep = Keep {
            options: self.options.clone(),
            clock: Arc::clone(&self.shared.clock),
            shadow: self.opened.shadow.clone(),
            commands: self.commands.clone(),
            permits: Arc::clone(&self.shared.history_permits),
            uploaded: self.uploaded.clone(),
            snapshot: self.snapshot_made.subscribe(),
            snapshot_needed: Arc::clone(&self.snapshot_needed),
            metrics: self.shared.metrics.clone(),
        };
        self.upkeep.push(self.helpers.spawn(keep::run(keep)));
        let interval = self.options.history.validation_interval;
        if !interval.is_zero() {
            let validate = Validate {
                client: Arc::clone(&self.options.replica),
                interval,
                permits: Arc::clone(&self.shared.history_permits),
                clock: Arc::clone(&self.shared.clock),
                metrics: Arc::clone(&self.metrics),
            };
            self.upkeep.push(self.helpers.spawn(validate.run()));
        }
    }

    async fn serve(&mut self, request: Request) {
        match request {
            Request::Snapshot(answer) => self.bring_snapshot(answer).await,
            Request::Sync(answer) => {
                let _ = answer.send(self.capture_now().await);
            }
            Request::Shipped(Some(txid), answer) => self.callers.waiters.wait(txid, answer),
            Request::Shipped(None, answer) => {
                self.callers.waiters.join(answer);
                self.expect_news();
            }
        }
    }

    /// Captures everything that is committed, whatever the pace.
    async fn capture_now(&mut self) -> Result<Txid, EngineError> {
        self.sync(|capture| capture.capture_all()).await?;
        self.captured_since_checkpoint = true;
        self.publish()?;
        let txid = *self.captured.borrow();
        self.callers.waiters.captured(txid);
        Ok(txid)
    }

    async fn bring_snapshot(&mut self, answer: Answer<Txid>) {
        let txid = match self.capture_now().await {
            Ok(txid) => txid,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let mut made = self.snapshot_made.subscribe();
        if *made.borrow() < txid {
            self.want_snapshot(txid);
        }
        // Whoever asked learns of an end before that by the end of this task.
        self.helpers.spawn(async move {
            if let Ok(made) = made.wait_for(|&made| made >= txid).await {
                let _ = answer.send(Ok(*made));
            }
        });
    }

    async fn answer(&mut self, command: Command) {
        // A caller that no longer waits for its answer does not need it.
        match command {
            Command::Sync(answer) => {
                let sync = |capture: &mut Capture| {
                    capture.capture_all()?;
                    Ok(capture.position())
                };
                let result = self.sync(sync).await;
                self.captured_since_checkpoint = true;
                let _ = answer.send(result.and_then(|position| self.publish().map(|()| position)));
            }
            Command::Snapshot(answer) => {
                let result = self.opened.worker.run(|capture| capture.snapshot()).await;
                self.captured_since_checkpoint = true;
                let _ = answer.send(result.and_then(|(snapshot, _)| self.publish().map(|()| snapshot)));
            }
            Command::SaveMap(answer) => {
                let _ = answer.send(self.opened.worker.run(|capture| capture.save_map()).await);
            }
        }
    }

    /// Answers those who wait for what is on the replica now.
    fn answer_waiters(&mut self) {
        if self.in_contact {
            let uploaded = self.uploaded.borrow().txid;
            let snapshot = *self.snapshot_made.borrow();
            self.callers.waiters.answer(Reached {
                uploaded,
                snapshot,
                snapshot_wanted: self.snapshot_wanted,
            });
        }
    }
}

/// Waits until the uploader finds that the replica is another writer's; says so in its words.
async fn fenced(uploaded: &mut watch::Receiver<Uploaded>) -> String {
    let fenced =
        uploaded.wait_for(|uploaded| uploaded.fenced.is_some()).await.map(|uploaded| uploaded.fenced.clone());
    match fenced {
        Ok(reason) => reason.unwrap_or_default(),
        Err(_) => std::future::pending().await,
    }
}
