//! Reading single pages of a file by its index, without reading the rest.
//!
//! Invariant: what the tail of a file says is checked as far as the tail alone allows; the index is to be
//! checked against the header with [`PageIndex::check`], and each page proves its own number and length.
//! Content is not proven here: that takes the file checksum, or the database's rolling checksum.

use crate::decode::DecodeError;
use crate::frame::{END_MARKER, Frame, FrameError};
use crate::header::Header;
use crate::index::{INDEX_LENGTH_SIZE, IndexEntry, IndexError, PageIndex};
use crate::page::{PageSize, Pgno};
use crate::trailer::Trailer;

/// How much of the end of a file to fetch at first; it holds the index of a file of some 4,500 pages.
pub const TAIL_GUESS: u64 = 32 * 1024;
/// Trailer and length of the index: where reading a file from its end begins.
const FOOT: usize = INDEX_LENGTH_SIZE + Trailer::SIZE;
/// The shortest file there is.
const MIN_FILE: u64 = (Header::SIZE + END_MARKER.len() + 1 + FOOT) as u64;

/// What the end of a file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The index is longer; so many bytes from the end of the file are needed.
    NeedMore(u64),
    /// Everything after the last frame.
    Complete {
        /// Where the pages are.
        index: PageIndex,
        /// The file's checksums.
        trailer: Trailer,
    },
}

/// Reads the index from the last bytes of a file of `file_size` bytes. Start with [`TAIL_GUESS`] bytes, or
/// the whole file if it is smaller.
pub fn parse_tail(tail: &[u8], file_size: u64) -> Result<Tail, DecodeError> {
    if file_size < MIN_FILE || tail.len() as u64 > file_size {
        return Err(DecodeError::Truncated { part: "file", offset: file_size });
    }
    let Some((rest, trailer)) = tail.split_last_chunk::<{ Trailer::SIZE }>() else {
        return Ok(Tail::NeedMore(FOOT as u64));
    };
    let Some((rest, length)) = rest.split_last_chunk::<INDEX_LENGTH_SIZE>() else {
        return Ok(Tail::NeedMore(FOOT as u64));
    };
    let trailer = Trailer::parse(trailer)?;
    let needed = u64::from_be_bytes(*length)
        .checked_add((FOOT + END_MARKER.len()) as u64)
        .filter(|&needed| needed <= file_size - Header::SIZE as u64)
        .ok_or(IndexError::Encoding)?;
    let Some(start) = (tail.len() as u64).checked_sub(needed) else {
        return Ok(Tail::NeedMore(needed));
    };
    let (end_marker, bytes) = rest[start as usize..].split_at(END_MARKER.len());
    let index = PageIndex::parse(bytes)?;
    let position = file_size - needed;
    if index.frames_end() != position || end_marker != END_MARKER {
        return Err(IndexError::Position { start: position, frames_end: index.frames_end() }.into());
    }
    Ok(Tail::Complete { index, trailer })
}

/// Fills `page` from the bytes of one frame, as the index locates them. They must hold this page.
pub fn decode_frame(
    frame: &[u8],
    pgno: Pgno,
    page_size: PageSize,
    page: &mut [u8],
) -> Result<(), DecodeError> {
    debug_assert_eq!(page.len(), page_size.bytes());
    let frame = Frame::parse(frame)?;
    if frame.pgno() != pgno {
        return Err(FrameError::OtherPage { found: frame.pgno(), wanted: pgno }.into());
    }
    Ok(frame.decompress(page)?)
}

