//! From a body to an object: one request if it fits, else parts with a bounded number under way.
//!
//! Invariants: the object appears whole or not at all; an upload that fails or is dropped is taken back; memory is
//! bounded by part size times the number of parts under way.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{MultipartUpload, PutPayload};
use tokio::task::JoinSet;

use crate::client::PutBody;
use crate::error::StorageError;

/// S3 and Google take no more parts than this; Azure takes five times as many.
const MAX_PARTS: u64 = 10_000;
/// A stream of unknown length starts with small parts; after each so many of them the size doubles, so that the
/// greatest object of S3 (5 TiB) fits into [`MAX_PARTS`].
const PARTS_OF_ONE_SIZE: u64 = 1_000;

/// A body, cut into parts.
pub(super) struct Parts {
    source: Source,
    first_size: u64,
    equal: bool,
    taken: u64,
}

enum Source {
    Bytes(Bytes),
    File { file: Arc<File>, path: PathBuf, at: u64, size: u64 },
    Stream { stream: BoxStream<'static, Result<Bytes, std::io::Error>>, rest: Bytes, ended: bool },
}

/// A part, and whether it is the last.
pub(super) struct Part {
    pub(super) payload: PutPayload,
    pub(super) is_last: bool,
}

impl Parts {
    /// Parts of `size`, larger if the body needs more than the clouds allow; all of the same size if `equal`.
    pub(super) async fn open(body: PutBody, size: u64, equal: bool) -> Result<Self, StorageError> {
        let (source, length) = match body {
            PutBody::Bytes(bytes) => {
                let length = bytes.len() as u64;
                (Source::Bytes(bytes), length)
            }
            PutBody::File(path) => {
                let opening = path.clone();
                let open = move || {
                    let file = File::open(&opening)?;
                    let size = file.metadata()?.len();
                    Ok((file, size))
                };
                let (file, size) = blocking(open).await.map_err(StorageError::io("read", &path))?;
                (Source::File { file: Arc::new(file), path, at: 0, size }, size)
            }
            PutBody::Stream(stream) => (Source::Stream { stream, rest: Bytes::new(), ended: false }, 0),
        };
        Ok(Parts { source, first_size: size.max(length.div_ceil(MAX_PARTS)), equal, taken: 0 })
    }

    fn next_size(&self) -> usize {
        let doublings = match (&self.source, self.equal) {
            (Source::Stream { .. }, false) => self.taken / PARTS_OF_ONE_SIZE,
            _ => 0,
        };
        usize::try_from(self.first_size << doublings.min(16)).unwrap_or(usize::MAX)
    }

