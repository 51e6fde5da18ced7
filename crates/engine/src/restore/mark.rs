//! Where a followed copy of a database stands, noted in the copy itself.
//!
//! Invariant: the mark changes in the transaction that changes the pages, so it is true whatever happens. It is in bytes
//! 72 to 91 of page 1, which the file format reserves and SQLite carries along as they are
//! (<https://sqlite.org/fileformat2.html#the_database_header>). docs/format.md, "Followed copies", has the bytes.

use walstream_ltx::{Checksum, Txid};

/// Bytes of page 1 that hold the mark.
const PLACE: std::ops::Range<usize> = 72..92;
const MAGIC: &[u8] = b"wsF1";
/// Format versions in the header of page 1. 2 says that the database has a WAL.
const FORMAT_VERSIONS: std::ops::Range<usize> = 18..20;

/// The state that a copy is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Its TXID.
    pub(crate) txid: Txid,
    /// The digest of the database that was captured, if the replica tells it.
    pub(crate) digest: Option<Checksum>,
}

impl Mark {
    /// The header of a database, which has the mark.
    pub(crate) const HEADER_SIZE: usize = 100;

    /// Reads the mark of a page 1, if it has one.
    pub(crate) fn of(page: &[u8]) -> Option<Mark> {
        let (magic, numbers) = page.get(PLACE)?.split_at(MAGIC.len());
        let number = |at: usize| Some(u64::from_be_bytes(numbers.get(at..at + 8)?.try_into().ok()?));
        let txid = Txid::new(number(0)?);
        let digest = Checksum::from_stored(number(8)?).ok()?;
        (magic == MAGIC && !txid.is_zero()).then_some(Mark { txid, digest })
    }

    /// Makes a page 1 that was captured that of the copy.
    pub(crate) fn put(self, page: &mut [u8]) {
        let digest = self.digest.map_or(0, Checksum::get);
        let numbers = [self.txid.get().to_be_bytes(), digest.to_be_bytes()].concat();
        if let Some(place) = page.get_mut(PLACE) {
            place.copy_from_slice(&[MAGIC, numbers.as_slice()].concat());
        }
        if let Some(versions) = page.get_mut(FORMAT_VERSIONS) {
            versions.fill(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_put() {
        let mut page = vec![7; 512];
        assert_eq!(Mark::of(&page), None);
        for digest in [None, Some(Checksum::EMPTY)] {
            let mark = Mark { txid: Txid::new(0x1234), digest };
            mark.put(&mut page);
            assert_eq!(Mark::of(&page), Some(mark));
        }
        assert_eq!((page[71], page[92]), (7, 7));
        page[PLACE].fill(0);
        assert_eq!(Mark::of(&page), None);
        assert_eq!(Mark::of(&page[..80]), None);
    }
}
