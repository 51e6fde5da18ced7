//! Bridges between the blocking code that makes or reads LTX files and the async stores.
//!
//! Invariants: memory is a few chunks, whatever the size of the file; a body whose writer goes away before
//! [`BodyWriter::finish`] ends in an error, so no store ever shows a half-written file.
//!
//! Both ends that block ([`BodyWriter`], [`FileReader`]) belong on a blocking thread, never on an async one.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::StreamExt;
use futures::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use walstream_ltx::{DecodeError, Level, TxidRange};
use walstream_storage::{FileInfo, PutBody, ReplicaClient, StorageError};

use crate::error::EngineError;

/// Bytes that a body hands over at once.
const BODY_CHUNK: usize = 256 << 10;
/// Chunks that may wait for the store before the writer does.
const BODY_CHUNKS_WAITING: usize = 4;

/// How often one chunk is asked for again after a failure that may pass. Each chunk that arrives starts anew, so a
/// long file survives any number of dropped connections as long as it gets on.
const RETRIES_PER_CHUNK: u32 = 5;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// A body for [`ReplicaClient::put`] and the writer that fills it.
pub(crate) fn body() -> (BodyWriter, PutBody) {
    let (out, pieces) = mpsc::channel(BODY_CHUNKS_WAITING);
    let chunks = stream::unfold(Some(pieces), |pieces| async move {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Piece::Chunk(bytes)) => Some((Ok(bytes), Some(pieces))),
            Some(Piece::End) => None,
            None => Some((Err(io::Error::other("the file was not completed")), None)),
        }
    });
    (BodyWriter { chunk: Vec::new(), out }, PutBody::Stream(chunks.boxed()))
}

enum Piece {
    Chunk(Bytes),
    End,
}

/// Feeds a [`PutBody::Stream`] from a blocking thread and waits while the store is slower.
pub(crate) struct BodyWriter {
    chunk: Vec<u8>,
    out: mpsc::Sender<Piece>,
}

impl BodyWriter {
    /// Hands over what is left and marks the body as whole.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(Piece::End)
    }

    fn send(&self, piece: Piece) -> io::Result<()> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the store stopped taking the file");
        self.out.blocking_send(piece).map_err(gone)
    }
}

impl Write for BodyWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve_exact(BODY_CHUNK);
        }
        let taken = data.len().min(BODY_CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&data[..taken]);
        if self.chunk.len() == BODY_CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.chunk);
        self.send(Piece::Chunk(chunk.into()))
    }
}

/// Reads a stored file from front to end in ranges, one range ahead of its user.
///
/// Ranges rather than one long answer: an input of a merge may rest for minutes while others are read, and a store
/// closes a connection that rests.
pub(crate) struct FileReader {
    file: StoredFile,
    end: u64,
    next: u64,
    chunk_size: u64,
    chunk: Bytes,
    ahead: Option<JoinHandle<Result<Bytes, StorageError>>>,
    runtime: Handle,
}

#[derive(Clone)]
struct StoredFile {
    client: Arc<dyn ReplicaClient>,
    level: Level,
    txids: TxidRange,
}

impl FileReader {
    /// Opens a file of a listing and asks for its first chunk at once. Holds up to two chunks in memory.
    pub(crate) fn open(
        client: Arc<dyn ReplicaClient>,
        file: &FileInfo,
        chunk_size: u64,
        runtime: Handle,
    ) -> Self {
        let stored = StoredFile { client, level: file.level, txids: file.txids };
        let mut reader = FileReader {
            file: stored,
            end: file.size,
            next: 0,
            chunk_size: chunk_size.max(1),
            chunk: Bytes::new(),
            ahead: None,
            runtime,
        };
        reader.ask_ahead();
        reader
    }

    fn ask_ahead(&mut self) {
        let range = self.next..self.end.min(self.next.saturating_add(self.chunk_size));
        if !range.is_empty() {
            let file = self.file.clone();
            self.ahead = Some(self.runtime.spawn(async move { file.read(range).await }));
        }
    }

    /// Waits for the chunk that was asked for. At the end of the file there is none.
    fn advance(&mut self) -> io::Result<()> {
        let Some(ahead) = self.ahead.take() else { return Ok(()) };
        self.chunk = self.runtime.block_on(ahead)?.map_err(io::Error::other)?;
        self.next += self.chunk.len() as u64;
        if !self.chunk.is_empty() {
            self.ask_ahead();
        }
        Ok(())
    }
}

impl Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            self.advance()?;
        }
        let taken = out.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut out[..taken]);
        Ok(taken)
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            ahead.abort();
        }
    }
}

impl StoredFile {
    async fn read(&self, range: std::ops::Range<u64>) -> Result<Bytes, StorageError> {
        let mut failures = 0;
        loop {
            match self.client.read(self.level, self.txids, range.clone()).await {
                Err(error) if error.is_transient() && failures < RETRIES_PER_CHUNK => {
                    tokio::time::sleep(FIRST_BACKOFF * (1 << failures)).await;
                    failures += 1;
                }
                // The file is shorter than its listing said; the decoder will tell what is missing.
                Err(StorageError::PastEnd { .. }) => return Ok(Bytes::new()),
                answer => return answer,
            }
        }
    }
}

