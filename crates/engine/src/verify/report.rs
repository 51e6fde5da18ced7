//! What a look at a replica comes to.

use walstream_ltx::{Level, Txid, TxidRange};
use walstream_storage::FileInfo;

use super::chain::{State, Stretch};
use super::levels::Finding;
use crate::restore::Restored;
pub use crate::restore::v3::{LegacyDamage, LegacyReport};

/// A file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: FileInfo,
    /// What is wrong with it.
    pub reason: String,
}

/// Two whole files that are not of the same history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// The state about which they disagree.
    pub txid: Txid,
    /// Level and TXIDs of the one.
    pub one: (Level, TxidRange),
    /// Level and TXIDs of the other.
    pub other: (Level, TxidRange),
}

/// How much a level holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelCount {
    /// The level.
    pub level: Level,
    /// Its files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// The restored database, or why there is none.
pub type Deep = Result<Restored, String>;

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The replica.
    pub location: String,
    /// What was read, for each level that holds anything.
    pub levels: Vec<LevelCount>,
    /// Files that carry no checksum of the whole database, such as Litestream's; only their own proves them.
    pub without_digest: usize,
    /// Files that are not what was written.
    pub damaged: Vec<Damage>,
    /// States about which files disagree.
    pub disagreements: Vec<Disagreement>,
    /// What is odd about the names. It matters only where it makes a hole.
    pub findings: Vec<Finding>,
    /// The states that can be restored, oldest first.
    pub stretches: Vec<Stretch>,
    /// TXIDs that no file holds.
    pub holes: Vec<TxidRange>,
    /// States that the listing promises and that cannot be restored.
    pub unreachable: Vec<Txid>,
    /// The newest state in the listing; zero if there is none.
    pub listed: Txid,
    /// The newest state that sound files hold every page of.
    pub newest: Option<State>,
    /// A replica of Litestream 0.3 in the same place.
    pub legacy: Option<LegacyReport>,
    /// What came of a restore, if one was asked for.
    pub deep: Option<Deep>,
}

impl Report {
    /// Files that were read.
    pub fn files(&self) -> usize {
        self.levels.iter().map(|level| level.files).sum()
    }

    /// Whether the newest state in the listing can be restored.
    pub fn has_newest(&self) -> bool {
        self.newest.map_or(Txid::ZERO, |state| state.txid) == self.listed
    }

    /// What is wrong with the replica, in one sentence; nothing if all is sound.
    pub fn problem(&self) -> Option<String> {
        let mut problems = Vec::new();
        if !self.damaged.is_empty() {
            problems.push(format!("{} damaged", of(self.damaged.len(), self.files(), "file")));
        }
        if !self.disagreements.is_empty() {
            problems.push("files of different histories are mixed".to_owned());
        }
        if !self.unreachable.is_empty() {
            let count = self.unreachable.len();
            problems.push(format!("{count} listed {} cannot be restored", plural(count, "state")));
        }
        if !self.has_newest() {
            problems.push(match self.newest {
                Some(State { txid, .. }) => {
                    format!("the newest state {} cannot be restored, only {txid} and older ones", self.listed)
                }
                None => "no state can be restored".to_owned(),
            });
        }
        problems.extend(self.legacy.as_ref().and_then(problem_of_legacy));
        if let Some(Err(reason)) = &self.deep {
            problems.push(format!("the restore failed: {reason}"));
        }
        match problems.is_empty() {
            true => None,
            false => Some(format!("replica {} is not sound: {}", self.location, problems.join("; "))),
        }
    }
}

fn problem_of_legacy(legacy: &LegacyReport) -> Option<String> {
    match (legacy.damaged.len(), legacy.holes.first()) {
        (0, None) => None,
        (0, Some(hole)) => Some(format!("the backup of Litestream 0.3 has a hole: {hole}")),
        (damaged, _) => {
            Some(format!("{} damaged in the backup of Litestream 0.3", of(damaged, legacy.objects, "object")))
        }
    }
}

/// "1 of 9 files is", "2 of 9 files are".
fn of(count: usize, all: usize, noun: &str) -> String {
    format!("{count} of {all} {} {}", plural(all, noun), if count == 1 { "is" } else { "are" })
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

/// Counts a listing, level by level.
pub(super) fn count(listing: &[FileInfo]) -> Vec<LevelCount> {
    let count = |level| {
        let files = || listing.iter().filter(move |file| file.level == level);
        let bytes = files().map(|file| file.size).fold(0, u64::saturating_add);
        LevelCount { level, files: files().count(), bytes }
    };
    Level::all().map(count).filter(|level| level.files > 0).collect()
}
