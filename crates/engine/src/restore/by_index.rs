//! Restoring by page index: only the newest version of each page is fetched, from all files at once.
//!
//! Invariant: every page of the database is written once. The files' own checksums prove nothing here, for
//! only parts of the files are read: the rolling checksum of the whole database does.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::task::{JoinSet, spawn_blocking};
use walstream_ltx::{Checksum, Header, IndexEntry, PageIndex, Pgno, decode_frame, page_digest, split_frames};

use super::delta::Differing;
use super::fetch::Source;
use super::pages::{Piece, Pieces, newest_pages, survey};
use super::progress::Meter;
use super::write::PageSink;
use crate::error::EngineError;

/// The files that matter, oldest first, with their indexes.
pub(super) struct Opened {
    newest: Header,
    sources: Vec<Arc<Source>>,
    indexes: Vec<Arc<PageIndex>>,
    /// Bytes to be fetched.
    size: u64,
}

/// A file whose header and index were read.
#[derive(Clone)]
pub(super) struct OpenFile {
    pub(super) source: Arc<Source>,
    pub(super) header: Header,
    index: Arc<PageIndex>,
}

/// Reads header and index of every planned file, oldest first, and checks that together they hold every page.
pub(super) async fn open(
    sources: Vec<Source>,
    newest: Header,
    parallelism: usize,
) -> Result<Opened, EngineError> {
    Opened::of(open_all(sources, parallelism).await?, newest)
}

/// Reads header and index of every file, and keeps some small ones.
pub(super) async fn open_all(sources: Vec<Source>, parallelism: usize) -> Result<Vec<OpenFile>, EngineError> {
    let mut room = sources.first().map_or(0, Source::range) * parallelism as u64;
    let opening = sources.into_iter().map(|source| {
        let keep = source.file.size <= room;
        room -= if keep { source.file.size } else { 0 };
        open_one(source, keep)
    });
    let files: Vec<_> = stream::iter(opening).buffered(parallelism).try_collect().await?;
    let open =
        |(source, header, index)| OpenFile { source: Arc::new(source), header, index: Arc::new(index) };
    Ok(files.into_iter().map(open).collect())
}

/// Reads the header and the index of a file.
pub(super) async fn open_one(
    mut source: Source,
    keep: bool,
) -> Result<(Source, Header, PageIndex), EngineError> {
    let header = source.read_header(keep).await?;
    let index = source.read_index(&header).await?;
    Ok((source, header, index))
}

impl Opened {
    /// Checks that the files of a plan, oldest first, continue each other and together hold every page. Files from
    /// before a change of the page size are left out: the file of the change holds a whole database.
    pub(super) fn of(mut files: Vec<OpenFile>, newest: Header) -> Result<Opened, EngineError> {
        let border = files.iter().rposition(|file| file.header.page_size != newest.page_size);
        files.drain(..border.map_or(0, |last_of_old_size| last_of_old_size + 1));
        for pair in files.windows(2) {
            let [older, file] = pair else { continue };
            file.source.check_successor_of(&older.header, &file.header)?;
        }
        let (sources, indexes): (Vec<_>, Vec<_>) =
            files.into_iter().map(|file| (file.source, file.index)).unzip();
        match (survey(&indexes, newest.page_size, newest.commit), sources.last()) {
            (Err(page), Some(newest)) => Err(newest.lacks(page)),
            (size, _) => Ok(Opened { newest, sources, indexes, size: size.unwrap_or_default() }),
        }
    }

    /// The header of the last of them, which has the database that is wanted.
    pub(super) fn newest(&self) -> &Header {
        &self.newest
    }

    /// The files, oldest first.
    pub(super) fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// The newest version of every page: the position of its file in [`Opened::sources`], and where it is there.
    pub(super) fn newest_pages(&self) -> impl Iterator<Item = (usize, IndexEntry)> {
        newest_pages(&self.indexes, self.newest.commit)
    }

    /// The newest version of one page, if the database has it.
    pub(super) fn newest_of(&self, pgno: Pgno) -> Option<(usize, IndexEntry)> {
        let found = |(file, index): (usize, &Arc<PageIndex>)| Some((file, index.lookup(pgno)?));
        let inside = self.newest.commit.contains(pgno);
        self.indexes.iter().enumerate().rev().find_map(found).filter(|_| inside)
    }

    /// Writes every page, with `parallelism` requests on their way, and returns the rolling checksum of what
    /// was written.
    pub(super) async fn write(
        &self,
        sink: &PageSink,
        parallelism: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Checksum, EngineError> {
        let Header { page_size, commit, .. } = self.newest;
        meter.planned(self.size, u64::from(commit.stored_pages(page_size)));
        self.write_pages(|_| true, sink, parallelism, meter).await
    }

    /// Writes those pages only that are not in place already.
    pub(super) async fn write_differing(
        &self,
        differing: &Differing,
        sink: &PageSink,
        parallelism: usize,
        meter: &mut Meter<'_>,
    ) -> Result<(), EngineError> {
        let pages = newest_pages(&self.indexes, self.newest.commit)
            .filter(|(_, entry)| differing.contains(entry.pgno));
        let (bytes, count) =
            pages.fold((0, 0), |(bytes, count), (_, entry)| (bytes + u64::from(entry.size), count + 1));
        meter.planned(bytes, count);
        self.write_pages(|pgno| differing.contains(pgno), sink, parallelism, meter).await.map(|_| ())
    }

    async fn write_pages(
        &self,
        wanted: impl Fn(Pgno) -> bool,
        sink: &PageSink,
        parallelism: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Checksum, EngineError> {
        let mut rolling = Checksum::EMPTY;
        let mut tasks = JoinSet::new();
        let pages = newest_pages(&self.indexes, self.newest.commit).filter(|(_, entry)| wanted(entry.pgno));
        let mut pieces =
            Pieces::new(pages, self.sources.len(), self.sources.first().map_or(0, |source| source.range()));
        loop {
            while tasks.len() < parallelism
                && let Some(piece) = pieces.next()
            {
                tasks.spawn(write_piece(Arc::clone(&self.sources[piece.file]), piece, sink.clone()));
            }
            let Some(written) = tasks.join_next().await else { return Ok(rolling) };
            rolling = rolling.toggle(written??);
            meter.tell();
        }
    }
}

async fn write_piece(source: Arc<Source>, piece: Piece, sink: PageSink) -> Result<Checksum, EngineError> {
    let bytes = source.read(piece.range()).await?;
    spawn_blocking(move || decode_piece(&source, piece, &bytes, &sink)).await?
}

/// Decompresses the pages of a piece to their places and returns the XOR of their checksums.
fn decode_piece(
    source: &Source,
    piece: Piece,
    bytes: &Bytes,
    sink: &PageSink,
) -> Result<Checksum, EngineError> {
    let mut rolling = Checksum::EMPTY;
    let mut run = sink.run();
    for found in split_frames(bytes, piece.start, piece.pages) {
        let (entry, frame) = found.map_err(|error| source.damaged(error))?;
        if !run.accepts(entry.pgno) {
            sink.write(std::mem::replace(&mut run, sink.run()))?;
        }
        let page = run.push(entry.pgno);
        decode_frame(frame, entry.pgno, sink.page_size(), page).map_err(|error| source.damaged(error))?;
        rolling = rolling.toggle(page_digest(entry.pgno, page));
    }
    sink.write(run)?;
    Ok(rolling)
}
