//! Which files a restore needs.
//!
//! Invariant: a chosen plan starts at TXID 1, every file continues or overlaps the one before it and reaches
//! further, and it ends exactly at the wanted state. Where TXIDs are missing the answer is an error that
//! names them, never an older state in silence.

use chrono::{DateTime, SecondsFormat};
use futures::future::try_join_all;
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{FileInfo, ReplicaClient, TimestampSource};

use crate::error::EngineError;

/// The state that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The newest.
    Latest,
    /// Exactly the one after this TXID.
    Txid(Txid),
    /// The newest at or before this time.
    At(Timestamp),
}

impl Target {
    /// Whether a file holds nothing newer than what is wanted.
    fn admits(self, file: &FileInfo) -> bool {
        match self {
            Target::Latest => true,
            Target::Txid(txid) => file.txids.max() <= txid,
            Target::At(time) => file.created_at <= time,
        }
    }

    /// Whether a file that lies behind a hole shows that something wanted is missing.
    fn wants_beyond(self, file: &FileInfo) -> bool {
        match self {
            Target::Txid(txid) => file.txids.min() <= txid,
            other => other.admits(file),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Latest => f.write_str("the latest state"),
            Target::Txid(txid) => write!(f, "TXID {txid}"),
            Target::At(time) => write!(f, "time {}", time_text(*time)),
        }
    }
}

/// Why no plan exists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The replica holds no file at all.
    #[error("the replica is empty")]
    Empty,
    /// Files reach `have`; wanted ones go on at `next`.
    #[error("files reach {have} and go on at {next}")]
    Gap {
        /// The last TXID before the hole.
        have: Txid,
        /// The first TXID after it.
        next: Txid,
    },
    /// The state is not among those that can be restored.
    #[error("{0}")]
    Unreachable(String),
}

/// The files to restore from, oldest first; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestorePlan {
    /// The files.
    pub files: Vec<FileInfo>,
}

impl RestorePlan {
    /// The state that the plan leads to.
    pub fn txid(&self) -> Txid {
        self.files.last().map_or(Txid::ZERO, |file| file.txids.max())
    }

    /// From the first TXID of the first file to the last of the last.
    pub fn txids(&self) -> Option<TxidRange> {
        TxidRange::new(self.files.first()?.txids.min(), self.txid())
    }

    /// When the state that the plan leads to was captured.
    pub fn created_at(&self) -> Timestamp {
        self.files.last().map_or(Timestamp::default(), |file| file.created_at)
    }

    /// Sum of the sizes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).fold(0, u64::saturating_add)
    }
}

/// Looks through every level of a replica, all at once, and chooses the files for `target`.
pub async fn plan(client: &dyn ReplicaClient, target: &Target) -> Result<RestorePlan, EngineError> {
    plan_without(client, target, &[]).await
}

/// [`plan`], as if the `lost` files were not there.
pub(super) async fn plan_without(
    client: &dyn ReplicaClient,
    target: &Target,
    lost: &[(Level, TxidRange)],
) -> Result<RestorePlan, EngineError> {
    let times = match target {
        Target::At(_) => TimestampSource::Exact,
        Target::Latest | Target::Txid(_) => TimestampSource::Listing,
    };
    let levels = try_join_all(Level::all().map(|level| client.list(level, Txid::FIRST, times))).await?;
    let mut listing: Vec<FileInfo> = levels.into_iter().flatten().collect();
    listing.retain(|file| !lost.contains(&(file.level, file.txids)));
    match choose(&listing, target) {
        Ok(files) => Ok(RestorePlan { files }),
        Err(error) => Err(located(error, client.location(), target)),
    }
}

fn located(error: PlanError, location: String, target: &Target) -> EngineError {
    match error {
        PlanError::Empty => EngineError::NoBackup { location },
        PlanError::Gap { have, next } => EngineError::Gap { location, have, next },
        PlanError::Unreachable(reason) => {
            EngineError::Unreachable { location, wanted: target.to_string(), reason }
        }
    }
}

