//! Writing a file: header, one frame a page, then everything that follows from them.
//!
//! Invariant: what [`Encoder::finish`] returns without an error is a file that the decoder accepts.

use std::io::{self, Write};

use crate::checksum::{Checksum, Hasher};
use crate::frame::{self, BLOCK_HEADER_SIZE, END_MARKER};
use crate::header::{Header, HeaderError};
use crate::index::{IndexBuilder, IndexError};
use crate::lz4::{self, Compressor};
use crate::order::{OrderError, PageOrder};
use crate::page::Pgno;
use crate::summary::Summary;
use crate::trailer::Trailer;

/// Writes one file. Pages come in ascending order; each is two small writes to `W`, so give it a buffer.
pub struct Encoder<W> {
    frames: Frames<W>,
    compressor: Compressor,
}

impl<W: Write> Encoder<W> {
    /// Starts a file by writing its header.
    pub fn new(mut out: W, header: Header) -> Result<Self, EncodeError> {
        let bytes = header.encode()?;
        out.write_all(&bytes)?;
        let mut hasher = Hasher::new();
        hasher.update(&bytes);
        let compressor = Compressor::new(header.page_size);
        let (order, index) = (PageOrder::new(&header), IndexBuilder::new());
        Ok(Encoder { frames: Frames { out, header, order, index, hasher }, compressor })
    }

    /// The header that was written.
    pub const fn header(&self) -> &Header {
        &self.frames.header
    }

    /// Compresses and writes a page.
    pub fn page(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), EncodeError> {
        self.frames.admit(pgno, page)?;
        let block =
            self.compressor.compress(page).map_err(|source| EncodeError::Compress { pgno, source })?;
        self.frames.write(pgno, block, page)
    }

    /// Writes a page whose LZ4 block is there already, as it is. `page` is what the block decompresses to;
    /// that it does is the caller's promise, for only reading the file again could show otherwise.
    pub fn compressed_page(&mut self, pgno: Pgno, block: &[u8], page: &[u8]) -> Result<(), EncodeError> {
        self.frames.admit(pgno, page)?;
        self.frames.write(pgno, block, page)
    }

    /// Ends the file. `post_apply` is the rolling checksum of the database after it if the header tracks it,
    /// else `None`. The writer is not flushed.
    pub fn finish(self, post_apply: Option<Checksum>) -> Result<(W, Summary), EncodeError> {
        self.frames.finish(post_apply)
    }
}

/// Everything of an encoder but compression.
struct Frames<W> {
    out: W,
    header: Header,
    order: PageOrder,
    index: IndexBuilder,
    hasher: Hasher,
}

impl<W: Write> Frames<W> {
    fn admit(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), EncodeError> {
        if page.len() != self.header.page_size.bytes() {
            return Err(EncodeError::PageLength {
                pgno,
                got: page.len(),
                want: self.header.page_size.bytes(),
            });
        }
        Ok(self.order.admit(pgno)?)
    }

    fn write(&mut self, pgno: Pgno, block: &[u8], page: &[u8]) -> Result<(), EncodeError> {
        let size = u32::try_from(block.len()).unwrap_or(u32::MAX);
        if block.len() > lz4::max_block_size(self.header.page_size) {
            return Err(EncodeError::BlockLength { pgno, size });
        }
        let frame_header = frame::block_header(pgno, size);
        self.index.push(pgno, BLOCK_HEADER_SIZE as u32 + size)?;
        self.hasher.update(&frame_header);
        self.hasher.update(page);
        self.out.write_all(&frame_header)?;
        self.out.write_all(block)?;
        Ok(())
    }

