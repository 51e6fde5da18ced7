//! Reading files and listings.
//!
//! Invariant: what is read is what the description promises: its length always, and its digest where all of it is read.

use std::ops::Range;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use ring::digest::{Context, SHA256};

use super::bucket::{Bucket, Found};
use super::connection::Connection;
use super::consumer::{Consumer, Delivered};
use super::failure::Failure;
use super::server::Server;
use crate::tries::Tries;

/// Chunks in one batch: 2 MiB.
const CHUNKS_AT_ONCE: u64 = 16;
/// Descriptions in one batch.
const METAS_AT_ONCE: u64 = 1024;
/// After so many guesses where a chunk is, it is searched from the beginning.
const GUESSES: u32 = 16;

/// A file that is being read.
pub(super) struct Reader {
    server: Arc<Server>,
    bucket: Bucket,
    found: Found,
    /// What is to be read yet.
    range: Range<u64>,
    /// Where the chunks come from, and at which offset the next one begins.
    source: Option<(Consumer, u64)>,
    digest: Option<Context>,
    tries: Tries,
}

impl Reader {
    /// Reads a range of a file, which must lie in it.
    pub(super) fn new(server: &Arc<Server>, bucket: &Bucket, found: Found, range: Range<u64>) -> Self {
        let whole = range == (0..found.info.size) && found.info.digest.is_some();
        Reader {
            server: Arc::clone(server),
            bucket: bucket.clone(),
            found,
            range,
            source: None,
            digest: whole.then(|| Context::new(&SHA256)),
            tries: Tries::default(),
        }
    }

    /// The next bytes; none at the end. A download that is cut goes on where it stood.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        while !self.range.is_empty() {
            match self.step().await {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => {
                    self.tries = Tries::default();
                    self.range.start += bytes.len() as u64;
                    if let Some(digest) = &mut self.digest {
                        digest.update(&bytes);
                    }
                    return Ok(Some(bytes));
                }
                Err(failure) if failure.may_pass() && self.tries.again().await => self.source = None,
                Err(failure) => return Err(failure),
            }
        }
        self.source = None;
        self.check_digest().map(|()| None)
    }

    /// All of the range.
    pub(super) async fn read(mut self) -> Result<Bytes, Failure> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        if self.range.is_empty() {
            return Ok(first);
        }
        let mut all = BytesMut::from(first);
        while let Some(more) = self.next().await? {
            all.extend_from_slice(&more);
        }
        Ok(all.freeze())
    }

    async fn step(&mut self) -> Result<Bytes, Failure> {
        let info = &self.found.info;
        let begin = info.chunk_size().map_or(0, |size| self.range.start / size * size);
        let (chunk, chunk_begin) = match self.source.take() {
            // The end of a file, where its index is, and small files are one request.
            None if info.chunk_size().is_some_and(|size| begin + size >= info.size) => {
                let connection = self.server.connection().await?;
                (self.bucket.last_chunk(&connection, &info.nuid).await?, begin)
            }
            source => {
                let (mut consumer, at) = match source {
                    Some(source) => source,
                    None => self.open(begin).await?,
                };
                let Delivered { message, .. } = consumer
                    .next()
                    .await?
                    .ok_or_else(|| Failure::Damaged("a part of its content is missing".into()))?;
                self.source = Some((consumer, at + message.payload.len() as u64));
                (message.payload, at)
            }
        };
        let end = chunk_begin + chunk.len() as u64;
        if end > info.size || (end < info.size && chunk.is_empty()) {
            return Err(Failure::Damaged("its content is not as long as its description says".into()));
        }
        let part = self.range.start.clamp(chunk_begin, end)..self.range.end.clamp(chunk_begin, end);
        let part = (part.start - chunk_begin) as usize..(part.end - chunk_begin) as usize;
        if part.is_empty() && end >= info.size {
            return Err(Failure::Damaged("its content is not as long as its description says".into()));
        }
        Ok(chunk.slice(part))
    }

    /// The chunks from the one at `begin` on, or from one before it.
    async fn open(&self, begin: u64) -> Result<(Consumer, u64), Failure> {
        let info = &self.found.info;
        let connection = self.server.connection().await?;
        let subject = self.bucket.chunks(&info.nuid);
        let size = info.chunk_size().unwrap_or(1);
        let wanted = info.chunks - if info.chunk_size().is_some() { begin / size } else { 0 };
        let last = info.chunk_size().map_or(info.chunks, |size| self.range.end.div_ceil(size));
        let batch = (last - (info.chunks - wanted)).clamp(1, CHUNKS_AT_ONCE);
        // The chunks end right before the description, unless somebody else wrote at the same time.
        let mut guess = self.found.sequence.saturating_sub(wanted);
        for guesses in 0..=GUESSES {
            let from = if guesses == GUESSES || begin == 0 { 1 } else { guess.max(1) };
            let consumer = Consumer::from(&connection, &self.bucket, &subject, from, batch).await?;
            if consumer.pending >= wanted {
                let offset = info.chunks.saturating_sub(consumer.pending) * size;
                return Ok((consumer, if info.chunk_size().is_some() { offset } else { 0 }));
            }
            if from == 1 {
                break;
            }
            guess = guess.saturating_sub((wanted - consumer.pending) << guesses);
        }
        Err(Failure::Damaged("a part of its content is missing".into()))
    }

    fn check_digest(&mut self) -> Result<(), Failure> {
        let (Some(digest), Some(promised)) = (self.digest.take(), &self.found.info.digest) else {
            return Ok(());
        };
        let digest = digest.finish();
        let promised = promised.split_once('=').map_or("", |(_, digest)| digest);
        let is = [URL_SAFE.encode(digest), URL_SAFE_NO_PAD.encode(digest)].iter().any(|is| is == promised);
        match is || promised.is_empty() {
            true => Ok(()),
            false => {
                Err(Failure::Damaged("its content does not have the digest that was stored with it".into()))
            }
        }
    }
}

/// The descriptions of all objects. What is not understood is left out.
pub(super) async fn list(connection: Arc<Connection>, bucket: &Bucket) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    let mut consumer = Consumer::newest(&connection, bucket, &bucket.metas(), METAS_AT_ONCE).await?;
    while let Some(Delivered { message, sequence, stored_at }) = consumer.next().await? {
        if let Ok(info) = serde_json::from_slice(&message.payload) {
            found.push(Found { info, sequence, stored_at });
        }
    }
    Ok(found)
}
