//! Pages of a SQLite database: their size, their numbers, how many there are.

use std::fmt;

/// Size of a database page in bytes: a power of two from 512 to 65536.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// The largest page size that SQLite knows.
    pub const MAX: PageSize = PageSize(65536);

    /// A page size from bytes; `None` if SQLite does not know it.
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= 512 && bytes <= 65536 { Some(PageSize(bytes)) } else { None }
    }

    /// In bytes.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// In bytes, for indexing.
    pub const fn bytes(self) -> usize {
        self.0 as usize
    }

    /// The page that holds the byte at 1 GiB, where SQLite keeps its file locks. It is never stored, never
    /// part of a checksum, and zero-filled on restore (format.md, "Lock page").
    pub const fn lock_pgno(self) -> Pgno {
        Pgno(0x4000_0000 / self.0 + 1)
    }

    /// Byte offset of a page in the database file.
    pub const fn offset_of(self, pgno: Pgno) -> u64 {
        (pgno.0 as u64 - 1) * self.0 as u64
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a page, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pgno(u32);

impl Pgno {
    /// The page with the database header.
    pub const FIRST: Pgno = Pgno(1);

    /// A page number; `None` for 0, which no page has.
    pub const fn new(value: u32) -> Option<Self> {
        if value == 0 { None } else { Some(Pgno(value)) }
    }

    /// The raw number, at least 1.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Position in a zero-based array of pages.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }
}

impl fmt::Display for Pgno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Size of a database in pages, as of one commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit(u32);

impl Commit {
    /// Wraps a number of pages; 0 is a database without content.
    pub const fn new(pages: u32) -> Self {
        Commit(pages)
    }

    /// The number of pages, which is also the number of the last page.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether a page lies inside the database.
    pub const fn contains(self, pgno: Pgno) -> bool {
        pgno.0 <= self.0
    }

    /// Every page number inside the database in order, the lock page left out.
    pub fn pages(self, page_size: PageSize) -> impl Iterator<Item = Pgno> {
        let lock = page_size.lock_pgno();
        (1..=self.0).map(Pgno).filter(move |&pgno| pgno != lock)
    }

    /// How many pages [`Commit::pages`] yields: what a snapshot of this size must hold.
    pub const fn stored_pages(self, page_size: PageSize) -> u32 {
        if self.contains(page_size.lock_pgno()) { self.0 - 1 } else { self.0 }
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_page_is_the_page_at_one_gibibyte() {
        for (size, lock) in [(512, 2_097_153), (4096, 262_145), (65536, 16_385)] {
            assert_eq!(PageSize::new(size).unwrap().lock_pgno().get(), lock);
        }
    }

    #[test]
    fn a_snapshot_leaves_the_lock_page_out() {
        let size = PageSize::MAX;
        assert_eq!(Commit::new(16_384).stored_pages(size), 16_384);
        assert_eq!(Commit::new(16_386).stored_pages(size), 16_385);
        assert_eq!(Commit::new(16_386).pages(size).count(), 16_385);
    }
}
