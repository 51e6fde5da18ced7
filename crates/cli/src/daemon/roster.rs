//! The databases of a daemon: which ones there are, how each is replicated, and which of them are stopped.
//!
//! Invariant: the list and the orders to the fleet change together, under one lock; nobody waits under it for what an order
//! brings about. A database that is stopped stays in the list.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use walstream_engine::clock::{Clock, SystemClock};
use walstream_engine::metrics::{Standing, Unready};
use walstream_engine::{Fleet, LocalState, Released, Shipped};
use walstream_ltx::{Timestamp, Txid};

use super::{log_replica, options};
use crate::config::{DatabaseConfig, Defaults};
use crate::error::CliError;
use crate::http::Observed;

/// The list. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Roster {
    fleet: Fleet,
    observed: Observed,
    listed: Arc<Mutex<Listed>>,
}

struct Listed {
    databases: BTreeMap<PathBuf, Member>,
    defaults: Defaults,
}

struct Member {
    config: DatabaseConfig,
    /// Since when nobody replicates it, where that was asked for.
    stopped: Option<Stopped>,
    /// By a command, so that it is in no file.
    registered: bool,
}

/// What is remembered of a database that was stopped.
#[derive(Clone, Copy)]
struct Stopped {
    synced_at: Option<Timestamp>,
}

/// What a database is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Replicating,
    Stopped,
}

/// A line of the list.
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) doing: Doing,
    /// Everything that was committed until then is on the replica.
    pub(crate) synced_at: Option<Timestamp>,
}

/// Why something cannot be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RosterError {
    #[error("database not found: {}", .0.display())]
    Unknown(PathBuf),
    #[error("database not open: {}{reason}", path.display())]
    NotOpen { path: PathBuf, reason: String },
    #[error("invalid replica url: {0}")]
    Replica(String),
    #[error("{0}")]
    Failed(String),
}

impl From<CliError> for RosterError {
    fn from(error: CliError) -> Self {
        RosterError::Failed(error.to_string())
    }
}

/// What a file asks for in place of what there is.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) added: usize,
    pub(super) removed: usize,
    pub(super) changed: usize,
}

impl Roster {
    /// What a fleet was started with.
    pub(super) fn new(
        fleet: Fleet,
        observed: Observed,
        started: &[DatabaseConfig],
        defaults: Defaults,
    ) -> Self {
        let member = |config: &DatabaseConfig| (config.path.clone(), Member::of_file(config.clone()));
        let listed = Listed { databases: started.iter().map(member).collect(), defaults };
        Roster { fleet, observed, listed: Arc::new(Mutex::new(listed)) }
    }

    pub(super) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// Takes a database that has appeared in a watched directory.
    pub(super) async fn appeared(&self, config: DatabaseConfig) -> Result<(), CliError> {
        let mut listed = self.listed.lock().await;
        let options = options(&config, &self.observed.traffic)?;
        tracing::info!(path = %config.path.display(), "database found");
        log_replica(&config);
        self.fleet.add(options).await;
        listed.databases.insert(config.path.clone(), Member::of_file(config));
        Ok(())
    }

    /// Releases one that is gone.
    pub(super) async fn vanished(&self, path: PathBuf) {
        let mut listed = self.listed.lock().await;
        listed.databases.remove(&path);
        drop(self.fleet.remove(path, Fleet::RELEASE_TIME).await);
    }

