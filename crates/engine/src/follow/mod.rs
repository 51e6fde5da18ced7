//! A copy of a database that follows its replica, while applications read it.
//!
//! Invariant: the copy is always in a state that was captured, and never goes back to an older one. A crash leaves it in
//! the state before or after a step, and it says itself which one that is ([`Mark`]).
//!
//! ```text
//! way: which files lead on ─► apply: read, checked ─► copy: one transaction, pages and mark
//! ```

mod apply;
mod copy;
mod standing;
#[cfg(test)]
mod tests;
mod way;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{FileInfo, ReplicaClient};

use self::apply::{Applied, Files};
use self::copy::LocalCopy;
use self::way::Way;
use crate::clock::{Clock, SystemClock};
use crate::error::EngineError;
use crate::metrics::{FollowerMetrics, Metrics};
use crate::restore::mark::Mark;
use crate::restore::{Marked, Progress, RestoreOptions, Unwatched, restore_as};
use crate::trouble::{Age, Trouble};

/// A look at level 0 costs one request. Every level is looked at only so often if it tells of nothing new.
const THOROUGH: Duration = Duration::from_secs(60);
/// How long a failing store is left alone at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often the log says how far it is.
const REPORT: Duration = Duration::from_secs(60);

/// Keeps a copy as new as its replica.
pub struct Follower {
    client: Arc<dyn ReplicaClient>,
    options: RestoreOptions,
    /// Absent while it is replaced.
    copy: Option<LocalCopy>,
    mark: Mark,
    /// Files that turned out damaged or deleted since the last step.
    lost: Vec<(Level, TxidRange)>,
    looked: Option<Instant>,
    metrics: Arc<FollowerMetrics>,
}

/// A step that a follower made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The state that the copy is in now.
    pub txid: Txid,
    /// When that state was captured.
    pub created_at: Timestamp,
    /// How long ago that was.
    pub lag: Duration,
}

impl Follower {
    /// Goes on with a copy, or restores the latest state first if there is none or `overwrite` is set. A copy that was
    /// restored in another way is one too, if its state is found on the replica.
    pub async fn start(
        client: Arc<dyn ReplicaClient>,
        options: RestoreOptions,
        progress: &dyn Progress,
        metrics: &Metrics,
    ) -> Result<Self, EngineError> {
        let of_copy = metrics.follow(&options.output, SystemClock.now());
        let is_there =
            std::fs::metadata(&options.output).is_ok_and(|found| found.is_file() && found.len() > 0);
        if options.overwrite || !is_there {
            let started = Instant::now();
            let restored = restore_as(Arc::clone(&client), &options, progress, Marked::Yes).await?;
            metrics.restores().record(started.elapsed());
            of_copy.is_of(restored.created_at);
        }
        let (copy, mark) = standing::of(&client, &options.output, options.parallelism).await?;
        of_copy.is_at(mark.txid);
        let (copy, metrics) = (Some(copy), of_copy);
        Ok(Follower { client, options, copy, mark, lost: Vec::new(), looked: None, metrics })
    }

    /// The state that the copy is in.
    pub fn txid(&self) -> Txid {
        self.mark.txid
    }

    /// Follows until it is dropped. What fails is tried again.
    pub async fn run(&mut self, interval: Duration) -> Infallible {
        let mut trouble = Trouble::new(interval, LONGEST_PAUSE.max(interval));
        let (mut reported, mut newest) = (Instant::now(), None);
        loop {
            let pause = match self.step().await {
                Ok(followed) => {
                    self.metrics.is_in_step(SystemClock.now());
                    trouble.over(|row| tracing::info!(path = %self.path().display(), after = %row.lasting, "following again"));
                    newest = followed.or(newest);
                    interval
                }
                Err(error) => {
                    self.metrics.errors.add(1);
                    trouble.failed(|row| {
                        tracing::warn!(path = %self.path().display(), txid = %self.mark.txid, %error, since = %row.lasting, "cannot follow");
                    })
                }
            };
            if reported.elapsed() >= REPORT
                && let Some(Followed { txid, lag, .. }) = newest.take()
            {
                tracing::info!(path = %self.path().display(), %txid, lag = %Age(lag), "following");
                reported = Instant::now();
            }
            sleep(pause).await;
        }
    }

