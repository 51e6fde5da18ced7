//! Page frames: a page number, how the page is compressed, and the compressed page.
//!
//! Invariant: a frame speaks of one page, and its length is known before its payload is read: from its size
//! field, or, in old files, from the LZ4 frame in it (format.md, "Page frames").

use crate::bytes::{Reader, Short};
use crate::lz4::{self, Lz4Error};
use crate::page::{PageSize, Pgno};

/// Bytes of page number and flags.
pub(crate) const HEADER_SIZE: usize = 6;
/// The same with the size of the block.
pub(crate) const BLOCK_HEADER_SIZE: usize = 10;
/// A frame header of zeros ends the frames.
pub(crate) const END_MARKER: [u8; HEADER_SIZE] = [0; HEADER_SIZE];
/// A size field follows and the payload is an LZ4 block.
const FLAG_SIZE: u16 = 1;

/// Why a frame cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Page numbers start at 1.
    #[error("the frame has flags {0:#06x} but no page number")]
    NoPage(u16),
    /// A flag that this version of the format does not have.
    #[error(
        "page {pgno} has flags {flags:#06x}, which are not supported; the file may come from a newer version"
    )]
    Flags {
        /// The page.
        pgno: Pgno,
        /// Its flags.
        flags: u16,
    },
    /// No page compresses to so many bytes, or the size is not that of the frame.
    #[error("page {pgno} claims {size} compressed bytes, but {limit} are there or possible")]
    Size {
        /// The page.
        pgno: Pgno,
        /// What its size field says.
        size: u32,
        /// What it can be at most.
        limit: usize,
    },
    /// The payload is not a page.
    #[error("page {pgno}: {source}")]
    Payload {
        /// The page.
        pgno: Pgno,
        /// What is wrong with it.
        source: Lz4Error,
    },
    /// The bytes hold another page than they should.
    #[error("found page {found} where page {wanted} should be")]
    OtherPage {
        /// The page that is there.
        found: Pgno,
        /// The page that was looked for.
        wanted: Pgno,
    },
    /// The bytes end within the frame, or go on after it.
    #[error("the frame does not have the {0} bytes that it should have")]
    Length(usize),
}

/// How the payload of a page is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// A size field, then an LZ4 block.
    Block,
    /// A self-delimiting LZ4 frame, as old versions wrote.
    Legacy,
}

/// The first six bytes of a frame; `None` is the end marker.
pub(crate) fn parse_header(bytes: [u8; HEADER_SIZE]) -> Result<Option<(Pgno, Encoding)>, FrameError> {
    let mut fields = Reader(&bytes);
    let (Ok(number), Ok(flags)) = (fields.u32(), fields.u16()) else {
        return Err(FrameError::Length(HEADER_SIZE));
    };
    match (Pgno::new(number), flags) {
        (None, 0) => Ok(None),
        (None, flags) => Err(FrameError::NoPage(flags)),
        (Some(pgno), 0) => Ok(Some((pgno, Encoding::Legacy))),
        (Some(pgno), FLAG_SIZE) => Ok(Some((pgno, Encoding::Block))),
        (Some(pgno), flags) => Err(FrameError::Flags { pgno, flags }),
    }
}

/// The header of a frame with an LZ4 block.
pub(crate) fn block_header(pgno: Pgno, block_size: u32) -> [u8; BLOCK_HEADER_SIZE] {
    let mut bytes = [0; BLOCK_HEADER_SIZE];
    bytes[..4].copy_from_slice(&pgno.get().to_be_bytes());
    bytes[4..6].copy_from_slice(&FLAG_SIZE.to_be_bytes());
    bytes[6..].copy_from_slice(&block_size.to_be_bytes());
    bytes
}

/// Checks the size field of a frame before its payload is read.
pub(crate) fn check_block_size(pgno: Pgno, size: u32, page_size: PageSize) -> Result<usize, FrameError> {
    let limit = lz4::max_block_size(page_size);
    match usize::try_from(size) {
        Ok(bytes) if bytes <= limit => Ok(bytes),
        _ => Err(FrameError::Size { pgno, size, limit }),
    }
}

/// Bytes that a whole frame can have at most, whatever its encoding.
pub(crate) const fn max_size(page_size: PageSize) -> usize {
    BLOCK_HEADER_SIZE + lz4::max_legacy_size(page_size)
}

/// One whole frame, as the page index locates it.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pgno: Pgno,
    encoding: Encoding,
    payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Splits a frame into its parts. The bytes are exactly one frame.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let short = |Short| FrameError::Length(HEADER_SIZE);
        let mut rest = Reader(bytes);
        let Some((pgno, encoding)) = parse_header(rest.array().map_err(short)?)? else {
            return Err(FrameError::NoPage(0));
        };
        if encoding == Encoding::Block {
            let size = rest.u32().map_err(short)?;
            if usize::try_from(size) != Ok(rest.0.len()) {
                return Err(FrameError::Size { pgno, size, limit: rest.0.len() });
            }
        }
        Ok(Frame { pgno, encoding, payload: rest.0 })
    }

    /// The page that it holds.
    pub const fn pgno(&self) -> Pgno {
        self.pgno
    }

    /// The LZ4 block, for copying it to another file as it is; `None` for a legacy frame.
    pub const fn block(&self) -> Option<&'a [u8]> {
        match self.encoding {
            Encoding::Block => Some(self.payload),
            Encoding::Legacy => None,
        }
    }

    /// Fills `page` with the decompressed page.
    pub fn decompress(&self, page: &mut [u8]) -> Result<(), FrameError> {
        let failed = |source| FrameError::Payload { pgno: self.pgno, source };
        match self.encoding {
            Encoding::Block => lz4::decompress_block(self.payload, page).map_err(failed),
            Encoding::Legacy => self.decompress_legacy(page).map_err(failed),
        }
    }

    fn decompress_legacy(&self, page: &mut [u8]) -> Result<(), Lz4Error> {
        let (mut rest, mut frame) = (self.payload, Vec::new());
        lz4::read_frame(&mut rest, self.payload.len(), &mut frame).map_err(Lz4Error::Frame)??;
        if !rest.is_empty() {
            return Err(Lz4Error::FrameLayout("bytes after its end"));
        }
        lz4::decompress_frame(&frame, page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_zeros_end_the_frames() {
        assert!(matches!(parse_header(END_MARKER), Ok(None)));
        assert!(matches!(parse_header([0, 0, 0, 0, 0, 1]), Err(FrameError::NoPage(1))));
        assert!(matches!(parse_header([0, 0, 0, 1, 0, 2]), Err(FrameError::Flags { .. })));
    }

    #[test]
    fn a_frame_is_as_long_as_its_size_field_says() {
        let header = block_header(Pgno::FIRST, 3);
        let bytes = [&header[..], b"abc"].concat();
        assert_eq!(Frame::parse(&bytes).unwrap().block(), Some(&b"abc"[..]));
        assert!(matches!(Frame::parse(&bytes[..12]), Err(FrameError::Size { size: 3, limit: 2, .. })));
        assert!(matches!(Frame::parse(&bytes[..8]), Err(FrameError::Length(_))));
    }
}
