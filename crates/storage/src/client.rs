//! The contract that every store fulfils.
//!
//! Invariants: a file appears under its name whole or not at all; a name that exists is never overwritten;
//! a listing is ordered by (min, max) and holds nothing but well-formed LTX names.

use std::ops::Range;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};

use crate::error::StorageError;
use crate::legacy::LegacyStore;

/// One file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Tier of the file.
    pub level: Level,
    /// The TXIDs that its name promises.
    pub txids: TxidRange,
    /// Size in bytes.
    pub size: u64,
    /// When the file was made: the header time where the store keeps it, else the store's own time.
    pub created_at: Timestamp,
}

/// How exact the times in a listing must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampSource {
    /// Whatever the listing itself brings; costs no further request.
    Listing,
    /// The header time of each file, with a request per file where the store needs it.
    Exact,
}

/// What happened to a create-if-absent write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The file is new.
    Created,
    /// A file with that name was there before; nothing was written.
    AlreadyExists,
}

/// The content of a file to be written. Its length is always known, and it can be read again for a retry
/// where it does not come from a stream.
pub enum PutBody {
    /// In memory; for small files.
    Bytes(Bytes),
    /// Streamed from a local file.
    File(PathBuf),
    /// Produced on the way, such as a snapshot; the total length need not be known. It is read once.
    Stream(BoxStream<'static, Result<Bytes, std::io::Error>>),
}

/// A store that holds the files of one database.
#[async_trait]
pub trait ReplicaClient: Send + Sync + 'static {
    /// Kind of the store in configuration files, logs and tables: `file`, `s3`, …
    fn kind(&self) -> &'static str;

    /// Where the replica is, for people: a URL without secrets.
    fn location(&self) -> String;

    /// Replicas of Litestream 0.3 in the same place, where this kind of store could hold one.
    fn legacy(&self) -> Option<&dyn LegacyStore> {
        None
    }

    /// Checks once, early and clearly, that the store can be reached and used.
    async fn init(&self) -> Result<(), StorageError>;

    /// Whether one file more costs next to nothing, as in a directory: no request to pay for or to wait for.
    fn files_are_cheap(&self) -> bool {
        false
    }

    /// Whether the store itself refuses to write over an existing file. Where it does not, a name is looked up before
    /// it is written, and two writers at the same moment are not told apart: the caller must recognise them by what
    /// is stored. Some stores have to be tried out for this, once.
    async fn creates_exclusively(&self) -> Result<bool, StorageError> {
        Ok(true)
    }

    /// The files of a level whose first TXID is at least `from`, ordered by (min, max).
    async fn list(
        &self,
        level: Level,
        from: Txid,
        timestamps: TimestampSource,
    ) -> Result<Vec<FileInfo>, StorageError>;

    /// A range of bytes of a file. Reading past the end gives what is there; a range that starts at or past the end
    /// is [`StorageError::PastEnd`], a missing file [`StorageError::NotFound`]. An empty range is empty.
    async fn read(&self, level: Level, txids: TxidRange, range: Range<u64>) -> Result<Bytes, StorageError>;

    /// The bytes of a file from an offset to the end, as they arrive. An offset at or past the end is
    /// [`StorageError::PastEnd`], except 0.
    async fn read_stream(
        &self,
        level: Level,
        txids: TxidRange,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError>;

    /// Writes a new file, whole or not at all, and durably before it returns. `created_at` is stored with it.
    /// An existing file is left alone and reported as [`PutOutcome::AlreadyExists`].
    async fn put(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        body: PutBody,
    ) -> Result<PutOutcome, StorageError>;

    /// Deletes files. One that is already gone is no error.
    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError>;
}
