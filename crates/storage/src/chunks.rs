//! A body on its way to a server, in chunks.
//!
//! Invariant: no more of a body is in memory than one chunk and what its stream brought beyond it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::client::PutBody;
use crate::error::StorageError;

/// What is left of a body.
pub(crate) struct Chunks(Source);

enum Source {
    Bytes { all: Bytes, at: usize },
    File { path: PathBuf, opened: Option<Arc<File>>, at: u64 },
    Stream { stream: BoxStream<'static, Result<Bytes, std::io::Error>>, rest: Bytes, begun: bool },
}

impl Chunks {
    /// All of a body.
    pub(crate) fn of(body: PutBody) -> Self {
        Chunks(match body {
            PutBody::Bytes(all) => Source::Bytes { all, at: 0 },
            PutBody::File(path) => Source::File { path, opened: None, at: 0 },
            // Asked once more after its end, a stream may panic.
            PutBody::Stream(stream) => {
                Source::Stream { stream: stream.fuse().boxed(), rest: Bytes::new(), begun: false }
            }
        })
    }

    /// Goes back to the beginning. A stream can be read only once: `false` if that was begun.
    pub(crate) fn restart(&mut self) -> bool {
        match &mut self.0 {
            Source::Bytes { at, .. } => *at = 0,
            Source::File { at, .. } => *at = 0,
            Source::Stream { begun, .. } => return !*begun,
        }
        true
    }

    /// The next `size` bytes, fewer at the end, none after it.
    pub(crate) async fn next(&mut self, size: usize) -> Result<Bytes, StorageError> {
        match &mut self.0 {
            Source::Bytes { all, at } => {
                let chunk = all.slice(*at..all.len().min(*at + size));
                *at += chunk.len();
                Ok(chunk)
            }
            Source::File { path, opened, at } => {
                let (from, opening) = (*at, path.clone());
                let file = opened.clone();
                let read = move || {
                    let file = file.map_or_else(|| File::open(&opening).map(Arc::new), Ok)?;
                    let chunk = read_at(&file, from, size)?;
                    Ok((file, chunk))
                };
                let read = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other);
                let (file, chunk) = read.flatten().map_err(StorageError::io("read", path))?;
                *opened = Some(file);
                *at += chunk.len() as u64;
                Ok(chunk)
            }
            Source::Stream { stream, rest, begun } => {
                *begun = true;
                next_of_stream(stream, rest, size).await
            }
        }
    }
}

fn read_at(file: &File, from: u64, size: usize) -> std::io::Result<Bytes> {
    let left = file.metadata()?.len().saturating_sub(from);
    let mut bytes = vec![0; size.min(usize::try_from(left).unwrap_or(size))];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.into())
}

async fn next_of_stream(
    stream: &mut BoxStream<'static, Result<Bytes, std::io::Error>>,
    rest: &mut Bytes,
    size: usize,
) -> Result<Bytes, StorageError> {
    let mut chunk = Vec::with_capacity(size);
    while chunk.len() < size {
        if rest.is_empty() {
            match stream.next().await {
                Some(piece) => *rest = piece.map_err(StorageError::io("make", "the upload".as_ref()))?,
                None => break,
            }
        }
        chunk.extend_from_slice(&rest.split_to(rest.len().min(size - chunk.len())));
    }
    Ok(chunk.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sizes(chunks: &mut Chunks) -> Vec<usize> {
        let mut sizes = Vec::new();
        loop {
            match chunks.next(10).await.unwrap().len() {
                0 => return sizes,
                size => sizes.push(size),
            }
        }
    }

    #[tokio::test]
    async fn every_kind_of_body_is_cut_the_same_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        std::fs::write(&path, [7; 25]).unwrap();
        // A stream that must not be asked again after its end.
        let pieces = futures::stream::unfold(0, |n| async move {
            (n < 5).then(|| (Ok(Bytes::from_static(&[7; 5])), n + 1))
        });
        for (body, again) in [
            (PutBody::Bytes(Bytes::from_static(&[7; 25])), true),
            (PutBody::File(path), true),
            (PutBody::Stream(pieces.boxed()), false),
        ] {
            let mut chunks = Chunks::of(body);
            assert!(chunks.restart());
            assert_eq!(sizes(&mut chunks).await, [10, 10, 5]);
            assert_eq!(chunks.restart(), again);
            assert_eq!(sizes(&mut chunks).await.is_empty(), !again);
        }
    }
}
