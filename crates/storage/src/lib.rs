//! Where walstream keeps LTX files.
//!
//! One trait, [`ReplicaClient`], and one module per kind of store. This crate knows LTX names, sizes and
//! times; it knows nothing of databases.

pub mod client;
pub mod error;

pub use client::{FileInfo, PutBody, PutOutcome, ReplicaClient, TimestampSource};
pub use error::StorageError;
