//! Which file has the newest version of each page, and which bytes to fetch for it.
//!
//! Invariant: [`newest_pages`] gives every page that any file holds once, in order, from the newest file that
//! holds it. Memory is the encoded indexes and the pages of a few requests.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::iter::Peekable;
use std::ops::Range;

use walstream_ltx::index::Entries;
use walstream_ltx::{Commit, IndexEntry, PageIndex, PageSize, Pgno};

/// Unwanted bytes between two wanted ones that are cheaper to fetch than to leave out with another request.
pub(super) const HOLE: u64 = 128 << 10;
/// Pages that may wait for their request to fill up, over all files.
const MAX_WAITING: usize = 1 << 19;

/// The newest version of every page inside the database: the position of its file in `indexes` (oldest
/// first) and where it is there.
pub(super) fn newest_pages<I: Borrow<PageIndex>>(
    indexes: &[I],
    commit: Commit,
) -> impl Iterator<Item = (usize, IndexEntry)> {
    let mut walk = Walk::new(indexes);
    std::iter::from_fn(move || walk.next_page()).take_while(move |(_, entry)| commit.contains(entry.pgno))
}

/// The bytes of all newest pages, or the first page that no file holds.
pub(super) fn survey<I: Borrow<PageIndex>>(
    indexes: &[I],
    page_size: PageSize,
    commit: Commit,
) -> Result<u64, Pgno> {
    let mut found = newest_pages(indexes, commit);
    commit.pages(page_size).try_fold(0, |bytes: u64, wanted| match found.next() {
        Some((_, entry)) if entry.pgno == wanted => Ok(bytes + u64::from(entry.size)),
        _ => Err(wanted),
    })
}

/// A walk through all indexes at once, page by page.
struct Walk<'a> {
    files: Vec<Peekable<Entries<'a>>>,
    /// The page that each file is at: lowest page first, newest file first.
    heads: BinaryHeap<Reverse<(Pgno, Reverse<usize>)>>,
}

impl<'a> Walk<'a> {
    fn new<I: Borrow<PageIndex>>(indexes: &'a [I]) -> Self {
        let files = indexes.iter().map(|index| index.borrow().iter().peekable()).collect();
        let mut walk = Walk { files, heads: BinaryHeap::with_capacity(indexes.len()) };
        (0..indexes.len()).for_each(|file| walk.push_head(file));
        walk
    }

    fn push_head(&mut self, file: usize) {
        if let Some(entry) = self.files[file].peek() {
            self.heads.push(Reverse((entry.pgno, Reverse(file))));
        }
    }

    fn next_page(&mut self) -> Option<(usize, IndexEntry)> {
        let Reverse((pgno, Reverse(newest))) = self.heads.pop()?;
        let entry = self.files[newest].next()?;
        self.push_head(newest);
        while let Some(&Reverse((_, Reverse(older)))) = self.heads.peek().filter(|head| head.0.0 == pgno) {
            self.heads.pop();
            self.files[older].next();
            self.push_head(older);
        }
        Some((newest, entry))
    }
}

/// One request: a range of a file and the wanted pages in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Position of the file in the plan.
    pub(super) file: usize,
    /// First wanted byte.
    pub(super) start: u64,
    /// The pages, in order.
    pub(super) pages: Vec<IndexEntry>,
}

impl Piece {
    /// The bytes to fetch.
    pub(super) fn range(&self) -> Range<u64> {
        self.start..self.pages.last().map_or(self.start, IndexEntry::end)
    }

    fn accepts(&self, entry: &IndexEntry, longest: u64, hole: u64) -> bool {
        entry.offset - self.range().end <= hole && entry.end() - self.start <= longest
    }
}

/// Gathers pages of several files into requests of a few megabytes each.
pub(super) struct Pieces<I> {
    pages: I,
    /// The request that each file is gathering.
    open: Vec<Option<Piece>>,
    /// Bytes of a request.
    longest: u64,
    /// Unwanted bytes between two wanted ones that are fetched all the same.
    hole: u64,
    waiting: usize,
    full: VecDeque<Piece>,
}

impl<I: Iterator<Item = (usize, IndexEntry)>> Pieces<I> {
    /// Gathers `pages` of `files` files into requests of some `longest` bytes.
    pub(super) fn new(pages: I, files: usize, longest: u64) -> Self {
        let open = std::iter::repeat_with(|| None).take(files).collect();
        Pieces { pages, open, longest, hole: HOLE, waiting: 0, full: VecDeque::new() }
    }

    /// Leaves out what is unwanted from so many bytes on.
    pub(super) fn with_hole(self, hole: u64) -> Self {
        Pieces { hole, ..self }
    }

