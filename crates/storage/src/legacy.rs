//! Replicas that Litestream 0.3 wrote. They are read, never written (format.md, "Replicas of Litestream 0.3").
//!
//! Invariant: a [`LegacyObject`] has a name that 0.3 or 0.5 could have written; other names are not seen.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use walstream_ltx::Timestamp;

use crate::error::StorageError;

/// Folder of all generations, below the root of a replica.
pub(crate) const FOLDER: &str = "generations";

/// Where in a generation an object belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LegacyPart {
    /// The whole database as it was before the WAL of this index.
    Snapshot,
    /// Bytes of a WAL, from this offset on.
    Wal {
        /// Uncompressed bytes of the same WAL that come before.
        offset: u64,
    },
}

/// One object of a replica of version 0.3: an LZ4 frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyObject {
    /// Its name below the root of the replica.
    pub name: String,
    /// The unbroken stretch of history that it belongs to, 16 hexadecimal digits.
    pub generation: String,
    /// Number of the WAL in that generation, counted up with each restart of the WAL.
    pub index: u32,
    /// What it holds.
    pub part: LegacyPart,
    /// Its size in bytes.
    pub size: u64,
    /// When it was stored.
    pub created_at: Timestamp,
}

impl LegacyObject {
    /// An object by its name below the root; `None` for any other name.
    pub(crate) fn parse(name: &str, size: u64, created_at: Timestamp) -> Option<Self> {
        let (generation, file) = name.strip_prefix(FOLDER)?.strip_prefix('/')?.split_once('/')?;
        if !is_generation(generation) {
            return None;
        }
        let (index, part) = match file.split_once('/')? {
            ("snapshots", file) => (file.strip_suffix(".snapshot.lz4")?, LegacyPart::Snapshot),
            ("wal", file) => {
                let (index, offset) = file.strip_suffix(".wal.lz4")?.split_once('_')?;
                (index, LegacyPart::Wal { offset: hex(offset, 8..=16)? })
            }
            _ => return None,
        };
        let index = u32::try_from(hex(index, 8..=8)?).ok()?;
        let (name, generation) = (name.to_owned(), generation.to_owned());
        Some(LegacyObject { name, generation, index, part, size, created_at })
    }
}

/// Whether a folder of this name holds a generation.
pub(crate) fn is_generation(name: &str) -> bool {
    hex(name, 16..=16).is_some()
}

/// A number in so many lower-case hexadecimal digits.
fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u64> {
    let well_formed =
        digits.contains(&text.len()) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if well_formed { u64::from_str_radix(text, 16).ok() } else { None }
}

/// A store that may hold a replica of version 0.3.
#[async_trait]
pub trait LegacyStore: Send + Sync {
    /// Every object of every generation, in no particular order.
    async fn list_legacy(&self) -> Result<Vec<LegacyObject>, StorageError>;

    /// A range of bytes of an object, as [`ReplicaClient::read`](crate::ReplicaClient::read) gives them.
    async fn read_legacy(&self, object: &LegacyObject, range: Range<u64>) -> Result<Bytes, StorageError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_version_03() {
        let parse = |name: &str| LegacyObject::parse(name, 9, Timestamp::default());
        let folder = "generations/0ed0e5a977d64650";
        let snapshot = parse(&format!("{folder}/snapshots/0000002a.snapshot.lz4")).unwrap();
        assert_eq!((snapshot.index, snapshot.part), (42, LegacyPart::Snapshot));
        assert_eq!(snapshot.generation, "0ed0e5a977d64650");
        let long = parse(&format!("{folder}/wal/00000001_0000000100000020.wal.lz4")).unwrap();
        assert_eq!(long.part, LegacyPart::Wal { offset: (1 << 32) + 32 }, "beyond 4 GiB");
        for bad in [
            "generations/0ed0e5a977d64650/wal/00000001/00000020.wal.lz4",
            "generations/0ed0e5a977d64650/wal/00000001_20.wal.lz4",
            "generations/0ed0e5a977d64650/wal/00000001_00000020.wal.lz4.tmp",
            "generations/0ed0e5a977d64650/wal/0000000G_00000020.wal.lz4",
            "generations/0ed0e5a977d6465/snapshots/00000000.snapshot.lz4",
            "generations/../../snapshots/00000000.snapshot.lz4",
            "ltx/0/0000000000000001-0000000000000001.ltx",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
