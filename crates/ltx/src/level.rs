//! Compaction levels.

use std::fmt;

/// The tier that a file belongs to: 0 holds one file per capture, 1…8 compactions, 9 full snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u8);

impl Level {
    /// One file per captured batch.
    pub const L0: Level = Level(0);
    /// Full snapshots, each from TXID 1.
    pub const SNAPSHOT: Level = Level(9);
    /// How many compaction levels a configuration may have (1…8).
    pub const MAX_COMPACTION_LEVELS: usize = 8;

    /// A level from its number; `None` above 9.
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 9 { Some(Level(value)) } else { None }
    }

    /// Every level, 0 first.
    pub fn all() -> impl DoubleEndedIterator<Item = Level> {
        (0..=9).map(Level)
    }

    /// The number, 0…9.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The level that compacts this one; `None` for 8 and for snapshots.
    pub const fn next(self) -> Option<Level> {
        if self.0 < 8 { Some(Level(self.0 + 1)) } else { None }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