    /// Those that are not in the list.
    pub(super) async fn unknown<'a>(&self, databases: &'a [DatabaseConfig]) -> Vec<&'a DatabaseConfig> {
        let listed = self.listed.lock().await;
        databases.iter().filter(|database| !listed.databases.contains_key(&database.path)).collect()
    }

    /// Takes what a file says now in place of what it said before. What was registered stays; what is stopped stays
    /// stopped. An error changes nothing.
    pub(super) async fn replace(
        &self,
        wanted: Vec<DatabaseConfig>,
        defaults: Defaults,
    ) -> Result<Changes, CliError> {
        let mut listed = self.listed.lock().await;
        let is_same = |config: &DatabaseConfig| {
            listed.databases.get(&config.path).is_some_and(|member| member.config == *config)
        };
        let fresh: Vec<DatabaseConfig> = wanted.iter().filter(|config| !is_same(config)).cloned().collect();
        let mut begin = Vec::new();
        for config in fresh {
            // What the file says of its own databases was looked at when it was read.
            listed.check_place(&config, |other| other.registered)?;
            begin.push((options(&config, &self.observed.traffic)?, config));
        }
        let paths: HashSet<&Path> = wanted.iter().map(|config| config.path.as_path()).collect();
        let is_gone =
            |(path, member): &(&PathBuf, &Member)| !member.registered && !paths.contains(path.as_path());
        let gone: Vec<PathBuf> =
            listed.databases.iter().filter(is_gone).map(|(path, _)| path.clone()).collect();
        let mut changes = Changes { removed: gone.len(), ..Changes::default() };
        for path in gone {
            listed.databases.remove(&path);
            drop(self.fleet.remove(path, Fleet::RELEASE_TIME).await);
        }
        for (options, config) in begin {
            let before = listed.databases.remove(&config.path);
            changes.added += usize::from(before.is_none());
            changes.changed += usize::from(before.is_some());
            let stopped = before.and_then(|member| member.stopped);
            if stopped.is_none() {
                // One that is being replicated is opened anew when it is closed.
                drop(self.fleet.remove(config.path.clone(), Fleet::RELEASE_TIME).await);
                log_replica(&config);
                self.fleet.add(options).await;
            }
            listed.databases.insert(config.path.clone(), Member { stopped, ..Member::of_file(config) });
        }
        for config in &wanted {
            if let Some(member) = listed.databases.get_mut(&config.path) {
                member.registered = false;
            }
        }
        listed.defaults = defaults;
        Ok(changes)
    }

    /// Begins to replicate a database of the list; false: it is being replicated.
    pub(crate) async fn start(&self, path: &Path) -> Result<bool, RosterError> {
        let mut listed = self.listed.lock().await;
        let member = listed.member(path)?;
        let began = self.fleet.add(options(&member.config, &self.observed.traffic)?).await;
        member.stopped = None;
        if began {
            log_replica(&member.config);
        }
        Ok(began)
    }

    /// Ends the replication of a database with a last sync, for as long as `within`; false: it has ended before.
    pub(crate) async fn stop(&self, path: &Path, within: Duration) -> Result<bool, RosterError> {
        let synced_at = self.synced_at(path).await;
        let mut listed = self.listed.lock().await;
        let member = listed.member(path)?;
        if member.stopped.is_some() {
            return Ok(false);
        }
        member.stopped = Some(Stopped { synced_at });
        let released = self.fleet.remove(path.to_owned(), within).await;
        drop(listed);
        self.shipped_to_the_end(path, released.await).await?;
        if let Some(Member { stopped: Some(stopped), .. }) = self.listed.lock().await.databases.get_mut(path)
        {
            stopped.synced_at = Some(SystemClock.now());
        }
        Ok(true)
    }

    /// Adds a database; false: it is in the list, wherever its replica may be.
    pub(crate) async fn register(&self, path: &Path, url: &str) -> Result<bool, RosterError> {
        let mut listed = self.listed.lock().await;
        if listed.databases.contains_key(path) {
            return Ok(false);
        }
        let config = listed.defaults.database(path.to_owned(), url);
        let config = config.map_err(|error| RosterError::Replica(error.to_string()))?;
        listed.check_place(&config, |_| true).map_err(|error| RosterError::Replica(error.to_string()))?;
        self.fleet.add(options(&config, &self.observed.traffic)?).await;
        tracing::info!(path = %path.display(), "database registered");
        log_replica(&config);
        listed.databases.insert(path.to_owned(), Member { config, stopped: None, registered: true });
        Ok(true)
    }

    /// Takes a database from the list after a last sync; false: it was not there. It is out of the list even if the sync
    /// fails. The TXID is the last that was captured.
    pub(crate) async fn unregister(
        &self,
        path: &Path,
        within: Duration,
    ) -> Result<Option<Txid>, RosterError> {
        let mut listed = self.listed.lock().await;
        let Some(member) = listed.databases.remove(path) else { return Ok(None) };
        let released = self.fleet.remove(path.to_owned(), within).await;
        drop(listed);
        tracing::info!(path = %path.display(), "database unregistered");
        self.shipped_to_the_end(path, released.await).await?;
        Ok(Some(local_txid(member.config.meta_path).await))
    }

    async fn shipped_to_the_end(&self, path: &Path, released: Released) -> Result<(), RosterError> {
        let Released::Unshipped(unshipped) = released else { return Ok(()) };
        let (path, reason) = (path.display(), unshipped.reason);
        Err(RosterError::Failed(format!("{path} is closed, but not everything is on its replica: {reason}")))
    }

    /// Captures what is committed in a database now.
    pub(crate) async fn sync(&self, path: &Path) -> Result<Txid, RosterError> {
        self.check_open(path).await?;
        self.fleet.sync(path.to_owned()).await.map_err(failed)
    }

    /// Waits until a TXID, or else everything that is committed now, is on the replica.
    pub(crate) async fn shipped(&self, path: &Path, txid: Option<Txid>) -> Result<Shipped, RosterError> {
        self.check_open(path).await?;
        self.fleet.shipped(path.to_owned(), txid).await.map_err(failed)
    }

    /// Brings a snapshot to the replica.
    pub(crate) async fn snapshot(&self, path: &Path) -> Result<Txid, RosterError> {
        self.check_open(path).await?;
        self.fleet.snapshot(path.to_owned()).await.map_err(failed)
    }

    async fn check_open(&self, path: &Path) -> Result<(), RosterError> {
        if self.listed.lock().await.member(path)?.stopped.is_some() {
            return Err(RosterError::NotOpen { path: path.to_owned(), reason: String::new() });
        }
        let not_open = |reason: String| {
            Err(RosterError::NotOpen { path: path.to_owned(), reason: format!(" ({reason})") })
        };
        match self.standing(path).await {
            Some(Standing { unready: Some(Unready::Stopped(reason)), .. }) => not_open(reason),
            Some(Standing { is_there: false, .. }) => not_open("there is no such file".to_owned()),
            _ => Ok(()),
        }
    }

    /// The newest captured TXID of a database of the list.
    pub(crate) async fn txid(&self, path: &Path) -> Result<Txid, RosterError> {
        let meta = self.listed.lock().await.member(path)?.config.meta_path.clone();
        Ok(local_txid(meta).await)
    }

    /// How far a database is that is being replicated.
    pub(crate) async fn standing(&self, path: &Path) -> Option<Standing> {
        let metrics = self.observed.metrics.known(path)?;
        tokio::task::spawn_blocking(move || metrics.standing(SystemClock.now())).await.ok()
    }

    /// Every database, in order of the paths.
    pub(crate) async fn list(&self) -> Vec<Entry> {
        let known: Vec<_> = {
            let listed = self.listed.lock().await;
            listed.databases.iter().map(|(path, member)| (path.clone(), member.stopped)).collect()
        };
        let mut entries = Vec::with_capacity(known.len());
        for (path, stopped) in known {
            let doing = if stopped.is_some() { Doing::Stopped } else { Doing::Replicating };
            let synced_at = match stopped {
                Some(stopped) => stopped.synced_at,
                None => self.synced_at(&path).await,
            };
            entries.push(Entry { path, doing, synced_at });
        }
        entries
    }

    async fn synced_at(&self, path: &Path) -> Option<Timestamp> {
        let standing = self.standing(path).await?;
        let lag = i64::try_from(standing.lag.as_millis()).ok()?;
        let is_known = standing.shipped.is_some() && standing.is_there;
        is_known.then(|| Timestamp::from_millis(SystemClock.now().as_millis().saturating_sub(lag)))
    }
}

