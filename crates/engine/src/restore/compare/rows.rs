//! How many rows there are, and how many more or fewer.
//!
//! Invariant: a number that is given is exact.

use walstream_ltx::Pgno;

use super::btree::{Shape, TreePage};
use super::changes::Changes;
use super::versions::{Side, Versions};
use super::walk::Entries;
use crate::error::EngineError;

/// The rows of a table in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// There is no such table.
    None,
    /// So many.
    Counted(u64),
    /// They were not counted, because for that the whole table would have to be read.
    Uncounted,
}

impl Rows {
    /// The number, if there is one.
    pub fn counted(self) -> Option<u64> {
        match self {
            Rows::Counted(rows) => Some(rows),
            Rows::None | Rows::Uncounted => None,
        }
    }
}

/// How many more rows there are after than before, if both are counted or the table is not there in one of them.
pub(super) fn change([before, after]: [Rows; 2]) -> Option<i64> {
    let number = |rows| match rows {
        Rows::None => Some(0),
        Rows::Counted(rows) => i64::try_from(rows).ok(),
        Rows::Uncounted => None,
    };
    let change = number(after)? - number(before)?;
    Some(change).filter(|_| (before, after) != (Rows::None, Rows::None))
}

/// The entries of a tree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    /// In either state, those in pages that are not the same in both.
    own: [u64; 2],
    /// Those in pages that are, if these were counted.
    shared: Option<u64>,
}

impl Count {
    /// Counts; what is the same in both states only if it takes no more than `most` pages.
    pub(super) async fn of(
        versions: &mut Versions,
        (changes, shapes): (&Changes, &[Shape; 2]),
        entries: &Entries,
        most: usize,
    ) -> Result<Count, EngineError> {
        let mut own = [0; 2];
        for side in Side::BOTH {
            let pages = &entries.own[side.index()];
            own[side.index()] = count(versions, (changes, shapes), side, pages).await?;
        }
        let shared = match entries.shared.as_deref().filter(|shared| shared.len() <= most) {
            Some(shared) => Some(count(versions, (changes, shapes), Side::After, shared).await?),
            None => None,
        };
        Ok(Count { own, shared })
    }

    /// All of one state.
    pub(super) fn rows(&self, side: Side) -> Rows {
        self.shared.map_or(Rows::Uncounted, |shared| Rows::Counted(self.own[side.index()] + shared))
    }

    /// How many more there are after than before.
    pub(super) fn change(&self) -> Option<i64> {
        let [before, after] = self.own.map(i64::try_from);
        Some(after.ok()? - before.ok()?)
    }
}

/// The entries in these pages of one state.
async fn count(
    versions: &mut Versions,
    (changes, shapes): (&Changes, &[Shape; 2]),
    side: Side,
    pages: &[Pgno],
) -> Result<u64, EngineError> {
    let mut total = 0;
    for pgnos in pages.chunks(versions.batch()) {
        let mut unread = Vec::new();
        for &pgno in pgnos {
            match changes.head(side, pgno) {
                Some(head) => total += head.cells(),
                None => unread.push((side, pgno)),
            }
        }
        let usable = shapes[side.index()].usable;
        for (&(_, pgno), page) in unread.iter().zip(versions.pages(&unread).await?) {
            let page = page.as_deref().and_then(|page| TreePage::parse(pgno, page, usable));
            total += page.map_or(0, |page| page.cells());
        }
    }
    Ok(total)
}