    /// The next part. The last one may be empty. Not to be called after the last.
    pub(super) async fn next(&mut self) -> Result<Part, StorageError> {
        let wanted = self.next_size();
        self.taken += 1;
        match &mut self.source {
            Source::Bytes(bytes) => {
                let part = bytes.split_to(wanted.min(bytes.len()));
                Ok(Part { payload: part.into(), is_last: bytes.is_empty() })
            }
            Source::File { file, path, at, size } => {
                let from = *at;
                let length = wanted.min(usize::try_from(*size - from).unwrap_or(usize::MAX));
                let file = Arc::clone(file);
                let read = move || {
                    let mut bytes = vec![0; length];
                    file.read_exact_at(&mut bytes, from)?;
                    Ok(bytes)
                };
                let bytes = blocking(read).await.map_err(StorageError::io("read", path))?;
                *at += length as u64;
                Ok(Part { payload: bytes.into(), is_last: *at == *size })
            }
            Source::Stream { stream, rest, ended } => next_of_stream(stream, rest, ended, wanted).await,
        }
    }
}

async fn next_of_stream(
    stream: &mut BoxStream<'static, Result<Bytes, std::io::Error>>,
    rest: &mut Bytes,
    ended: &mut bool,
    wanted: usize,
) -> Result<Part, StorageError> {
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut have = 0;
    while have < wanted {
        if rest.is_empty() {
            match stream.next().await {
                Some(chunk) => *rest = chunk.map_err(StorageError::io("make", "the upload".as_ref()))?,
                None => {
                    *ended = true;
                    break;
                }
            }
        }
        let chunk = rest.split_to(rest.len().min(wanted - have));
        have += chunk.len();
        chunks.push(chunk);
    }
    Ok(Part { payload: PutPayload::from_iter(chunks), is_last: *ended })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// A multipart upload that takes itself back unless it is finished.
pub(super) struct Multipart {
    upload: Option<Box<dyn MultipartUpload>>,
    under_way: JoinSet<object_store::Result<()>>,
    at_once: usize,
}

impl Multipart {
    pub(super) fn new(upload: Box<dyn MultipartUpload>, at_once: usize) -> Self {
        Multipart { upload: Some(upload), under_way: JoinSet::new(), at_once }
    }

    /// Sends a part; waits while as many as allowed are under way.
    pub(super) async fn send(&mut self, payload: PutPayload) -> object_store::Result<()> {
        while self.under_way.len() >= self.at_once {
            self.await_one().await?;
        }
        if let Some(upload) = &mut self.upload {
            self.under_way.spawn(upload.put_part(payload));
        }
        Ok(())
    }

    async fn await_one(&mut self) -> object_store::Result<()> {
        match self.under_way.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(source)) => Err(object_store::Error::JoinError { source }),
            None => Ok(()),
        }
    }

    /// Makes the object out of its parts.
    pub(super) async fn complete(&mut self) -> object_store::Result<()> {
        while !self.under_way.is_empty() {
            self.await_one().await?;
        }
        if let Some(upload) = &mut self.upload {
            upload.complete().await?;
            self.upload = None;
        }
        Ok(())
    }

    /// Takes the upload back. Its parts cost money until then, so this is worth a request, but never an error.
    pub(super) async fn abort(&mut self) {
        self.under_way.shutdown().await;
        if let Some(mut upload) = self.upload.take()
            && let Err(error) = upload.abort().await
        {
            tracing::debug!(%error, "cannot take back a multipart upload");
        }
    }
}

impl Drop for Multipart {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) = (self.upload.take(), tokio::runtime::Handle::try_current()) {
            self.under_way.abort_all();
            runtime.spawn(async move { upload.abort().await });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sizes(body: PutBody, size: u64) -> Vec<usize> {
        let mut parts = Parts::open(body, size, false).await.unwrap();
        let mut sizes = Vec::new();
        loop {
            let part = parts.next().await.unwrap();
            sizes.push(part.payload.content_length());
            if part.is_last {
                return sizes;
            }
        }
    }

    #[tokio::test]
    async fn every_kind_of_body_is_cut_the_same_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        std::fs::write(&path, [7; 25]).unwrap();
        assert_eq!(sizes(PutBody::Bytes(Bytes::from_static(&[7; 25])), 10).await, [10, 10, 5]);
        assert_eq!(sizes(PutBody::File(path), 10).await, [10, 10, 5]);
        let chunks = futures::stream::iter((0..5).map(|_| Ok(Bytes::from_static(&[7; 5]))));
        assert_eq!(sizes(PutBody::Stream(chunks.boxed()), 10).await, [10, 10, 5]);
        assert_eq!(sizes(PutBody::Bytes(Bytes::new()), 10).await, [0]);
    }

    #[tokio::test]
    async fn parts_grow_so_that_any_object_fits() {
        let empty = || PutBody::Stream(futures::stream::empty().boxed());
        let mut parts = Parts::open(empty(), 8 << 20, false).await.unwrap();
        let total: u64 = (0..MAX_PARTS)
            .map(|taken| {
                parts.taken = taken;
                parts.next_size() as u64
            })
            .sum();
        assert!(total > 5 << 40);
        let mut parts = Parts::open(empty(), 8 << 20, true).await.unwrap();
        parts.taken = MAX_PARTS;
        assert_eq!(parts.next_size(), 8 << 20);
    }
}
