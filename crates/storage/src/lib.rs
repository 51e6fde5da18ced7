//! Where walstream keeps LTX files.
//!
//! One trait, [`ReplicaClient`], and one module per kind of store. This crate knows LTX names, sizes and
//! times; it knows nothing of databases.
//!
//! ```no_run
//! # async fn example() -> Result<(), walstream_storage::StorageError> {
//! use walstream_ltx::{Level, Txid};
//! use walstream_storage::{ReplicaConfig, TimestampSource, connect};
//!
//! let config: ReplicaConfig = "s3://bucket/app?endpoint=http://localhost:9000".parse()?;
//! let replica = connect(&config)?;
//! replica.init().await?;
//! for file in replica.list(Level::SNAPSHOT, Txid::FIRST, TimestampSource::Listing).await? {
//!     println!("{} {}", file.txids, file.size);
//! }
//! # Ok(())
//! # }
//! ```

mod azure;
mod chunks;
pub mod client;
mod cloud;
mod complete;
pub mod config;
mod connect;
pub mod counted;
pub mod error;
pub mod file;
mod gcs;
mod http;
mod in_use;
mod layout;
pub mod legacy;
mod limits;
mod nats;
mod providers;
mod s3;
pub mod secret;
mod sftp;
mod timestamp;
mod tries;
mod trust;
pub mod url;
pub mod webdav;

pub use client::{FileInfo, PutBody, PutOutcome, ReplicaClient, TimestampSource};
pub use complete::complete;
pub use config::{
    AzureConfig, FileAccess, FileConfig, GcsConfig, KINDS, NatsConfig, OssConfig, Place, ReplicaConfig,
    S3Config, SftpConfig, WebDavConfig,
};
pub use connect::{connect, connect_within};
pub use counted::Traffic;
pub use error::StorageError;
pub use legacy::{LegacyObject, LegacyPart, LegacyStore};
pub use limits::{Limits, Rate};
pub use secret::Secret;
pub use url::{is_url, without_secrets};
