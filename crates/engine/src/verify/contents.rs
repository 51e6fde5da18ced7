//! Reading one file to its last byte.
//!
//! Invariant: a file is sound if it is as long as the listing says, every rule of the format holds, its checksum fits,
//! its header says what its name says, and a snapshot with a digest is the database that was captured. Memory is a few
//! chunks and the file's page index.

use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;
use walstream_ltx::{DecodeError, Header, verify};
use walstream_storage::{FileInfo, ReplicaClient, StorageError};

use crate::background;
use crate::error::EngineError;
use crate::stream::{FileReader, storage_error};

/// Bytes that are asked for at once; two such chunks are in memory for each file that is read.
const CHUNK: u64 = 1 << 20;

/// What reading a file showed.
pub(super) enum Content {
    /// It is whole.
    Sound(Box<Header>),
    /// It is not; for what reason.
    Damaged(String),
    /// It is not there any more.
    Vanished,
}

/// Reads and checks a file of a listing. An error is one of the store, and says nothing about the file.
pub(super) async fn read(client: &Arc<dyn ReplicaClient>, file: &FileInfo) -> Result<Content, EngineError> {
    let reader = FileReader::open(Arc::clone(client), file, CHUNK, Handle::current());
    match background::run(move || verify(reader)).await? {
        Ok(summary) if summary.header.txids == file.txids => Ok(Content::Sound(Box::new(summary.header))),
        Ok(summary) => {
            Ok(Content::Damaged(format!("its header says that it holds {}", summary.header.txids)))
        }
        Err(DecodeError::Io(error)) => not_read(file, error),
        Err(error) => Ok(Content::Damaged(error.to_string())),
    }
}

fn not_read(file: &FileInfo, error: io::Error) -> Result<Content, EngineError> {
    match storage_error(error) {
        Ok(StorageError::NotFound { .. }) => Ok(Content::Vanished),
        Ok(error) => Err(error.into()),
        Err(source) => {
            let path = format!("level {} file {}", file.level, file.txids).into();
            Err(EngineError::Io { action: "read", path, source })
        }
    }
}
