//! CRC-64/GO-ISO checksums of pages, databases and files.
//!
//! Invariant: a [`Checksum`] always carries bit 63, so a stored zero means "no checksum" and nothing else
//! (format.md, "Checksums").

use std::fmt;

use crc_fast::{CrcAlgorithm, Digest};

use crate::page::Pgno;

const FLAG: u64 = 1 << 63;

/// A checksum as stored in a file: a CRC-64/GO-ISO with bit 63 set.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checksum(u64);

impl Checksum {
    /// The rolling checksum of a database without pages.
    pub const EMPTY: Checksum = Checksum(FLAG);

    /// Reads a stored value: `Ok(None)` for 0, an error for a value without bit 63.
    pub const fn from_stored(value: u64) -> Result<Option<Self>, InvalidChecksum> {
        match value {
            0 => Ok(None),
            v if v & FLAG != 0 => Ok(Some(Checksum(v))),
            v => Err(InvalidChecksum(v)),
        }
    }

    /// What a field holds for an optional checksum: 0 for none.
    pub(crate) const fn to_stored(checksum: Option<Self>) -> u64 {
        match checksum {
            None => 0,
            Some(checksum) => checksum.0,
        }
    }

    /// The value as stored, bit 63 set.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Adds a page to a rolling database checksum, or takes it out again: both are the same XOR.
    #[must_use]
    pub const fn toggle(self, page: Checksum) -> Checksum {
        Checksum((self.0 ^ page.0) | FLAG)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

/// A stored checksum without bit 63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checksum {0:016x} lacks its top bit")]
pub struct InvalidChecksum(pub u64);

/// Checksum of one page: its number (big-endian) and its bytes. LTX's own rolling checksum of a database is the
/// XOR of these over all pages but the lock page.
pub fn page_checksum(pgno: Pgno, page: &[u8]) -> Checksum {
    let mut hasher = Hasher::new();
    hasher.update(&pgno.get().to_be_bytes());
    hasher.update(page);
    hasher.finish()
}

/// Digest of one page for walstream's own database checksums ([`Lineage`](crate::Lineage)), which are the XOR of
/// these over all pages but the lock page.
///
/// It is the page checksum, mixed by a bijection that is not linear. A CRC is linear: the same change in two pages
/// changes both of their checksums by the same bits, and in an XOR of plain checksums the two cancel out. An
/// application that sets one flag in two rows does just that.
pub fn page_digest(pgno: Pgno, page: &[u8]) -> Checksum {
    let mut mixed = page_checksum(pgno, page).0;
    // The finalizer of SplitMix64.
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Checksum((mixed ^ (mixed >> 31)) | FLAG)
}

/// A running checksum over bytes, for the file checksum.
pub struct Hasher(Digest);

impl Hasher {
    /// Starts over nothing.
    pub fn new() -> Self {
        Hasher(Digest::new(CrcAlgorithm::Crc64GoIso))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything added so far.
    pub fn finish(&self) -> Checksum {
        Checksum(self.0.finalize() | FLAG)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Hasher::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_go_iso() {
        let mut hasher = Hasher::new();
        hasher.update(b"123456789");
        assert_eq!(hasher.finish().get(), 0xb909_56c7_75a4_1001 | FLAG);
    }

    #[test]
    fn toggling_a_page_twice_restores_the_rolling_checksum() {
        let page = page_checksum(Pgno::FIRST, &[7; 512]);
        let rolling = Checksum::EMPTY.toggle(page);
        assert_ne!(rolling, Checksum::EMPTY);
        assert_eq!(rolling.toggle(page), Checksum::EMPTY);
    }

    #[test]
    fn the_same_change_in_two_pages_cancels_in_checksums_but_not_in_digests() {
        let rolling = |one: fn(Pgno, &[u8]) -> Checksum, byte: u8| {
            let page = [byte; 512];
            let second = Pgno::new(2).unwrap();
            Checksum::EMPTY.toggle(one(Pgno::FIRST, &page)).toggle(one(second, &page))
        };
        assert_eq!(rolling(page_checksum, 2), rolling(page_checksum, 3));
        assert_ne!(rolling(page_digest, 2), rolling(page_digest, 3));
    }

    #[test]
    fn a_stored_zero_means_no_checksum() {
        assert_eq!(Checksum::from_stored(0), Ok(None));
        assert_eq!(Checksum::from_stored(5), Err(InvalidChecksum(5)));
        assert_eq!(Checksum::from_stored(FLAG), Ok(Some(Checksum::EMPTY)));
    }
}
