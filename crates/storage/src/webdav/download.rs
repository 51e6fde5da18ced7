//! Reading a file, or a part of it.
//!
//! Invariant: what comes out are the bytes from the offset that was asked for on, without a hole and without more than was
//! asked for, whatever the server makes of the request: a range that it ignores is cut out here, and a download that
//! breaks goes on where it was.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use reqwest::{Response, StatusCode};
use url::Url;

use super::exchange::{Request, Trouble};
use super::failure::Place;
use crate::error::StorageError;

/// How often in a row a download is resumed without a byte of progress.
const RESUMES: usize = 5;

/// A download under way.
pub(super) struct Download {
    place: Place,
    url: Url,
    wanted: Range<u64>,
    at: u64,
    /// What the server sends before `at`.
    surplus: u64,
    response: Response,
    resumes: usize,
}

impl Download {
    /// Asks for a range; one that ends at `u64::MAX` goes on to the end of the file.
    pub(super) async fn open(place: Place, url: Url, wanted: Range<u64>) -> Result<Self, StorageError> {
        let (response, surplus) = request(&place, &url, wanted.clone()).await?;
        // A server that ignores ranges sends the whole file, which may end before them.
        let whole = (response.status() == StatusCode::OK).then(|| response.content_length()).flatten();
        if wanted.start > 0 && whole.is_some_and(|length| length <= wanted.start) {
            return Err(past_end(&place, wanted.start));
        }
        Ok(Download { at: wanted.start, place, url, wanted, surplus, response, resumes: RESUMES })
    }

    /// The bytes as they arrive.
    pub(super) fn into_stream(self) -> BoxStream<'static, Result<Bytes, StorageError>> {
        let chunks = futures::stream::try_unfold(self, |mut download| async move {
            Ok(download.next().await?.map(|chunk| (chunk, download)))
        });
        chunks.boxed()
    }

    /// The next bytes; `None` at the end of the file or of what is wanted.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        while self.at < self.wanted.end {
            match self.place.server.next_chunk(&mut self.response).await {
                Ok(Some(chunk)) => {
                    let chunk = self.wanted_of(chunk);
                    if !chunk.is_empty() {
                        self.resumes = RESUMES;
                        return Ok(Some(chunk));
                    }
                }
                Ok(None) if self.surplus > 0 && self.wanted.start > 0 => {
                    return Err(past_end(&self.place, self.at));
                }
                Ok(None) => break,
                Err(trouble) => self.resume(trouble).await?,
            }
        }
        Ok(None)
    }

    /// What a chunk has of the wanted bytes.
    fn wanted_of(&mut self, mut chunk: Bytes) -> Bytes {
        let before = self.surplus.min(chunk.len() as u64);
        self.surplus -= before;
        let _ = chunk.split_to(before as usize);
        let room = usize::try_from(self.wanted.end - self.at).unwrap_or(usize::MAX);
        chunk.truncate(room);
        self.at += chunk.len() as u64;
        chunk
    }

    async fn resume(&mut self, trouble: Trouble) -> Result<(), StorageError> {
        let passes = matches!(trouble, Trouble::Connect { .. } | Trouble::Lost { .. });
        if !passes || self.resumes == 0 {
            return Err(self.place.failed("reading", &trouble));
        }
        self.resumes -= 1;
        match request(&self.place, &self.url, self.at..self.wanted.end).await {
            Ok(answer) => (self.response, self.surplus) = answer,
            // Everything was there already, but for the word that it is the end.
            Err(StorageError::PastEnd { .. }) if self.at > self.wanted.start => self.wanted.end = self.at,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The answer to a request for a range, and how much it sends before it.
async fn request(place: &Place, url: &Url, range: Range<u64>) -> Result<(Response, u64), StorageError> {
    let mut request = Request::new("GET", url);
    match (range.start, range.end) {
        (0, u64::MAX) => {}
        (start, u64::MAX) => request = request.header("range", format!("bytes={start}-")),
        (start, end) => request = request.header("range", format!("bytes={start}-{}", end.saturating_sub(1))),
    }
    let response = place.server.send(request).await.map_err(|trouble| place.failed("reading", &trouble))?;
    match response.status() {
        StatusCode::OK => Ok((response, range.start)),
        StatusCode::PARTIAL_CONTENT if begins_at(&response, range.start) => Ok((response, 0)),
        StatusCode::PARTIAL_CONTENT => {
            Err(place.unavailable("reading", "the server sent another range than was asked for"))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => Err(past_end(place, range.start)),
        _ => Err(place.refused("reading", response).await),
    }
}

/// Whether `Content-Range: bytes 5-9/10` says what was asked for; without it the server is believed.
fn begins_at(response: &Response, start: u64) -> bool {
    let range = response.headers().get("content-range").and_then(|value| value.to_str().ok());
    let first =
        range.and_then(|range| range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok());
    first.is_none_or(|first: u64| first == start)
}

fn past_end(place: &Place, offset: u64) -> StorageError {
    StorageError::PastEnd { location: place.location.clone(), offset }
}
