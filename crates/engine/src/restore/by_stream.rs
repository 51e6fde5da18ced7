//! Restoring by reading whole files, newest first.
//!
//! Invariant: every file that gave a page was read to its end and proven by its own checksum; every page of
//! the database is written once, from the newest file that holds it. This is how files are restored that do
//! not carry the rolling checksum of the database, such as Litestream's.
//!
//! Three stages work at once: ranges are fetched ahead in order, one thread decompresses and checks, one
//! writes.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use bytes::{Buf, Bytes};
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use walstream_ltx::{Checksum, Commit, Decoder, Header, PageSize, Pgno, page_digest};

use super::fetch::Source;
use super::progress::Meter;
use super::write::{PageSink, Run};
use crate::error::EngineError;

/// Runs of pages between the thread that decompresses and the one that writes.
const RUNS: usize = 4;

/// Writes every page from the `sources` (oldest first) and returns the rolling checksum of what was written.
pub(super) async fn write(
    sources: &[Arc<Source>],
    newest: &Header,
    sink: &PageSink,
    parallelism: usize,
    meter: &mut Meter<'_>,
) -> Result<Checksum, EngineError> {
    let size = sources.iter().map(|source| source.file.size).fold(0, u64::saturating_add);
    meter.planned(size, u64::from(newest.commit.stored_pages(newest.page_size)));
    let (chunks, received) = mpsc::channel(1);
    let files: Vec<Arc<Source>> = sources.iter().rev().map(Arc::clone).collect();
    let decoding = Decoding { covered: Covered::new(newest), rolling: Checksum::EMPTY, chunks: received };
    let sink = sink.clone();
    let decoded = spawn_blocking({
        let files = files.clone();
        move || decode_and_write(decoding, &files, &sink)
    });
    let fetched = feed(fetch_ahead(files, parallelism), chunks, meter).await;
    let decoded = decoded.await?;
    meter.tell();
    fetched.and(decoded)
}

/// The bytes of the files, one after the other, with several ranges on their way.
fn fetch_ahead(
    files: Vec<Arc<Source>>,
    parallelism: usize,
) -> impl Stream<Item = Result<Bytes, EngineError>> {
    let ranges = files.into_iter().flat_map(|source| {
        let (size, range) = (source.file.size, source.range());
        let starts = (0..size.div_ceil(range)).map(move |n| n * range);
        starts.map(move |start| (Arc::clone(&source), start..size.min(start + range)))
    });
    stream::iter(ranges).map(|(source, range)| async move { source.read(range).await }).buffered(parallelism)
}

/// Hands on what is fetched until it is all there or no more is wanted.
pub(super) async fn feed(
    fetched: impl Stream<Item = Result<Bytes, EngineError>>,
    chunks: mpsc::Sender<Bytes>,
    meter: &mut Meter<'_>,
) -> Result<(), EngineError> {
    let mut fetched = std::pin::pin!(fetched);
    while let Some(chunk) = fetched.next().await {
        if chunks.send(chunk?).await.is_err() {
            break;
        }
        meter.tell();
    }
    Ok(())
}

/// Decompresses on this thread and writes on another.
fn decode_and_write(
    mut decoding: Decoding,
    files: &[Arc<Source>],
    sink: &PageSink,
) -> Result<Checksum, EngineError> {
    let (full, to_write) = sync_channel(RUNS);
    let mut pages = Pages { run: sink.run(), sink, full };
    thread::scope(|scope| {
        let writer = scope.spawn(|| to_write.into_iter().try_for_each(|run| sink.write(run)));
        let decoded = decoding.decode(files, &mut pages);
        drop(pages);
        let written = writer.join().map_err(|_| EngineError::TaskLost("writing pages".to_owned()))?;
        written.and(decoded)
    })
}

/// Pages on their way to the thread that writes.
struct Pages<'a> {
    run: Run,
    sink: &'a PageSink,
    full: SyncSender<Run>,
}

impl Pages<'_> {
    fn push(&mut self, pgno: Pgno, page: &[u8]) -> Result<(), EngineError> {
        if !self.run.accepts(pgno) {
            self.flush()?;
        }
        self.run.push(pgno).copy_from_slice(page);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        let full = std::mem::replace(&mut self.run, self.sink.run());
        // The writer ends early only with an error, which then is the one that is told.
        self.full.send(full).map_err(|_| EngineError::TaskLost("writing pages".to_owned()))
    }
}

/// What is known while files are read, newest first.
struct Decoding {
    covered: Covered,
    rolling: Checksum,
    chunks: mpsc::Receiver<Bytes>,
}

