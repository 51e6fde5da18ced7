//! The order of the pages in a file.
//!
//! Invariant: page numbers grow, none lies beyond the commit, the lock page is never there, and a snapshot
//! leaves no other page out (format.md, "Page frames"). Writer, reader and index all ask here.

use crate::header::Header;
use crate::page::{Commit, Pgno};

/// Admits the pages of one file, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct PageOrder {
    commit: Commit,
    lock: Pgno,
    snapshot: bool,
    last: u32,
}

impl PageOrder {
    pub(crate) fn new(header: &Header) -> Self {
        PageOrder {
            commit: header.commit,
            lock: header.page_size.lock_pgno(),
            snapshot: header.is_snapshot(),
            last: 0,
        }
    }

    /// Takes the next page, if it may come here.
    pub(crate) fn admit(&mut self, pgno: Pgno) -> Result<(), OrderError> {
        if !self.commit.contains(pgno) {
            return Err(OrderError::BeyondCommit { pgno, commit: self.commit });
        }
        if pgno == self.lock {
            return Err(OrderError::LockPage(pgno));
        }
        if pgno.get() <= self.last {
            return Err(OrderError::NotIncreasing { pgno, after: self.last });
        }
        if self.snapshot && pgno.get() != self.successor() {
            return Err(OrderError::Missing { pgno: self.successor(), commit: self.commit });
        }
        self.last = pgno.get();
        Ok(())
    }

    /// Whether the file may end here.
    pub(crate) fn complete(&self) -> Result<(), OrderError> {
        let pgno = self.successor();
        if self.snapshot && pgno <= self.commit.get() {
            return Err(OrderError::Missing { pgno, commit: self.commit });
        }
        Ok(())
    }

    /// The page that a snapshot must bring next.
    fn successor(&self) -> u32 {
        let next = self.last.saturating_add(1);
        if next == self.lock.get() { next + 1 } else { next }
    }
}

/// A page that may not be where it is, or is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Outside of the database.
    #[error("page {pgno} lies beyond the database's {commit} pages")]
    BeyondCommit {
        /// The page.
        pgno: Pgno,
        /// Size of the database.
        commit: Commit,
    },
    /// SQLite's lock page is never stored.
    #[error("page {0} is the lock page, which is never stored")]
    LockPage(Pgno),
    /// Out of order, or twice.
    #[error("page {pgno} comes after page {after}; page numbers must grow")]
    NotIncreasing {
        /// The page.
        pgno: Pgno,
        /// The page before it.
        after: u32,
    },
    /// A snapshot with a hole.
    #[error("page {pgno} of {commit} is missing, but a snapshot holds every page")]
    Missing {
        /// The page.
        pgno: u32,
        /// Size of the database.
        commit: Commit,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(snapshot: bool, commit: u32, pages: &[u32]) -> Result<(), OrderError> {
        let lock = Pgno::new(3).unwrap();
        let mut order = PageOrder { commit: Commit::new(commit), lock, snapshot, last: 0 };
        pages.iter().try_for_each(|&pgno| order.admit(Pgno::new(pgno).unwrap()))?;
        order.complete()
    }

    #[test]
    fn a_snapshot_holds_every_page_but_the_lock_page() {
        assert_eq!(order(true, 5, &[1, 2, 4, 5]), Ok(()));
        assert_eq!(order(true, 3, &[1, 2]), Ok(()));
        assert!(matches!(order(true, 5, &[1, 4, 5]), Err(OrderError::Missing { pgno: 2, .. })));
        assert!(matches!(order(true, 5, &[1, 2, 4]), Err(OrderError::Missing { pgno: 5, .. })));
        assert!(matches!(order(true, 5, &[1, 2, 3]), Err(OrderError::LockPage(_))));
    }

    #[test]
    fn a_change_holds_some_pages_in_order() {
        assert_eq!(order(false, 5, &[]), Ok(()));
        assert_eq!(order(false, 5, &[2, 5]), Ok(()));
        assert!(matches!(order(false, 5, &[2, 2]), Err(OrderError::NotIncreasing { .. })));
        assert!(matches!(order(false, 5, &[6]), Err(OrderError::BeyondCommit { .. })));
        assert!(matches!(order(false, u32::MAX, &[u32::MAX, 1]), Err(OrderError::NotIncreasing { .. })));
    }
}
