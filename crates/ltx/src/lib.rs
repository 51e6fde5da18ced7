//! The LTX file format: one file holds the pages of a SQLite database that changed in a range of TXIDs.
//!
//! This crate does no I/O of its own, knows no clock and no database: it turns bytes into checked values
//! and back. `docs/format.md` is the byte-level description that every module here refers to.
//!
//! | file of the format | module |
//! |---|---|
//! | the words: TXID, level, page, checksum, time | [`txid`], [`level`], [`page`], [`checksum`], [`timestamp`] |
//! | file name | [`name`] |

pub mod checksum;
pub mod level;
pub mod name;
pub mod page;
pub mod timestamp;
pub mod txid;

pub use checksum::{Checksum, page_checksum};
pub use level::Level;
pub use name::FileName;
pub use page::{Commit, PageSize, Pgno};
pub use timestamp::Timestamp;
pub use txid::{Txid, TxidRange};
