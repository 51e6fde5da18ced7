//! Reading a file from front to back, believing nothing.
//!
//! Invariant: [`Decoder::finish`] succeeds only for a file that keeps every rule of the format to its last
//! byte; until then, pages are what the file says but not proven. Memory is a few pages and the index.

use std::io::{self, Read};

use crate::checksum::{Checksum, Hasher, InvalidChecksum, page_checksum};
use crate::frame::{self, BLOCK_HEADER_SIZE, Encoding, FrameError, HEADER_SIZE};
use crate::header::{Header, HeaderError};
use crate::index::{INDEX_LENGTH_SIZE, IndexBuilder, IndexError, PageIndex};
use crate::lz4;
use crate::order::{OrderError, PageOrder};
use crate::page::Pgno;
use crate::summary::Summary;
use crate::trailer::Trailer;

/// A page of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRef<'a> {
    /// Its number.
    pub pgno: Pgno,
    /// Its content, one page long.
    pub data: &'a [u8],
    /// The LZ4 block that it came from, for copying it as it is; `None` if it came from a legacy frame.
    pub block: Option<&'a [u8]>,
}

/// Reads one file. It makes many small reads, so give it a buffer.
pub struct Decoder<R> {
    source: Source<R>,
    header: Header,
    order: PageOrder,
    index: IndexBuilder,
    hasher: Hasher,
    /// The database's checksum, where the file is all that it takes to know it.
    rolling: Option<Checksum>,
    current: Option<(Pgno, Encoding)>,
    payload: Vec<u8>,
    page: Vec<u8>,
    at_end: bool,
}

impl<R: Read> Decoder<R> {
    /// Reads the header.
    pub fn new(input: R) -> Result<Self, DecodeError> {
        let mut source = Source { input, offset: 0 };
        let bytes: [u8; Header::SIZE] = source.array("header")?;
        let header = Header::parse(&bytes)?;
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        Ok(Decoder {
            source,
            order: PageOrder::new(&header),
            index: IndexBuilder::new(),
            hasher,
            rolling: (header.tracked && header.is_snapshot()).then_some(Checksum::EMPTY),
            current: None,
            payload: Vec::new(),
            page: vec![0; header.page_size.bytes()],
            at_end: false,
            header,
        })
    }

    /// What the file says about itself.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The next page; `None` after the last.
    pub fn next_page(&mut self) -> Result<Option<PageRef<'_>>, DecodeError> {
        self.advance()?;
        Ok(self.current())
    }

    /// Moves to the next page and tells its number.
    pub(crate) fn advance(&mut self) -> Result<Option<Pgno>, DecodeError> {
        self.current = None;
        if self.at_end {
            return Ok(None);
        }
        let offset = self.source.offset;
        let start: [u8; HEADER_SIZE] = self.source.array("page frame")?;
        self.hasher.update(&start);
        let Some((pgno, encoding)) = frame::parse_header(start)? else {
            self.order.complete()?;
            self.at_end = true;
            return Ok(None);
        };
        self.order.admit(pgno)?;
        self.read_payload(pgno, encoding)?;
        self.hasher.update(&self.page);
        if let Some(rolling) = &mut self.rolling {
            *rolling = rolling.toggle(page_checksum(pgno, &self.page));
        }
        self.index.push(pgno, u32::try_from(self.source.offset - offset).unwrap_or(u32::MAX))?;
        self.current = Some((pgno, encoding));
        Ok(Some(pgno))
    }

    /// The page that [`Decoder::advance`] moved to.
    pub(crate) fn current(&self) -> Option<PageRef<'_>> {
        self.current.map(|(pgno, encoding)| PageRef {
            pgno,
            data: &self.page,
            block: (encoding == Encoding::Block).then_some(&self.payload),
        })
    }

    fn read_payload(&mut self, pgno: Pgno, encoding: Encoding) -> Result<(), DecodeError> {
        let page_size = self.header.page_size;
        let unpacked = match encoding {
            Encoding::Block => {
                let size: [u8; BLOCK_HEADER_SIZE - HEADER_SIZE] = self.source.array("page frame")?;
                self.hasher.update(&size);
                let size = frame::check_block_size(pgno, u32::from_be_bytes(size), page_size)?;
                self.payload.resize(size, 0);
                self.source.exact(&mut self.payload, "page frame")?;
                lz4::decompress_block(&self.payload, &mut self.page)
            }
            Encoding::Legacy => {
                let (offset, limit) = (self.source.offset, lz4::max_legacy_size(page_size));
                lz4::read_frame(&mut self.source, limit, &mut self.payload)
                    .map_err(|error| DecodeError::read(error, "page frame", offset))?
                    .and_then(|()| lz4::decompress_frame(&self.payload, &mut self.page))
            }
        };
        Ok(unpacked.map_err(|source| FrameError::Payload { pgno, source })?)
    }

    /// Reads what is left of the file and checks all of it.
    pub fn finish(mut self) -> Result<Summary, DecodeError> {
        while !self.at_end {
            self.advance()?;
        }
        let index = self.index.finish();
        self.source.expect_index(&index)?;
        self.hasher.update(index.as_bytes());
        self.hasher.update(&index.length_field());
        let trailer = Trailer::parse(&self.source.array("trailer")?)?;
        self.source.expect_end()?;

        self.hasher.update(&Checksum::to_stored(trailer.post_apply).to_be_bytes());
        let computed = self.hasher.finish();
        if computed != trailer.file_checksum {
            return Err(DecodeError::FileChecksum { stored: trailer.file_checksum, computed });
        }
        if !self.header.allows_post_apply(trailer.post_apply) {
            return Err(DecodeError::PostApply);
        }
        match (self.rolling, trailer.post_apply) {
            (Some(computed), Some(stored)) if computed != stored => {
                Err(DecodeError::DatabaseChecksum { stored, computed })
            }
            _ => Ok(Summary::new(self.header, index, trailer)),
        }
    }
}