impl Decoding {
    /// Reads files until every page of the database has been found.
    fn decode(&mut self, files: &[Arc<Source>], pages: &mut Pages<'_>) -> Result<Checksum, EngineError> {
        let mut newer: Option<(&Source, Header)> = None;
        for source in files {
            if self.covered.is_complete() {
                break;
            }
            let header = self.decode_file(source, newer, pages)?;
            newer = Some((source, header));
        }
        pages.flush()?;
        match (self.covered.missing(), files.first()) {
            (Some(page), Some(newest)) => Err(newest.lacks(page)),
            _ => Ok(self.rolling),
        }
    }

    fn decode_file(
        &mut self,
        source: &Source,
        newer: Option<(&Source, Header)>,
        pages: &mut Pages<'_>,
    ) -> Result<Header, EngineError> {
        let bytes = FileBytes::new(&mut self.chunks, source.file.size);
        let mut decoder = Decoder::new(bytes).map_err(|error| source.damaged(error))?;
        let header = decoder.header().clone();
        source.check_name(&header)?;
        if let Some((newer, newer_header)) = newer {
            newer.check_successor_of(&header, &newer_header)?;
        }
        while let Some(page) = decoder.next_page().map_err(|error| source.damaged(error))? {
            if self.covered.insert(page.pgno) {
                pages.push(page.pgno, page.data)?;
                self.rolling = self.rolling.toggle(page_digest(page.pgno, page.data));
            }
        }
        decoder.finish().map_err(|error| source.damaged(error))?;
        Ok(header)
    }
}

/// One file out of the row of chunks. A chunk never holds bytes of two files.
pub(super) struct FileBytes<'a> {
    chunks: &'a mut mpsc::Receiver<Bytes>,
    chunk: Bytes,
    left: u64,
    /// More was wanted than the file has.
    overrun: bool,
}

impl<'a> FileBytes<'a> {
    /// The next file, of `size` bytes.
    pub(super) fn new(chunks: &'a mut mpsc::Receiver<Bytes>, size: u64) -> Self {
        FileBytes { chunks, chunk: Bytes::new(), left: size, overrun: false }
    }

    /// Whether all bytes were read, and no more than these were wanted.
    pub(super) fn is_at_end_unasked(&self) -> bool {
        self.left == 0 && !self.overrun
    }
}

impl Read for FileBytes<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || out.is_empty() {
            self.overrun |= !out.is_empty();
            return Ok(0);
        }
        while self.chunk.is_empty() {
            let next = self.chunks.blocking_recv();
            self.chunk = next.ok_or_else(|| io::Error::other("fetching ended early"))?;
        }
        let length = out.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut out[..length]);
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}

/// The pages that have been found: a bit for each, kept only around those that were.
struct Covered {
    page_size: PageSize,
    commit: Commit,
    blocks: Vec<Option<Box<[u64; Covered::WORDS]>>>,
    found: u32,
}

impl Covered {
    const WORDS: usize = 512;
    const PAGES: usize = Covered::WORDS * 64;

    fn new(newest: &Header) -> Self {
        let Header { page_size, commit, .. } = *newest;
        let blocks = (commit.get() as usize).div_ceil(Covered::PAGES);
        Covered { page_size, commit, blocks: vec![None; blocks], found: 0 }
    }

    /// Marks a page; false if it was found before or lies beyond the end of the database.
    fn insert(&mut self, pgno: Pgno) -> bool {
        if !self.commit.contains(pgno) {
            return false;
        }
        let (block, page) = (pgno.index() / Covered::PAGES, pgno.index() % Covered::PAGES);
        let block = self.blocks[block].get_or_insert_with(|| Box::new([0; Covered::WORDS]));
        let (word, bit) = (&mut block[page / 64], 1 << (page % 64));
        let new = *word & bit == 0;
        *word |= bit;
        self.found += u32::from(new);
        new
    }

    fn contains(&self, pgno: Pgno) -> bool {
        let (block, page) = (pgno.index() / Covered::PAGES, pgno.index() % Covered::PAGES);
        self.blocks[block].as_ref().is_some_and(|block| block[page / 64] >> (page % 64) & 1 == 1)
    }

    fn is_complete(&self) -> bool {
        self.found == self.commit.stored_pages(self.page_size)
    }

    /// The first page that was not found.
    fn missing(&self) -> Option<Pgno> {
        let mut pages = self.commit.pages(self.page_size);
        if self.is_complete() { None } else { pages.find(|&pgno| !self.contains(pgno)) }
    }
}