    fn add(&mut self, file: usize, entry: IndexEntry) {
        self.waiting += 1;
        match &mut self.open[file] {
            Some(piece) if piece.accepts(&entry, self.longest, self.hole) => piece.pages.push(entry),
            slot => {
                let piece = Piece { file, start: entry.offset, pages: vec![entry] };
                self.full.extend(slot.replace(piece));
            }
        }
        if self.waiting >= MAX_WAITING {
            self.close_all();
        }
    }

    fn close_all(&mut self) {
        self.full.extend(self.open.iter_mut().filter_map(Option::take));
        self.waiting = 0;
    }
}

impl<I: Iterator<Item = (usize, IndexEntry)>> Iterator for Pieces<I> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        while self.full.is_empty() {
            match self.pages.next() {
                Some((file, entry)) => self.add(file, entry),
                None => {
                    self.close_all();
                    break;
                }
            }
        }
        self.full.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: u64 = 1 << 20;

    /// An index with these pages and sizes of their frames.
    fn index(pages: &[(u32, u64)]) -> PageIndex {
        let mut bytes = Vec::new();
        let mut varint = |mut value: u64| {
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        };
        let mut offset = 100;
        for &(pgno, size) in pages {
            [u64::from(pgno), offset, size].into_iter().for_each(&mut varint);
            offset += size;
        }
        varint(0);
        PageIndex::parse(&bytes).unwrap()
    }

    fn pieces(indexes: &[PageIndex], commit: u32) -> Vec<(usize, Range<u64>, Vec<u32>)> {
        Pieces::new(newest_pages(indexes, Commit::new(commit)), indexes.len(), RANGE)
            .map(|piece| {
                (piece.file, piece.range(), piece.pages.iter().map(|entry| entry.pgno.get()).collect())
            })
            .collect()
    }

    #[test]
    fn each_page_comes_from_the_newest_file_that_holds_it() {
        let indexes =
            [index(&[(1, 10), (2, 10), (3, 10), (7, 10)]), index(&[(2, 20), (4, 20)]), index(&[(2, 30)])];
        let newest: Vec<(usize, u32)> =
            newest_pages(&indexes, Commit::new(4)).map(|(file, entry)| (file, entry.pgno.get())).collect();
        assert_eq!(newest, [(0, 1), (2, 2), (0, 3), (1, 4)], "page 7 was cut off");
    }

    #[test]
    fn what_lies_near_is_fetched_together() {
        let indexes = [index(&[(1, 10), (2, 10), (3, 10)]), index(&[(2, 20)])];
        assert_eq!(pieces(&indexes, 3), [(0, 100..130, vec![1, 3]), (1, 100..120, vec![2])]);
    }

    #[test]
    fn large_holes_and_long_ranges_are_split() {
        let indexes = [index(&[(1, 10), (2, 2 * HOLE), (3, 10)]), index(&[(2, 20)])];
        let hole_end = 110 + 2 * HOLE;
        let split = pieces(&indexes, 3);
        assert_eq!(split[0], (0, 100..110, vec![1]));
        assert!(split.contains(&(0, hole_end..hole_end + 10, vec![3])));

        let many: Vec<(u32, u64)> = (1..=100).map(|pgno| (pgno, RANGE / 10)).collect();
        let ranges = pieces(&[index(&many)], 100);
        assert_eq!(ranges.len(), 10);
        assert!(ranges.iter().all(|(_, range, _)| range.end - range.start <= RANGE));
        assert_eq!(ranges.iter().map(|(_, _, pages)| pages.len()).sum::<usize>(), 100);
    }

    #[test]
    fn the_lock_page_may_be_missing_but_no_other() {
        let page_size = PageSize::MAX;
        let lock = page_size.lock_pgno().get();
        let all: Vec<(u32, u64)> =
            (1..=lock + 2).filter(|&pgno| pgno != lock).map(|pgno| (pgno, 10)).collect();
        let commit = Commit::new(lock + 2);
        assert_eq!(survey(&[index(&all)], page_size, commit), Ok(u64::from(lock + 1) * 10));
        let without =
            |gone: u32| index(&all.iter().copied().filter(|&(pgno, _)| pgno != gone).collect::<Vec<_>>());
        for gone in [1, 77, lock - 1, lock + 1, lock + 2] {
            assert_eq!(survey(&[without(gone)], page_size, commit), Err(Pgno::new(gone).unwrap()));
            assert!(survey(&[without(gone), index(&[(gone, 10)])], page_size, commit).is_ok());
        }
    }
}
