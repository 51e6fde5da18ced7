//! The page index: where the frame of each page is, at the end of the file.
//!
//! Invariant: page numbers grow, frames lie one after the other from byte 100 on, and the bytes are the only
//! encoding of what they say. So an index can be kept as its bytes, about eight per page
//! (format.md, "Page index").

use crate::bytes::{Reader, push_varint};
use crate::frame;
use crate::header::Header;
use crate::order::{OrderError, PageOrder};
use crate::page::Pgno;

/// Bytes of the field after the index that says how long it is.
pub(crate) const INDEX_LENGTH_SIZE: usize = 8;
/// A lookup starts at the nearest of these and reads at most so many entries.
const STRIDE: u32 = 128;

/// Where a page's frame is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The page.
    pub pgno: Pgno,
    /// First byte of the frame.
    pub offset: u64,
    /// Length of the frame in bytes.
    pub size: u32,
}

impl IndexEntry {
    /// First byte after the frame.
    pub const fn end(&self) -> u64 {
        self.offset + self.size as u64
    }
}

/// The index of one file, checked and kept encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageIndex {
    bytes: Vec<u8>,
    len: u32,
    frames_end: u64,
    /// Every [`STRIDE`]th page and where its entry begins in `bytes`.
    marks: Vec<(Pgno, usize)>,
}

impl PageIndex {
    /// Reads an index: entries, then the zero that ends them.
    pub fn parse(bytes: &[u8]) -> Result<PageIndex, IndexError> {
        let mut builder = IndexBuilder::new();
        let mut rest = Reader(bytes);
        while let Some(entry) = read_entry(&mut rest)? {
            if entry.offset != builder.frames_end {
                return Err(IndexError::Offset { entry, expected: builder.frames_end });
            }
            builder.push(entry.pgno, entry.size)?;
        }
        let index = builder.finish();
        if index.bytes == bytes { Ok(index) } else { Err(IndexError::Encoding) }
    }

    /// The index as stored, its length field not included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The field that follows the index: its length.
    pub(crate) fn length_field(&self) -> [u8; INDEX_LENGTH_SIZE] {
        (self.bytes.len() as u64).to_be_bytes()
    }

    /// How many pages the file holds.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether the file holds no page.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// First byte after the last frame: where the end marker is.
    pub const fn frames_end(&self) -> u64 {
        self.frames_end
    }

    /// Every page, in order.
    pub fn iter(&self) -> Entries<'_> {
        Entries(Reader(&self.bytes))
    }

    /// Where a page is, if the file holds it.
    pub fn lookup(&self, pgno: Pgno) -> Option<IndexEntry> {
        let after = self.marks.partition_point(|&(mark, _)| mark <= pgno);
        let (_, start) = self.marks.get(after.checked_sub(1)?)?;
        Entries(Reader(&self.bytes[*start..]))
            .take_while(|entry| entry.pgno <= pgno)
            .find(|entry| entry.pgno == pgno)
    }

    /// Checks the pages against the header: order, bounds, and that a snapshot is whole. For an index that
    /// was read from the end of a file; the decoder does this by itself.
    pub fn check(&self, header: &Header) -> Result<(), IndexError> {
        let mut order = PageOrder::new(header);
        for entry in self.iter() {
            order.admit(entry.pgno)?;
            if entry.size as usize > frame::max_size(header.page_size) {
                return Err(IndexError::Size(entry));
            }
        }
        Ok(order.complete()?)
    }
}

impl<'a> IntoIterator for &'a PageIndex {
    type Item = IndexEntry;
    type IntoIter = Entries<'a>;

    fn into_iter(self) -> Entries<'a> {
        self.iter()
    }
}

/// The entries of an index, in order.
pub struct Entries<'a>(Reader<'a>);

impl Iterator for Entries<'_> {
    type Item = IndexEntry;

    fn next(&mut self) -> Option<IndexEntry> {
        read_entry(&mut self.0).ok()?
    }
}

/// The next entry, or `None` at the zero after the last.
fn read_entry(rest: &mut Reader<'_>) -> Result<Option<IndexEntry>, IndexError> {
    let mut field = || rest.varint().map_err(|_| IndexError::Encoding);
    let number = u32::try_from(field()?).map_err(|_| IndexError::Encoding)?;
    let Some(pgno) = Pgno::new(number) else { return Ok(None) };
    let offset = field()?;
    let size = u32::try_from(field()?).map_err(|_| IndexError::Encoding)?;
    Ok(Some(IndexEntry { pgno, offset, size }))
}

/// Collects the index while frames are written or read.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    bytes: Vec<u8>,
    len: u32,
    last: Option<Pgno>,
    frames_end: u64,
    marks: Vec<(Pgno, usize)>,
}

