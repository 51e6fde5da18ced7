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
use super::numbered::Numbered;
use super::server::Server;
use crate::tries::Tries;

/// Chunks that are asked for at once: 2 MiB.
pub(super) const CHUNKS_AT_ONCE: usize = 16;
/// Descriptions in one batch.
const METAS_AT_ONCE: u64 = 1024;

/// Where chunks come from.
enum Source {
    Numbered(Numbered),
    Consumer(Consumer),
}

impl Source {
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Source::Numbered(chunks) => chunks.next().await,
            Source::Consumer(chunks) => Ok(chunks.next().await?.map(|delivered| delivered.message.payload)),
        }
    }
}

/// A file that is being read.
pub(super) struct Reader {
    server: Arc<Server>,
    bucket: Bucket,
    found: Found,
    /// What is to be read yet.
    range: Range<u64>,
    /// Where the chunks come from, and at which offset the next one begins.
    source: Option<(Source, u64)>,
    /// Whether this server gives messages by their numbers, as far as is known.
    by_number: bool,
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
            by_number: true,
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
        let (chunk, chunk_begin) = match self.source.take() {
            None if info.chunks <= 1 => {
                let connection = self.server.connection().await?;
                (self.bucket.only_chunk(&connection, &info.nuid).await?, 0)
            }
            source => {
                let (mut source, at) = match source {
                    Some(source) => source,
                    None => self.open().await?,
                };
                let chunk = match (source.next().await?, &source) {
                    (Some(chunk), _) => chunk,
                    (None, Source::Numbered(_)) => {
                        self.by_number = false;
                        return Ok(Bytes::new());
                    }
                    (None, Source::Consumer(_)) => {
                        return Err(Failure::Damaged("a part of its content is missing".into()));
                    }
                };
                self.source = Some((source, at + chunk.len() as u64));
                (chunk, at)
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

    /// The chunks that hold the range, and where they begin.
    async fn open(&self) -> Result<(Source, u64), Failure> {
        let connection = self.server.connection().await?;
        let info = &self.found.info;
        let layout = self.server.layouts.of(&connection, &self.bucket, &self.found).await?;
        let chunks = layout.of_range(&self.range);
        let Some(first) = chunks.first() else {
            return Err(Failure::Damaged("its content is missing".into()));
        };
        let source = if self.by_number {
            Source::Numbered(Numbered::open(&connection, &self.bucket, &info.nuid, chunks).await?)
        } else {
            let subject = self.bucket.chunks(&info.nuid);
            let batch = chunks.len().min(CHUNKS_AT_ONCE) as u64;
            Source::Consumer(Consumer::from(&connection, &self.bucket, &subject, first.number, batch).await?)
        };
        Ok((source, first.begin))
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
