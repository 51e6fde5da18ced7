//! Which file has the newest version of each page, and which bytes to fetch for it.
//!
//! Invariant: [`newest_pages`] gives every page that any file holds once, in order, from the newest file that
//! holds it. Memory is the encoded indexes and the pages of a few requests.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::iter::Peekable;
use std::ops::Range;

use walstream_ltx::index::Entries;
use walstream_ltx::{Commit, IndexEntry, PageIndex, PageSize, Pgno};

use super::fetch::RANGE;

/// Unwanted bytes between two wanted ones that are cheaper to fetch than to leave out with another request.
const HOLE: u64 = 128 << 10;
/// Pages that may wait for their request to fill up, over all files.
const MAX_WAITING: usize = 1 << 19;

/// The newest version of every page inside the database: the position of its file in `indexes` (oldest
/// first) and where it is there.
pub(super) fn newest_pages(
    indexes: &[PageIndex],
    commit: Commit,
) -> impl Iterator<Item = (usize, IndexEntry)> {
    let mut walk = Walk::new(indexes);
    std::iter::from_fn(move || walk.next_page()).take_while(move |(_, entry)| commit.contains(entry.pgno))
}

/// The bytes of all newest pages, or the first page that no file holds.
pub(super) fn survey(indexes: &[PageIndex], page_size: PageSize, commit: Commit) -> Result<u64, Pgno> {
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
    fn new(indexes: &'a [PageIndex]) -> Self {
        let files = indexes.iter().map(|index| index.iter().peekable()).collect();
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

    fn accepts(&self, entry: &IndexEntry) -> bool {
        entry.offset - self.range().end <= HOLE && entry.end() - self.start <= RANGE
    }
}

/// Gathers pages of several files into requests of a few megabytes each.
pub(super) struct Pieces<I> {
    pages: I,
    /// The request that each file is gathering.
    open: Vec<Option<Piece>>,
    waiting: usize,
    full: VecDeque<Piece>,
}

impl<I: Iterator<Item = (usize, IndexEntry)>> Pieces<I> {
    /// Gathers `pages` of `files` files.
    pub(super) fn new(pages: I, files: usize) -> Self {
        let open = std::iter::repeat_with(|| None).take(files).collect();
        Pieces { pages, open, waiting: 0, full: VecDeque::new() }
    }

    fn add(&mut self, file: usize, entry: IndexEntry) {
        self.waiting += 1;
        match &mut self.open[file] {
            Some(piece) if piece.accepts(&entry) => piece.pages.push(entry),
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
