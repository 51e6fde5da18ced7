//! The LTX file format: one file holds the pages of a SQLite database that changed in a range of TXIDs.
//!
//! This crate does no I/O of its own, knows no clock and no database: it turns bytes into checked values
//! and back. `docs/format.md` is the byte-level description that every module here refers to.
//!
//! | file of the format | module |
//! |---|---|
//! | the words: TXID, level, page, checksum, time | [`txid`], [`level`], [`page`], [`checksum`], [`timestamp`] |
//! | file name | [`name`] |
//! | header, walstream's checksums in it | [`header`], [`extension`] |
//! | page frames | [`frame`], [`lz4`], `order` |
//! | page index, trailer | [`index`], [`trailer`] |
//!
//! | what is done with a file | module |
//! |---|---|
//! | write it | [`encode`] |
//! | read it from front to back | [`decode`] |
//! | read single pages | [`random`] |
//! | make one of many | [`mod@merge`] |
//! | prove it | [`mod@verify`] |

mod bytes;
pub mod checksum;
pub mod decode;
pub mod encode;
pub mod extension;
pub mod frame;
pub mod header;
pub mod index;
pub mod level;
pub mod lz4;
pub mod merge;
pub mod name;
mod order;
pub mod page;
pub mod random;
mod summary;
#[cfg(test)]
mod testing;
pub mod timestamp;
pub mod trailer;
pub mod txid;
pub mod verify;

pub use checksum::{Checksum, page_checksum, page_digest};
pub use decode::{DecodeError, Decoder, PageRef};
pub use encode::{EncodeError, Encoder};
pub use extension::Lineage;
pub use frame::{Frame, FrameError};
pub use header::{Header, HeaderError, Salts, WalSpan};
pub use index::{IndexEntry, IndexError, PageIndex};
pub use level::Level;
pub use merge::{Merge, MergeError, merge, merged_header};
pub use name::FileName;
pub use order::OrderError;
pub use page::{Commit, PageSize, Pgno};
pub use random::{TAIL_GUESS, Tail, decode_frame, parse_tail, split_frames};
pub use summary::Summary;
pub use timestamp::Timestamp;
pub use trailer::Trailer;
pub use txid::{Txid, TxidRange};
pub use verify::verify;