impl Listed {
    /// An error if the replica of a database is that of another one, of those that matter.
    fn check_place(
        &self,
        config: &DatabaseConfig,
        matters: impl Fn(&Member) -> bool,
    ) -> Result<(), CliError> {
        let place = config.replica.place();
        let mut others = self.databases.values().filter(|other| other.config.path != config.path);
        let taken = others.find(|other| matters(other) && other.config.replica.place() == place);
        let taken = taken.map(|other| other.config.path.display());
        taken.map_or(Ok(()), |other| {
            let path = config.path.display();
            Err(CliError::new(format!("the replica of {path} is that of {other} already")))
        })
    }

    fn member(&mut self, path: &Path) -> Result<&mut Member, RosterError> {
        self.databases.get_mut(path).ok_or_else(|| RosterError::Unknown(path.to_owned()))
    }
}

impl Member {
    fn of_file(config: DatabaseConfig) -> Self {
        Member { config, stopped: None, registered: false }
    }
}

fn failed(error: walstream_engine::EngineError) -> RosterError {
    RosterError::Failed(error.to_string())
}

/// Nothing that can be read is nothing that was captured.
async fn local_txid(meta: PathBuf) -> Txid {
    let look = move || LocalState::at(&meta).txid().ok().flatten().unwrap_or(Txid::ZERO);
    tokio::task::spawn_blocking(look).await.unwrap_or(Txid::ZERO)
}
