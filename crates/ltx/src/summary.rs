//! What is known of a file once it has been written or read to its end.

use crate::frame::END_MARKER;
use crate::header::Header;
use crate::index::{INDEX_LENGTH_SIZE, PageIndex};
use crate::trailer::Trailer;

/// A whole file without its pages.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// What it says about itself.
    pub header: Header,
    /// How many pages it holds.
    pub pages: u32,
    /// Where they are.
    pub index: PageIndex,
    /// Its checksums.
    pub trailer: Trailer,
    /// Its length in bytes.
    pub size: u64,
}

impl Summary {
    pub(crate) fn new(header: Header, index: PageIndex, trailer: Trailer) -> Self {
        let tail = END_MARKER.len() + index.as_bytes().len() + INDEX_LENGTH_SIZE + Trailer::SIZE;
        let size = index.frames_end() + tail as u64;
        Summary { header, pages: index.len(), index, trailer, size }
    }
}
