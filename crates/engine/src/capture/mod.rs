//! From the WAL of a live database to level-0 files.
//!
//! | step | module |
//! |---|---|
//! | which databases are let in | [`admit`] |
//! | our connections and what they may do | [`connection`] |
//! | the read lock | [`source`] |
//! | the database file, through SQLite's descriptor | [`database_file`] |
//! | how far the WAL is committed | [`wal_index`] |
//! | frames, salts, the checksum chain | [`wal`] |
//! | is what comes next the continuation of it? | [`continuity`] |
//! | every page as of one frame | [`image`] |
//! | the checksum of every page, and what differs from it | [`page_map`], [`diff`] |
//! | pages to one level-0 file | [`batch`] |
//! | seal a WAL generation and checkpoint it | [`checkpoint`] |
//! | the same with a writer that is faster than that | [`brake`], [`flusher`] |
//! | one capture, in order | [`session`] |
//! | the whole database as one file | [`snapshot`] |
//!
//! Everything here blocks, so it runs on blocking threads; one task owns a [`session::Capture`].

pub(crate) mod admit;
pub(crate) mod batch;
pub(crate) mod brake;
pub(crate) mod checkpoint;
mod connection;
pub(crate) mod continuity;
pub(crate) mod database_file;
pub(crate) mod diff;
mod flusher;
pub(crate) mod image;
pub(crate) mod page_map;
pub(crate) mod session;
pub(crate) mod snapshot;
pub(crate) mod source;
pub(crate) mod wal;
pub(crate) mod wal_index;

#[cfg(test)]
mod tests;