/// The input, and how far it has been read.
struct Source<R> {
    input: R,
    offset: u64,
}

impl<R: Read> Source<R> {
    fn exact(&mut self, bytes: &mut [u8], part: &'static str) -> Result<(), DecodeError> {
        let offset = self.offset;
        self.read_exact(bytes).map_err(|error| DecodeError::read(error, part, offset))
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        self.exact(&mut bytes, part).map(|()| bytes)
    }

    /// The index must be, byte for byte, the one that follows from the frames. So it is never parsed here,
    /// and what it claims cannot matter.
    fn expect_index(&mut self, index: &PageIndex) -> Result<(), DecodeError> {
        let mut found = [0; 4096];
        for expected in index.as_bytes().chunks(found.len()) {
            let found = &mut found[..expected.len()];
            self.exact(found, "page index")?;
            if found != expected {
                return Err(IndexError::Mismatch.into());
            }
        }
        let length: [u8; INDEX_LENGTH_SIZE] = self.array("page index")?;
        if length == index.length_field() { Ok(()) } else { Err(IndexError::Mismatch.into()) }
    }

    fn expect_end(&mut self) -> Result<(), DecodeError> {
        let end = self.offset;
        match self.exact(&mut [0], "end") {
            Ok(()) => Err(DecodeError::TrailingBytes(end)),
            Err(DecodeError::Truncated { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(bytes)?;
        self.offset += read as u64;
        Ok(read)
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(bytes)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

/// A file that cannot be read, or is damaged.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The reader failed; the file itself may be fine.
    #[error("cannot read the LTX file: {0}")]
    Io(io::Error),
    /// The file is shorter than it must be.
    #[error("file is cut short: its {part} at byte {offset} is not whole")]
    Truncated {
        /// What is missing.
        part: &'static str,
        /// Where it should begin.
        offset: u64,
    },
    /// The header breaks a rule.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A page is where it may not be, or is missing.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A frame that does not hold its page.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The index is damaged or does not match.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A checksum of the trailer is no checksum.
    #[error("trailer: {0}")]
    Trailer(#[from] InvalidChecksum),
    /// A post-apply checksum in a file without tracking, or the other way round.
    #[error("trailer: the post-apply checksum does not fit the header, which says whether there is one")]
    PostApply,
    /// The file is not what was written.
    #[error("file checksum mismatch: the file says {stored}, its content gives {computed}")]
    FileChecksum {
        /// In the trailer.
        stored: Checksum,
        /// Of the content.
        computed: Checksum,
    },
    /// The database in a snapshot is not the one that was captured.
    #[error("database checksum mismatch: the file says {stored}, its pages give {computed}")]
    DatabaseChecksum {
        /// In the file.
        stored: Checksum,
        /// Of the pages.
        computed: Checksum,
    },
    /// The file goes on after its end.
    #[error("file goes on after its trailer, which ends at byte {0}")]
    TrailingBytes(u64),
}

impl DecodeError {
    fn read(error: io::Error, part: &'static str, offset: u64) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => DecodeError::Truncated { part, offset },
            _ => DecodeError::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{file, header, page};

    #[test]
    fn pages_come_out_as_they_went_in() {
        let bytes = file(&header(2..=4, 9), &[(2, 0xaa), (9, 0xbb)]);
        let mut decoder = Decoder::new(&bytes[..]).unwrap();
        assert_eq!(decoder.header(), &header(2..=4, 9));
        let first = decoder.next_page().unwrap().unwrap();
        assert_eq!((first.pgno.get(), first.data), (2, &page(0xaa)[..]));
        let second = decoder.next_page().unwrap().unwrap();
        assert_eq!((second.pgno.get(), second.data), (9, &page(0xbb)[..]));
        assert_eq!(decoder.next_page().unwrap(), None);
        assert_eq!(decoder.next_page().unwrap(), None, "the end stays the end");
        let summary = decoder.finish().unwrap();
        assert_eq!((summary.pages, summary.size), (2, bytes.len() as u64));
    }

    #[test]
    fn finishing_early_still_checks_everything() {
        let mut bytes = file(&header(2..=2, 9), &[(2, 0xaa), (9, 0xbb)]);
        assert!(Decoder::new(&bytes[..]).unwrap().finish().is_ok());
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let finished = Decoder::new(&bytes[..]).unwrap().finish();
        assert!(matches!(finished, Err(DecodeError::FileChecksum { .. })));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = file(&header(1..=1, 3), &[(1, 1), (2, 2), (3, 3)]);
        for end in 0..bytes.len() {
            let result = Decoder::new(&bytes[..end]).and_then(Decoder::finish);
            assert!(matches!(result, Err(DecodeError::Truncated { .. })), "cut at {end}: {result:?}");
        }
    }

    /// Everything but the compressed bytes is covered by the file checksum; those only matter by the page
    /// that they hold.
    #[test]
    fn every_changed_bit_is_an_error_or_does_not_matter() {
        let read = |bytes: &[u8]| -> Result<(Summary, Vec<Vec<u8>>), DecodeError> {
            let (mut decoder, mut pages) = (Decoder::new(bytes)?, Vec::new());
            while let Some(page) = decoder.next_page()? {
                pages.push(page.data.to_vec());
            }
            Ok((decoder.finish()?, pages))
        };
        let bytes = file(&header(1..=1, 3), &[(1, 1), (2, 2), (3, 3)]);
        let good = read(&bytes).unwrap();
        let mut harmless = 0;
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            if let Ok(read) = read(&bad) {
                assert_eq!(read, good, "byte {at} bit {bit}");
                harmless += 1;
            }
        }
        assert!(harmless < 20, "{harmless} of {} bits do not matter", bytes.len() * 8);
    }

    #[test]
    fn bytes_after_the_end_are_an_error() {
        let mut bytes = file(&header(2..=2, 9), &[(2, 0xaa)]);
        bytes.push(0);
        let result = Decoder::new(&bytes[..]).unwrap().finish();
        assert!(matches!(result, Err(DecodeError::TrailingBytes(at)) if at == bytes.len() as u64 - 1));
    }

    #[test]
    fn a_frame_that_claims_four_gigabytes_is_refused_before_it_is_read() {
        let mut bytes = file(&header(2..=2, 9), &[(2, 0xaa)]);
        bytes[106..110].copy_from_slice(&u32::MAX.to_be_bytes());
        let refused = Decoder::new(&bytes[..]).unwrap().next_page().unwrap_err();
        assert!(matches!(refused, DecodeError::Frame(FrameError::Size { .. })), "{refused}");
    }
}
