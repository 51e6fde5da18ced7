//! The engine: how a page travels from the WAL of a live database to a replica, and back.
//!
//! ```text
//! application ──► app.db-wal ──► capture ──► shadow ──► upload ──► replica, level 0
//!                                                                     │ history (compact, snapshot, retain)
//!                                                  restore ◄── plan ◄─┴── levels 1…n, snapshots
//! ```
//!
//! Read the folders in that order. Each stage has one entry point, and nothing flows back but a position.
//! `database` is the only place that ties the stages of one database together, `fleet` runs many.

pub mod clock;
pub mod error;
pub mod history;
pub mod options;
pub mod restore;
mod stream;
#[cfg(test)]
mod testing;

pub use error::EngineError;
pub use options::{DatabaseOptions, HistoryOptions, default_meta_path};
