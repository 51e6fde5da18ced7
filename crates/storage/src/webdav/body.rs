//! What is to be uploaded, made ready to be sent.
//!
//! Invariants: its length is known, because many servers refuse or mangle a body without one; it can be read again for
//! a retry; at most [`IN_MEMORY`] of a stream is in memory, the rest in a file that vanishes with the process.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::client::PutBody;
use crate::error::StorageError;

/// A stream that is no longer than this needs no file; of a longer one so much is in memory at a time.
const IN_MEMORY: usize = 1 << 20;
/// Files are sent in pieces of this size.
const PIECE: u64 = 256 << 10;

type Stream = BoxStream<'static, Result<Bytes, io::Error>>;

/// A body of known length.
#[derive(Debug)]
pub(super) enum Body {
    Bytes(Bytes),
    File { file: Arc<File>, length: u64 },
}

impl Body {
    /// Opens a file, or takes in a stream.
    pub(super) async fn of(body: PutBody) -> Result<Body, StorageError> {
        match body {
            PutBody::Bytes(bytes) => Ok(Body::Bytes(bytes)),
            PutBody::File(path) => {
                let opening = path.clone();
                let open = move || {
                    let file = File::open(opening)?;
                    let length = file.metadata()?.len();
                    Ok(Body::File { file: Arc::new(file), length })
                };
                blocking(open).await.map_err(StorageError::io("read", &path))
            }
            PutBody::Stream(stream) => spool(stream).await,
        }
    }

    pub(super) fn length(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File { length, .. } => *length,
        }
    }

    /// The body from its beginning; `taken` counts what was handed over.
    pub(super) fn open(&self, taken: &Arc<AtomicU64>) -> reqwest::Body {
        match self {
            Body::Bytes(bytes) => {
                taken.store(self.length(), Ordering::Relaxed);
                bytes.clone().into()
            }
            Body::File { file, length } => {
                let (file, length, taken) = (Arc::clone(file), *length, Arc::clone(taken));
                let pieces = futures::stream::try_unfold(0, move |at| {
                    let (file, taken) = (Arc::clone(&file), Arc::clone(&taken));
                    async move {
                        if at == length {
                            return Ok(None);
                        }
                        let piece = blocking(move || read_at(&file, at, PIECE.min(length - at))).await?;
                        let end = at + piece.len() as u64;
                        taken.store(end, Ordering::Relaxed);
                        Ok::<_, io::Error>(Some((piece, end)))
                    }
                });
                reqwest::Body::wrap_stream(pieces)
            }
        }
    }
}

fn read_at(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut piece, at)?;
    Ok(piece.into())
}

/// Takes in a stream whole, so that its length is known.
async fn spool(mut stream: Stream) -> Result<Body, StorageError> {
    let begun = gather(&mut stream).await?;
    if begun.ended {
        return Ok(Body::Bytes(begun.chunks.concat().into()));
    }
    let folder = folder();
    let unusable =
        |source| StorageError::Io { action: "write a temporary file in", path: folder.clone(), source };
    let creating = folder.clone();
    let create = move || tempfile::tempfile_in(creating);
    let mut file = blocking(create).await.map_err(unusable)?;
    let (mut batch, mut length) = (begun, 0);
    loop {
        length += batch.length as u64;
        let ended = batch.ended;
        let write = move || {
            batch.chunks.iter().try_for_each(|chunk| file.write_all(chunk))?;
            Ok(file)
        };
        file = blocking(write).await.map_err(unusable)?;
        if ended {
            return Ok(Body::File { file: Arc::new(file), length });
        }
        batch = gather(&mut stream).await?;
    }
}

/// Some of a stream, and whether that is its end.
#[derive(Default)]
struct Batch {
    chunks: Vec<Bytes>,
    length: usize,
    ended: bool,
}

async fn gather(stream: &mut Stream) -> Result<Batch, StorageError> {
    let mut batch = Batch::default();
    while batch.length <= IN_MEMORY {
        match stream.next().await {
            Some(chunk) => {
                let chunk = chunk.map_err(made_no_upload)?;
                batch.length += chunk.len();
                batch.chunks.push(chunk);
            }
            None => return Ok(Batch { ended: true, ..batch }),
        }
    }
    Ok(batch)
}

fn made_no_upload(error: io::Error) -> StorageError {
    StorageError::io("make", Path::new("the upload"))(error)
}

/// Where large temporary files belong: `$TMPDIR`, else `/var/tmp`, because `/tmp` is memory on many systems.
fn folder() -> PathBuf {
    let said = std::env::var_os("TMPDIR").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let usual = Path::new("/var/tmp");
    said.unwrap_or_else(|| if usual.is_dir() { usual.to_owned() } else { std::env::temp_dir() })
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn spooled(chunks: usize, size: usize) -> Body {
        let stream = futures::stream::iter((0..chunks).map(move |n| Ok(Bytes::from(vec![n as u8; size]))));
        Body::of(PutBody::Stream(stream.boxed())).await.unwrap()
    }

    #[tokio::test]
    async fn a_short_stream_stays_in_memory_and_a_long_one_does_not() {
        for (chunks, size) in [(0, 0), (3, 5), (4, IN_MEMORY / 4)] {
            let body = spooled(chunks, size).await;
            assert!(matches!(body, Body::Bytes(_)) && body.length() == (chunks * size) as u64);
        }
        let Body::File { file, length } = spooled(300, 10_001).await else { panic!("in memory") };
        assert_eq!(length, 3_000_300);
        assert_eq!(read_at(&file, 2 * 10_001 - 1, 2).unwrap()[..], [1, 2]);
    }
}
