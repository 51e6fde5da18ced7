//! LZ4: raw blocks, which are written and read, and the self-delimiting frames of old files, which are read.
//!
//! Invariant: decompression fills exactly one page or fails, and no length that the input claims makes it
//! allocate more than a few pages (format.md, "Page frames").

use std::io::{self, Read};

use lz4_flex::block::{self, CompressTable};
use lz4_flex::frame::FrameDecoder;

use crate::page::PageSize;

/// An LZ4 frame begins with this.
const FRAME_MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// What an LZ4 frame may add to its blocks: header, block sizes, checksums, end mark.
const FRAME_OVERHEAD: usize = 64;

/// Bytes that an LZ4 block of one page can have at most: literals only.
pub(crate) const fn max_block_size(page_size: PageSize) -> usize {
    page_size.bytes() + page_size.bytes() / 255 + 16
}

/// Bytes that a legacy frame of one page can have at most.
pub(crate) const fn max_legacy_size(page_size: PageSize) -> usize {
    max_block_size(page_size) + FRAME_OVERHEAD
}

/// Why compressed bytes are not a page.
#[derive(Debug, thiserror::Error)]
pub enum Lz4Error {
    /// Not an LZ4 block.
    #[error("the LZ4 block is damaged: {0}")]
    Block(#[from] block::DecompressError),
    /// Fine, but not a whole page.
    #[error("the LZ4 block holds {got} bytes instead of a page of {want}")]
    ShortPage {
        /// Bytes in the block.
        got: usize,
        /// The page size.
        want: usize,
    },
    /// Not an LZ4 frame of one page.
    #[error("the legacy LZ4 frame is damaged: {0}")]
    Frame(io::Error),
    /// A part of an LZ4 frame that no writer of LTX files makes.
    #[error("the legacy LZ4 frame has {0}")]
    FrameLayout(&'static str),
}

/// Compresses pages to blocks, reusing its memory. The encoder has one of its own; more of them, one a
/// thread, feed [`Encoder::compressed_page`](crate::Encoder::compressed_page).
pub struct Compressor {
    table: CompressTable,
    block: Vec<u8>,
}

impl Compressor {
    /// For pages of this size.
    pub fn new(page_size: PageSize) -> Self {
        Compressor {
            table: CompressTable::default(),
            block: vec![0; block::get_maximum_output_size(page_size.bytes())],
        }
    }

    /// The LZ4 block of a page. Incompressible pages come out a little longer than they are.
    pub fn compress(&mut self, page: &[u8]) -> Result<&[u8], block::CompressError> {
        let size = block::compress_into_with_table(page, &mut self.block, &mut self.table)?;
        Ok(&self.block[..size])
    }
}

/// Fills `page` from an LZ4 block.
pub(crate) fn decompress_block(block: &[u8], page: &mut [u8]) -> Result<(), Lz4Error> {
    let got = block::decompress_into(block, page)?;
    if got == page.len() { Ok(()) } else { Err(Lz4Error::ShortPage { got, want: page.len() }) }
}

/// Fills `page` from a whole LZ4 frame as [`read_frame`] delimits it.
pub(crate) fn decompress_frame(frame: &[u8], page: &mut [u8]) -> Result<(), Lz4Error> {
    let mut decoder = FrameDecoder::new(frame);
    decoder.read_exact(page).map_err(Lz4Error::Frame)?;
    match decoder.read(&mut [0]).map_err(Lz4Error::Frame)? {
        0 => Ok(()),
        _ => Err(Lz4Error::FrameLayout("more data than a page")),
    }
}

/// Reads one LZ4 frame of at most `limit` bytes into `frame`, up to its last byte and not one further: the
/// next page follows directly. Only lengths are looked at here.
///
/// The outer error is the reader's own.
pub(crate) fn read_frame(
    input: &mut impl Read,
    limit: usize,
    frame: &mut Vec<u8>,
) -> io::Result<Result<(), Lz4Error>> {
    frame.clear();
    let mut take = |frame: &mut Vec<u8>, bytes: usize| -> io::Result<bool> {
        let start = frame.len();
        if bytes > limit.saturating_sub(start) {
            return Ok(false);
        }
        frame.resize(start + bytes, 0);
        input.read_exact(&mut frame[start..]).map(|()| true)
    };
    let too_long = Ok(Err(Lz4Error::FrameLayout("more bytes than a page can take")));

    if !take(frame, 7)? {
        return too_long;
    }
    let layout = match Layout::parse(frame) {
        Ok(layout) => layout,
        Err(error) => return Ok(Err(error)),
    };
    if !take(frame, layout.more_header)? {
        return too_long;
    }
    loop {
        let at = frame.len();
        if !take(frame, 4)? {
            return too_long;
        }
        let word = frame[at..].iter().rev().fold(0_u32, |word, &byte| word << 8 | u32::from(byte));
        if word == 0 {
            return if take(frame, layout.content_checksum)? { Ok(Ok(())) } else { too_long };
        }
        // The top bit says that the block is stored as it is.
        let size = (word & 0x7fff_ffff) as usize;
        if size == 0 {
            return Ok(Err(Lz4Error::FrameLayout("an empty block")));
        }
        if !take(frame, size.saturating_add(layout.block_checksum))? {
            return too_long;
        }
    }
}

/// What the descriptor of an LZ4 frame says about the lengths of its parts.
struct Layout {
    /// Bytes of the descriptor after its first three.
    more_header: usize,
    block_checksum: usize,
    content_checksum: usize,
}

impl Layout {
    /// From magic number, FLG, BD, and the byte after them.
    fn parse(start: &[u8]) -> Result<Self, Lz4Error> {
        let flags = match start {
            [magic @ .., flags, _, _] if magic == FRAME_MAGIC => *flags,
            _ => return Err(Lz4Error::FrameLayout("no LZ4 magic number")),
        };
        let part = |bit: u8, bytes: usize| if flags & bit != 0 { bytes } else { 0 };
        if flags >> 6 != 1 {
            return Err(Lz4Error::FrameLayout("an unknown version"));
        }
        if flags & 0x01 != 0 {
            return Err(Lz4Error::FrameLayout("a dictionary"));
        }
        Ok(Layout {
            more_header: part(0x08, 8),
            block_checksum: part(0x10, 4),
            content_checksum: part(0x04, 4),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, FrameEncoder, FrameInfo};

    use super::*;

    fn page() -> Vec<u8> {
        (0..4096_u32).map(|i| ((i * i) >> 5) as u8).collect()
    }

    fn frame(info: FrameInfo) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&page()).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>, Lz4Error> {
        let limit = max_legacy_size(PageSize::new(4096).unwrap());
        let (mut delimited, mut page) = (Vec::new(), vec![0; 4096]);
        read_frame(&mut &bytes[..], limit, &mut delimited).map_err(Lz4Error::Frame)??;
        decompress_frame(&delimited, &mut page).map(|()| page)
    }

    #[test]
    fn a_block_holds_exactly_one_page() {
        let mut compressor = Compressor::new(PageSize::new(4096).unwrap());
        let block = compressor.compress(&page()).unwrap();
        let mut out = vec![0; 4096];
        decompress_block(block, &mut out).unwrap();
        assert_eq!(out, page());
        assert!(matches!(decompress_block(block, &mut [0; 4095]), Err(Lz4Error::Block(_))));
        assert!(matches!(
            decompress_block(block, &mut [0; 4097]),
            Err(Lz4Error::ShortPage { got: 4096, .. })
        ));
    }

    #[test]
    fn incompressible_pages_stay_below_the_bound() {
        for bytes in [512, 4096, 65536] {
            let size = PageSize::new(bytes).unwrap();
            let mut state = 1_u64;
            let page: Vec<u8> = (0..bytes)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            let mut compressor = Compressor::new(size);
            let block = compressor.compress(&page).unwrap().len();
            assert!((page.len()..=max_block_size(size)).contains(&block), "{block}");
        }
    }

    #[test]
    fn a_frame_is_delimited_to_its_last_byte() {
        for info in [
            FrameInfo::new(),
            FrameInfo::new().content_checksum(true),
            FrameInfo::new().content_checksum(true).block_checksums(true),
            FrameInfo::new().content_size(Some(4096)).block_mode(BlockMode::Linked),
        ] {
            let mut bytes = frame(info);
            bytes.extend_from_slice(b"next page");
            let (mut input, mut delimited) = (&bytes[..], Vec::new());
            read_frame(&mut input, 8192, &mut delimited).unwrap().unwrap();
            assert_eq!(input, b"next page");
            assert_eq!(read(&delimited).unwrap(), page());
        }
    }

    #[test]
    fn damaged_frames_are_refused() {
        let good = frame(FrameInfo::new().content_checksum(true).block_checksums(true));
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x11;
            assert!(read(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_frame_that_claims_a_huge_block_is_refused() {
        let mut bytes = frame(FrameInfo::new());
        bytes[7..11].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
        assert!(matches!(read(&bytes), Err(Lz4Error::FrameLayout(_))));
    }
}