/// The frames in one range of bytes that was fetched for many pages. `bytes` begin at `start` in the file;
/// `entries` are those of the wanted pages, and bytes between them are passed over.
pub fn split_frames(
    bytes: &[u8],
    start: u64,
    entries: impl IntoIterator<Item = IndexEntry>,
) -> impl Iterator<Item = Result<(IndexEntry, &[u8]), DecodeError>> {
    entries.into_iter().map(move |entry| {
        let frame = || {
            let from = usize::try_from(entry.offset.checked_sub(start)?).ok()?;
            bytes.get(from..)?.get(..entry.size as usize)
        };
        let frame = frame().ok_or(DecodeError::Truncated { part: "page frame", offset: entry.offset })?;
        Ok((entry, frame))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{file, header, page};

    fn tail(bytes: &[u8]) -> Result<PageIndex, DecodeError> {
        let file_size = bytes.len() as u64;
        let mut fetched = TAIL_GUESS.min(file_size);
        loop {
            match parse_tail(&bytes[(file_size - fetched) as usize..], file_size)? {
                Tail::NeedMore(needed) => {
                    assert!(needed > fetched && needed <= file_size);
                    fetched = needed;
                }
                Tail::Complete { index, .. } => return Ok(index),
            }
        }
    }

    #[test]
    fn single_pages_are_found_and_read() {
        let bytes = file(&header(2..=2, 9), &[(2, 0xaa), (5, 0xbb), (9, 0xcc)]);
        let index = tail(&bytes).unwrap();
        let entries: Vec<_> = index.iter().skip(1).collect();
        let (start, end) = (entries[0].offset, entries[1].end());
        let range = &bytes[start as usize..end as usize];
        let mut out = [0; 512];
        for (found, want) in split_frames(range, start, entries).zip([0xbb, 0xcc]) {
            let (entry, frame) = found.unwrap();
            decode_frame(frame, entry.pgno, PageSize::new(512).unwrap(), &mut out).unwrap();
            assert_eq!(out, page(want));
        }
    }

    #[test]
    fn an_index_longer_than_the_guess_is_asked_for() {
        let pages: Vec<_> = (1..=6000).map(|pgno| (pgno, pgno as u8)).collect();
        let bytes = file(&header(1..=1, 6000), &pages);
        let first = &bytes[bytes.len() - TAIL_GUESS as usize..];
        assert!(matches!(parse_tail(first, bytes.len() as u64), Ok(Tail::NeedMore(_))));
        assert_eq!(tail(&bytes).unwrap().len(), 6000);
        assert_eq!(parse_tail(&[], bytes.len() as u64).unwrap(), Tail::NeedMore(24));
    }

    #[test]
    fn an_index_that_belongs_elsewhere_is_refused() {
        let bytes = file(&header(2..=2, 9), &[(2, 0xaa), (5, 0xbb)]);
        let longer = [&bytes[..100], &[0; 7], &bytes[100..]].concat();
        assert!(matches!(tail(&longer), Err(DecodeError::Index(IndexError::Position { .. }))));
        let mut huge = bytes.clone();
        let at = bytes.len() - 24;
        huge[at..at + 8].copy_from_slice(&u64::MAX.to_be_bytes());
        assert!(matches!(tail(&huge), Err(DecodeError::Index(IndexError::Encoding))));
        assert!(matches!(tail(&bytes[..130]), Err(DecodeError::Truncated { .. })));
    }

    #[test]
    fn the_index_must_suit_the_header() {
        let index = tail(&file(&header(2..=2, 9), &[(2, 0xaa), (5, 0xbb)])).unwrap();
        assert_eq!(index.check(&header(2..=2, 9)), Ok(()));
        assert!(matches!(index.check(&header(2..=2, 4)), Err(IndexError::Order(_))));
        assert!(matches!(index.check(&header(1..=1, 9)), Err(IndexError::Order(_))));
    }

    #[test]
    fn a_frame_that_holds_another_page_is_refused() {
        let bytes = file(&header(2..=2, 9), &[(2, 0xaa)]);
        let entry = tail(&bytes).unwrap().iter().next().unwrap();
        let frame = &bytes[entry.offset as usize..entry.end() as usize];
        let size = PageSize::new(512).unwrap();
        let refused = decode_frame(frame, Pgno::FIRST, size, &mut [0; 512]);
        assert!(matches!(refused, Err(DecodeError::Frame(FrameError::OtherPage { .. }))));
    }
}