/// Chooses from a listing of all levels, in any order, the files that lead to `target`, oldest first: the
/// newest snapshot that the target admits, then always the file that reaches furthest.
pub fn choose(listing: &[FileInfo], target: &Target) -> Result<Vec<FileInfo>, PlanError> {
    if listing.is_empty() {
        return Err(PlanError::Empty);
    }
    let admitted = || listing.iter().filter(|file| target.admits(file));
    let snapshot = admitted().filter(|file| is_full_snapshot(file)).max_by_key(|file| file.txids.max());
    let mut chosen: Vec<&FileInfo> = snapshot.into_iter().collect();
    chosen.extend(extend(admitted().filter(|file| file.level != Level::SNAPSHOT), end(&chosen)));

    let have = end(&chosen);
    let reach = reach(listing, target, have);
    let beyond = listing.iter().filter(|file| file.txids.min() > reach.next() && target.wants_beyond(file));
    if let Some(next) = beyond.map(|file| file.txids.min()).min() {
        return Err(if reach.is_zero() { no_beginning(next) } else { PlanError::Gap { have: reach, next } });
    }
    match target {
        Target::Txid(wanted) if have != *wanted || wanted.is_zero() => {
            Err(unreachable_txid(listing, *wanted, have, reach))
        }
        _ if chosen.is_empty() => Err(too_early(listing)),
        _ => Ok(chosen.into_iter().cloned().collect()),
    }
}

fn is_full_snapshot(file: &FileInfo) -> bool {
    file.level == Level::SNAPSHOT && file.txids.is_snapshot()
}

/// How far any files go on from `have`, wanted or not. What lies between is not missing: it was compacted
/// into a file that reaches too far. A later snapshot proves no such thing about the files before it.
fn reach(listing: &[FileInfo], target: &Target, have: Txid) -> Txid {
    let between_snapshots = matches!(target, Target::At(_)) && !have.is_zero();
    let files = listing.iter().filter(|file| !between_snapshots || file.level != Level::SNAPSHOT);
    extend(files, have).last().map_or(have, |file| file.txids.max())
}

/// The chain of files that reaches furthest from `have`, in as few files as possible. Among files that reach
/// equally far: the longest, then the highest level, then the oldest.
fn extend<'a>(files: impl Iterator<Item = &'a FileInfo>, have: Txid) -> Vec<&'a FileInfo> {
    let mut files: Vec<&FileInfo> = files.collect();
    files.sort_by_key(|file| file.txids.min());
    let mut files = files.into_iter().peekable();
    let mut chain: Vec<&FileInfo> = Vec::new();
    let mut have = have;
    let mut furthest: Option<&FileInfo> = None;
    loop {
        while let Some(file) = files.next_if(|file| file.txids.min() <= have.next()) {
            if furthest.is_none_or(|best| preference(file) > preference(best)) {
                furthest = Some(file);
            }
        }
        match furthest.filter(|file| file.txids.max() > have) {
            Some(file) => chain.push(file),
            None => return chain,
        }
        have = end(&chain);
    }
}

/// Orders files that continue a chain; the greatest is the best.
fn preference(file: &FileInfo) -> impl Ord {
    use std::cmp::Reverse;
    (file.txids.max(), Reverse(file.txids.min()), file.level, Reverse(file.created_at))
}

fn end(chain: &[&FileInfo]) -> Txid {
    chain.last().map_or(Txid::ZERO, |file| file.txids.max())
}

fn no_beginning(oldest: Txid) -> PlanError {
    let missing = match oldest.prev() {
        Txid::FIRST => format!("TXID {} is missing", Txid::FIRST),
        last => format!("TXIDs {} to {last} are missing", Txid::FIRST),
    };
    PlanError::Unreachable(format!(
        "{missing}, and no snapshot holds them; the oldest file starts at {oldest}"
    ))
}

fn too_early(listing: &[FileInfo]) -> PlanError {
    let beginnings = listing.iter().filter(|file| file.txids.is_snapshot());
    PlanError::Unreachable(match beginnings.map(|file| file.created_at).min() {
        Some(oldest) => format!("the oldest state that can be restored is of {}", time_text(oldest)),
        None => "no snapshot is that old".to_owned(),
    })
}

/// Why a TXID is no end of any chain, and which ones near it are. `have` is the last before it, `reach` the
/// last of all.
fn unreachable_txid(listing: &[FileInfo], wanted: Txid, have: Txid, reach: Txid) -> PlanError {
    if wanted.is_zero() {
        return PlanError::Unreachable(format!("TXIDs start at {}", Txid::FIRST));
    }
    if wanted > reach {
        return PlanError::Unreachable(format!("the newest is {reach}"));
    }
    let later = listing.iter().filter(|file| file.txids.max() > wanted && file.txids.min() <= have.next());
    let later = later.map(|file| file.txids.max()).min().unwrap_or(reach);
    let nearest = if have.is_zero() { format!("is {later}") } else { format!("are {have} and {later}") };
    PlanError::Unreachable(format!(
        "it was compacted into a longer file; the nearest that can be restored {nearest}"
    ))
}

/// RFC 3339 to the millisecond.
fn time_text(time: Timestamp) -> String {
    match DateTime::from_timestamp_millis(time.as_millis()) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Millis, true),
        None => format!("{} ms after 1970", time.as_millis()),
    }
}
