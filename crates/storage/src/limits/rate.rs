//! So many bytes a second.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use tokio::time::Instant;

use crate::client::PutBody;
use crate::error::StorageError;

/// What may be used at once after a pause: so much time's worth.
const BURST: Duration = Duration::from_secs(1);
/// Bodies are let through in pieces of this size.
const PIECE: usize = 256 << 10;

/// A token bucket: bytes that may be moved in each second, shared by all who hold it.
pub struct Rate {
    bytes_per_second: u64,
    /// When the bytes that were taken so far are through.
    through: Mutex<Instant>,
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rate({} bytes/s)", self.bytes_per_second)
    }
}

/// As fast as the other, whatever went through either.
impl PartialEq for Rate {
    fn eq(&self, other: &Self) -> bool {
        self.bytes_per_second == other.bytes_per_second
    }
}

impl Eq for Rate {}

impl Rate {
    /// So many bytes a second; at least one.
    pub fn new(bytes_per_second: u64) -> Self {
        Rate { bytes_per_second: bytes_per_second.max(1), through: Mutex::new(Instant::now()) }
    }

    /// How many bytes a second.
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Waits until so many bytes more are within the rate.
    pub async fn take(&self, bytes: u64) {
        let until = {
            let mut through = self.through.lock().unwrap_or_else(PoisonError::into_inner);
            let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
            let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            let now = Instant::now();
            *through = (*through).max(now.checked_sub(BURST).unwrap_or(now)) + cost;
            *through
        };
        tokio::time::sleep_until(until).await;
    }
}

/// A chunk, when its turn has come.
pub(super) async fn paced(
    rate: Arc<Rate>,
    chunk: Result<Bytes, StorageError>,
) -> Result<Bytes, StorageError> {
    if let Ok(chunk) = &chunk {
        rate.take(chunk.len() as u64).await;
    }
    chunk
}

/// A body that is given out no faster than the rate.
pub(super) async fn pace(body: PutBody, rate: &Arc<Rate>) -> Result<PutBody, StorageError> {
    let stream = match body {
        // A small one keeps its shape, so that it can be sent again.
        PutBody::Bytes(bytes) if bytes.len() <= PIECE => {
            rate.take(bytes.len() as u64).await;
            return Ok(PutBody::Bytes(bytes));
        }
        PutBody::Bytes(bytes) => {
            let starts = (0..bytes.len()).step_by(PIECE);
            let pieces: Vec<_> = starts.map(|at| Ok(bytes.slice(at..bytes.len().min(at + PIECE)))).collect();
            stream::iter(pieces).boxed()
        }
        PutBody::File(path) => {
            let opened = open(path.clone()).await.map_err(StorageError::io("read", &path))?;
            stream::try_unfold(opened, next_piece).boxed()
        }
        PutBody::Stream(stream) => stream,
    };
    let rate = Arc::clone(rate);
    let paced = stream.then(move |piece: Result<Bytes, std::io::Error>| {
        let rate = Arc::clone(&rate);
        async move {
            if let Ok(piece) = &piece {
                rate.take(piece.len() as u64).await;
            }
            piece
        }
    });
    Ok(PutBody::Stream(paced.boxed()))
}

async fn open(path: PathBuf) -> std::io::Result<File> {
    tokio::task::spawn_blocking(move || File::open(path)).await.map_err(std::io::Error::other)?
}

async fn next_piece(mut file: File) -> std::io::Result<Option<(Bytes, File)>> {
    let read = move || {
        let mut piece = Vec::new();
        file.by_ref().take(PIECE as u64).read_to_end(&mut piece)?;
        Ok((!piece.is_empty()).then(|| (Bytes::from(piece), file)))
    };
    tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_over_time_and_bursts_are_bounded() {
        let rate = Rate::new(1000);
        tokio::time::advance(Duration::from_secs(60)).await;
        let begun = Instant::now();
        for _ in 0..30 {
            rate.take(100).await;
        }
        assert_eq!(begun.elapsed().as_secs(), 2, "3000 bytes: a second's worth at once, the rest in two");
    }

    #[tokio::test(start_paused = true)]
    async fn every_body_is_paced_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        let long: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &long).unwrap();
        for body in [
            PutBody::Bytes(long.clone().into()),
            PutBody::File(path),
            PutBody::Stream(stream::iter([Ok(Bytes::from(long.clone()))]).boxed()),
        ] {
            let rate = Arc::new(Rate::new(100_000));
            let begun = Instant::now();
            let PutBody::Stream(stream) = pace(body, &rate).await.unwrap() else { panic!() };
            let pieces: Vec<Bytes> = stream.try_collect().await.unwrap();
            assert!(pieces.concat() == long);
            assert!((9..=10).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        }
    }
}