/// The store's own error, if it is what made a bridge fail.
pub(crate) fn storage_error(error: io::Error) -> Result<StorageError, io::Error> {
    error.downcast::<StorageError>()
}

/// What is wrong with a stored file that was being decoded: the way to it, or the file itself.
pub(crate) fn decode_failed(error: DecodeError, level: Level, txids: TxidRange) -> EngineError {
    match error {
        DecodeError::Io(error) => storage_error(error).map_or_else(
            |source| EngineError::Io {
                action: "read",
                path: format!("level {level} file {txids}").into(),
                source,
            },
            EngineError::Storage,
        ),
        error => EngineError::Damaged { level, txids, reason: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use walstream_ltx::{Timestamp, Txid};

    use super::*;
    use crate::testing::{MemoryReplica, Request, unavailable};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn txids() -> TxidRange {
        TxidRange::single(Txid::FIRST).unwrap()
    }

    async fn put(replica: &MemoryReplica, body: PutBody) -> Result<(), StorageError> {
        replica.put(Level::L0, txids(), NOW, body).await.map(|_| ())
    }

    #[tokio::test]
    async fn what_is_written_arrives() {
        let replica = MemoryReplica::default();
        let content: Vec<u8> = (0..BODY_CHUNK * 9 + 17).map(|i| (i % 251) as u8).collect();
        let (mut writer, body) = body();
        let source = content.clone();
        let writing = tokio::task::spawn_blocking(move || {
            writer.write_all(&source)?;
            writer.finish()
        });
        put(&replica, body).await.unwrap();
        writing.await.unwrap().unwrap();
        assert!(replica.content(Level::L0, txids()).unwrap() == content);
    }

    #[tokio::test]
    async fn a_body_that_was_not_finished_is_never_stored() {
        let replica = MemoryReplica::default();
        let (mut writer, body) = body();
        let writing = tokio::task::spawn_blocking(move || writer.write_all(&[7; 3 * BODY_CHUNK]));
        let error = put(&replica, body).await.unwrap_err();
        writing.await.unwrap().unwrap();
        assert!(error.to_string().contains("not completed"), "{error}");
        assert_eq!(replica.names(Level::L0), []);
    }

    #[tokio::test]
    async fn a_store_that_gives_up_stops_the_writer() {
        let (mut writer, body) = body();
        drop(body);
        let writing = tokio::task::spawn_blocking(move || writer.write_all(&[7; 3 * BODY_CHUNK]));
        assert_eq!(writing.await.unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    fn stored(content: Vec<u8>) -> (Arc<MemoryReplica>, FileInfo) {
        let replica = Arc::new(MemoryReplica::default());
        let size = content.len() as u64;
        replica.insert(Level::L0, txids(), NOW, content);
        (replica, FileInfo { level: Level::L0, txids: txids(), size, created_at: NOW })
    }

    async fn read_all(replica: &Arc<MemoryReplica>, file: &FileInfo, chunk: u64) -> io::Result<Vec<u8>> {
        let mut reader = FileReader::open(replica.clone(), file, chunk, Handle::current());
        // A thread that tokio does not know of, because its paused clock stands still while it runs blocking tasks.
        let (done, reading) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut content = Vec::new();
            done.send(reader.read_to_end(&mut content).map(|_| content))
        });
        reading.await.unwrap()
    }

    #[tokio::test]
    async fn a_file_is_read_in_ranges() {
        let content: Vec<u8> = (0..1000).map(|i| (i % 251) as u8).collect();
        let (replica, file) = stored(content.clone());
        for (chunk, requests) in [(1, 1000), (300, 4), (500, 2), (1000, 1), (1 << 40, 1)] {
            assert_eq!(read_all(&replica, &file, chunk).await.unwrap(), content);
            assert_eq!(replica.take_requests().len(), requests, "chunks of {chunk}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_that_pass_are_no_failures_as_long_as_there_is_progress() {
        let (replica, file) = stored(vec![9; 1000]);
        let mut asked = 0;
        replica.set_fault(move |_| {
            asked += 1;
            (asked % RETRIES_PER_CHUNK != 0).then(unavailable)
        });
        assert_eq!(read_all(&replica, &file, 100).await.unwrap(), vec![9; 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_stays_away_is_an_error_of_the_store() {
        let (replica, file) = stored(vec![9; 1000]);
        replica.set_fault(|_| Some(unavailable()));
        let error = read_all(&replica, &file, 100).await.unwrap_err();
        assert!(storage_error(error).unwrap().is_transient());
        assert_eq!(replica.take_requests().len(), 1 + RETRIES_PER_CHUNK as usize);
    }

    #[tokio::test]
    async fn a_file_that_is_shorter_than_listed_just_ends() {
        let (replica, mut file) = stored(vec![9; 1000]);
        file.size = 5000;
        assert_eq!(read_all(&replica, &file, 1000).await.unwrap().len(), 1000);
    }

    #[tokio::test]
    async fn a_file_that_is_gone_is_asked_for_once() {
        let (replica, file) = stored(vec![9; 10]);
        replica.remove(Level::L0, txids());
        let error = read_all(&replica, &file, 100).await.unwrap_err();
        assert!(matches!(storage_error(error), Ok(StorageError::NotFound { .. })));
        assert_eq!(replica.take_requests(), [Request::Read(Level::L0, txids())]);
    }
}