impl IndexBuilder {
    pub(crate) fn new() -> Self {
        IndexBuilder {
            bytes: Vec::new(),
            len: 0,
            last: None,
            frames_end: Header::SIZE as u64,
            marks: Vec::new(),
        }
    }

    /// Adds the frame that follows the last one.
    pub(crate) fn push(&mut self, pgno: Pgno, size: u32) -> Result<(), IndexError> {
        if self.last >= Some(pgno) || size as usize <= frame::HEADER_SIZE {
            return Err(IndexError::Entry { pgno, size });
        }
        let end = self.frames_end.checked_add(u64::from(size)).ok_or(IndexError::Entry { pgno, size })?;
        if self.len.is_multiple_of(STRIDE) {
            self.marks.push((pgno, self.bytes.len()));
        }
        push_varint(&mut self.bytes, u64::from(pgno.get()));
        push_varint(&mut self.bytes, self.frames_end);
        push_varint(&mut self.bytes, u64::from(size));
        self.last = Some(pgno);
        self.frames_end = end;
        self.len += 1;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> PageIndex {
        self.bytes.push(0);
        PageIndex { bytes: self.bytes, len: self.len, frames_end: self.frames_end, marks: self.marks }
    }
}

/// An index that is damaged, or does not belong to its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// Cut short, too long, or numbers that are not encoded the one way.
    #[error("page index is not well-formed")]
    Encoding,
    /// A page number that does not grow, or a frame too small to be one.
    #[error("page index is out of order or has an empty frame: page {pgno}, {size} bytes")]
    Entry {
        /// The page.
        pgno: Pgno,
        /// Length of its frame.
        size: u32,
    },
    /// A frame that does not follow the one before it.
    #[error(
        "page index places page {} at byte {}, but the frame before it ends at {expected}",
        entry.pgno, entry.offset
    )]
    Offset {
        /// The entry.
        entry: IndexEntry,
        /// Where the frame must begin.
        expected: u64,
    },
    /// A frame longer than any frame of this page size.
    #[error("page index gives page {} a frame of {} bytes, more than a page can take", .0.pgno, .0.size)]
    Size(IndexEntry),
    /// A page that the header does not allow.
    #[error("page index: {0}")]
    Order(#[from] OrderError),
    /// The frames end somewhere else than where the index begins.
    #[error("page index is at byte {start}, but its frames end at {frames_end}")]
    Position {
        /// Where the end marker before the index begins.
        start: u64,
        /// Where the last frame ends, by the index.
        frames_end: u64,
    },
    /// The index differs from the frames in the file.
    #[error("page index does not match the frames of the file")]
    Mismatch,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(pages: impl IntoIterator<Item = u32>) -> PageIndex {
        let mut builder = IndexBuilder::new();
        for pgno in pages {
            builder.push(Pgno::new(pgno).unwrap(), 10 + pgno % 500).unwrap();
        }
        builder.finish()
    }

    #[test]
    fn an_index_reads_back_and_finds_its_pages() {
        let index = index((1..1000).map(|n| n * 3));
        assert_eq!(PageIndex::parse(index.as_bytes()), Ok(index.clone()));
        assert_eq!((index.len(), index.iter().count()), (999, 999));
        for entry in &index {
            assert_eq!(index.lookup(entry.pgno), Some(entry));
            assert_eq!(index.lookup(Pgno::new(entry.pgno.get() + 1).unwrap()), None);
        }
        assert_eq!(index.lookup(Pgno::FIRST), None);
    }

    #[test]
    fn an_index_without_pages_is_one_zero() {
        let index = index([]);
        assert_eq!(index.as_bytes(), [0]);
        assert!(index.is_empty() && index.lookup(Pgno::FIRST).is_none());
    }

    #[test]
    fn there_is_only_one_encoding() {
        let whole = index([1, 2]);
        let bytes = whole.as_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(PageIndex::parse(&bytes[..cut]), Err(IndexError::Encoding), "cut at {cut}");
        }
        let overlong = [&[0x81, 0][..], &bytes[1..]].concat();
        assert_eq!(PageIndex::parse(&overlong), Err(IndexError::Encoding));
        let trailing = [bytes, &[0]].concat();
        assert_eq!(PageIndex::parse(&trailing), Err(IndexError::Encoding));
    }

    #[test]
    fn frames_lie_one_after_the_other() {
        assert!(matches!(PageIndex::parse(&[1, 101, 50, 0]), Err(IndexError::Offset { expected: 100, .. })));
        assert!(matches!(PageIndex::parse(&[1, 100, 6, 0]), Err(IndexError::Entry { .. })));
        assert!(matches!(PageIndex::parse(&[1, 100, 50, 1, 150, 1, 50, 0]), Err(IndexError::Entry { .. })));
    }
}