    fn finish(mut self, post_apply: Option<Checksum>) -> Result<(W, Summary), EncodeError> {
        self.order.complete()?;
        if !self.header.allows_post_apply(post_apply) {
            return Err(EncodeError::PostApply);
        }
        let index = self.index.finish();
        for part in [&END_MARKER[..], index.as_bytes(), &index.length_field()] {
            self.hasher.update(part);
            self.out.write_all(part)?;
        }
        self.hasher.update(&Checksum::to_stored(post_apply).to_be_bytes());
        let trailer = Trailer { post_apply, file_checksum: self.hasher.finish() };
        self.out.write_all(&trailer.encode())?;
        Ok((self.out, Summary::new(self.header, index, trailer)))
    }
}

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The writer refused.
    #[error("cannot write the LTX file: {0}")]
    Io(#[from] io::Error),
    /// The header breaks a rule.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A page may not come here, or is missing.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A frame that the index cannot hold.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Not a page.
    #[error("page {pgno} has {got} bytes, but the page size is {want}")]
    PageLength {
        /// The page.
        pgno: Pgno,
        /// Its length.
        got: usize,
        /// The page size.
        want: usize,
    },
    /// No compressor makes so long a block of one page.
    #[error("page {pgno} comes as an LZ4 block of {size} bytes, longer than any page can take")]
    BlockLength {
        /// The page.
        pgno: Pgno,
        /// Length of the block.
        size: u32,
    },
    /// The compressor failed; its buffer always suffices, so this does not happen.
    #[error("page {pgno} cannot be compressed: {source}")]
    Compress {
        /// The page.
        pgno: Pgno,
        /// Why.
        source: lz4_flex::block::CompressError,
    },
    /// A post-apply checksum for a header without tracking, or the other way round.
    #[error("the post-apply checksum does not fit the header, which says whether there is one")]
    PostApply,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{Commit, PageSize};
    use crate::testing::header;

    #[test]
    fn a_file_is_header_frames_index_trailer() {
        let mut encoder = Encoder::new(Vec::new(), header(2..=2, 9)).unwrap();
        encoder.page(Pgno::new(3).unwrap(), &[7; 512]).unwrap();
        let (bytes, summary) = encoder.finish(None).unwrap();
        assert_eq!((summary.size, summary.pages), (bytes.len() as u64, 1));
        assert_eq!(summary.index.lookup(Pgno::new(3).unwrap()).unwrap().offset, 100);
        assert_eq!(bytes[bytes.len() - 8..], summary.trailer.file_checksum.get().to_be_bytes());
    }

    #[test]
    fn a_file_without_pages_has_131_bytes() {
        let (bytes, _) = Encoder::new(Vec::new(), header(2..=2, 9)).unwrap().finish(None).unwrap();
        assert_eq!(bytes.len(), 131);
    }

    #[test]
    fn pages_that_do_not_fit_are_refused() {
        let mut encoder = Encoder::new(Vec::new(), header(1..=1, 2)).unwrap();
        let second = Pgno::new(2).unwrap();
        assert!(matches!(encoder.page(Pgno::FIRST, &[0; 511]), Err(EncodeError::PageLength { .. })));
        assert!(matches!(encoder.page(second, &[0; 512]), Err(EncodeError::Order(_))));
        encoder.page(Pgno::FIRST, &[0; 512]).unwrap();
        let long = vec![0; 600];
        let refused = encoder.compressed_page(second, &long, &[0; 512]);
        assert!(matches!(refused, Err(EncodeError::BlockLength { .. })));
    }

    #[test]
    fn a_snapshot_ends_only_when_it_is_whole() {
        let encoder = Encoder::new(Vec::new(), header(1..=1, 2)).unwrap();
        assert!(matches!(encoder.finish(None), Err(EncodeError::Order(_))));
    }

    #[test]
    fn the_post_apply_checksum_is_there_if_it_is_tracked() {
        let tracked = Header { tracked: true, commit: Commit::new(0), ..header(1..=1, 0) };
        let finish = |header: &Header, post_apply| {
            Encoder::new(Vec::new(), header.clone()).unwrap().finish(post_apply).map(|_| ())
        };
        assert!(finish(&tracked, Some(Checksum::EMPTY)).is_ok());
        assert!(matches!(finish(&tracked, None), Err(EncodeError::PostApply)));
        let other = Checksum::from_stored(u64::MAX).unwrap();
        assert!(matches!(finish(&tracked, other), Err(EncodeError::PostApply)));
        assert!(matches!(finish(&header(2..=2, 1), other), Err(EncodeError::PostApply)));
        assert_eq!(tracked.page_size, PageSize::new(512).unwrap());
    }
}