    /// Brings the copy to the newest state, in one transaction; `None` if it is there.
    pub async fn step(&mut self) -> Result<Option<Followed>, EngineError> {
        let way = self.look().await?;
        let applied = match way {
            Way::Nothing => return Ok(None),
            Way::Behind(newest) => return Err(self.is_behind(newest)),
            Way::Changes(files) => self.apply(files, Some(self.mark)).await,
            Way::Anew(files) => {
                tracing::info!(path = %self.path().display(), txid = %self.mark.txid, "what comes next is gone, going on from a snapshot");
                self.apply(files, None).await
            }
        };
        if let Err(EngineError::Damaged { level, txids, .. }) = &applied {
            // The next look finds other files that lead on, if there are any.
            self.lost.push((*level, *txids));
            self.looked = None;
        }
        let applied = match applied? {
            Some(applied) => applied,
            None => self.replace().await?,
        };
        self.lost.clear();
        let followed = self.followed(applied);
        self.metrics.steps.add(1);
        self.metrics.is_at(followed.txid);
        self.metrics.is_of(followed.created_at);
        tracing::debug!(path = %self.path().display(), txid = %followed.txid, lag = ?followed.lag, "followed");
        Ok(Some(followed))
    }

    fn path(&self) -> &Path {
        &self.options.output
    }

    fn is_behind(&self, newest: Txid) -> EngineError {
        EngineError::Output(format!(
            "cannot follow, {} is in state {} and the replica ends at {newest}. Use -force to restore it anew",
            self.path().display(),
            self.mark.txid
        ))
    }

    async fn look(&mut self) -> Result<Way, EngineError> {
        let at = self.mark.txid;
        let is_time = self.looked.is_none_or(|looked| looked.elapsed() >= THOROUGH);
        if self.lost.is_empty() {
            match way::at_a_glance(&*self.client, at).await? {
                Some(Way::Nothing) if is_time => {}
                Some(way) => return Ok(way),
                None => {}
            }
        }
        self.looked = Some(Instant::now());
        let way = way::thoroughly(&*self.client, at, &self.lost).await?;
        if matches!(way, Way::Nothing | Way::Behind(_)) && !self.lost.is_empty() {
            // Without them nothing leads on, so they are tried again.
            self.lost.clear();
            return way::thoroughly(&*self.client, at, &[]).await;
        }
        Ok(way)
    }

    /// Applies files to the copy: onto the state `at`, or else in place of whatever it is in. `None` if the pages have
    /// another size.
    async fn apply(
        &mut self,
        files: Vec<FileInfo>,
        at: Option<Mark>,
    ) -> Result<Option<Applied>, EngineError> {
        let mut copy = match self.copy.take() {
            Some(copy) => copy,
            None => open(self.path()).await?,
        };
        let files = Files::new(Arc::clone(&self.client), files, Handle::current());
        let apply = move || {
            let applied = apply::apply(&mut copy, at, files);
            (copy, applied)
        };
        let (copy, applied) = spawn_blocking(apply).await?;
        self.copy = Some(copy);
        if let Ok(Some(applied)) = &applied {
            self.mark = applied.mark;
        }
        applied
    }

    /// Puts a new copy in the place of the one that is there: SQLite cannot change the size of pages beside readers, who
    /// go on with what they have open.
    async fn replace(&mut self) -> Result<Applied, EngineError> {
        tracing::info!(path = %self.path().display(), "the page size has changed, restoring the copy anew");
        self.copy = None;
        let options = RestoreOptions { overwrite: true, ..self.options.clone() };
        let restored = restore_as(Arc::clone(&self.client), &options, &Unwatched, Marked::Yes).await?;
        let (copy, mark) = standing::of(&self.client, &options.output, options.parallelism).await?;
        (self.copy, self.mark) = (Some(copy), mark);
        Ok(Applied { mark, created_at: restored.created_at })
    }

    fn followed(&self, applied: Applied) -> Followed {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let captured =
            Duration::from_millis(u64::try_from(applied.created_at.as_millis()).unwrap_or_default());
        Followed {
            txid: applied.mark.txid,
            created_at: applied.created_at,
            lag: now.saturating_sub(captured),
        }
    }
}

async fn open(path: &Path) -> Result<LocalCopy, EngineError> {
    let path = path.to_owned();
    spawn_blocking(move || LocalCopy::open(&path)).await?
}
