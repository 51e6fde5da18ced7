//! One step of compaction: files of a level become one file of the next.
//!
//! Invariants: sources are only read, so a compaction that fails at any point leaves the replica as it was. Every
//! source is read to its end and proven by its checksums before the new file is whole, so damage does not spread. A
//! file is reported only after its end has been read back from the store, so whoever deletes sources may rely on it.

use std::io::{self, Read};
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tracing::{debug, info, warn};
use walstream_ltx::{
    Decoder, EncodeError, Header, Level, MergeError, Summary, Trailer, Txid, TxidRange, merge, merged_header,
    verify,
};
use walstream_storage::{FileInfo, PutOutcome, ReplicaClient, StorageError, TimestampSource};

use super::sources::Limits;
use crate::background;
use crate::error::EngineError;
use crate::stream::{self, BodyWriter, FileReader, decode_failed};

/// The level-0 files that are also on the local disk.
pub trait LocalL0: Send + Sync + 'static {
    /// Opens the file of exactly these TXIDs, buffered, or those that it was merged from; at most `most` of them.
    /// `None` if they are not all there. Called on a blocking thread.
    fn open(&self, txids: TxidRange, most: usize) -> Result<Option<Vec<OpenFile>>, EngineError>;

    /// Removes the files that end at `through` or before. The newest file stays in any case. Called on a blocking
    /// thread.
    fn release(&self, through: Txid) -> Result<(), EngineError>;
}

/// A file that is being read.
pub struct OpenFile {
    /// What it holds.
    pub txids: TxidRange,
    /// Its content.
    pub content: Box<dyn Read + Send>,
}

/// No local files: everything is read from the replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLocalL0;

impl LocalL0 for NoLocalL0 {
    fn open(&self, _txids: TxidRange, _most: usize) -> Result<Option<Vec<OpenFile>>, EngineError> {
        Ok(None)
    }

    fn release(&self, _through: Txid) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Where to read from, where to write to, and how much at once.
#[derive(Clone)]
pub struct Compactor {
    /// The replica.
    pub client: Arc<dyn ReplicaClient>,
    /// Level-0 files that need not be fetched.
    pub local: Arc<dyn LocalL0>,
    /// Bounds of one compaction.
    pub limits: Limits,
}

/// Local files that one compaction holds open: each takes a descriptor and a buffer.
const MOST_LOCAL_FILES: usize = 256;

type Input = Decoder<Box<dyn Read + Send>>;

impl Compactor {
    /// Compacts `sources`, chosen by [`next_sources`](super::sources::next_sources), into one file of `level`. Where the page size changes the new
    /// file ends: nothing can be merged across that border.
    pub async fn compact(&self, level: Level, sources: &[FileInfo]) -> Result<FileInfo, EngineError> {
        let file = match self.merge(level, sources, self.local.clone()).await {
            Err(error) if sources.iter().any(|file| file.level == Level::L0) && !is_storage(&error) => {
                debug!(%error, "compacting again without local files");
                self.merge(level, sources, Arc::new(NoLocalL0)).await?
            }
            merged => merged?,
        };
        let txids = file.txids;
        info!(level = level.get(), txid.min = %txids.min(), txid.max = %txids.max(), size = file.size, "compaction complete");
        Ok(file)
    }

    async fn merge(
        &self,
        level: Level,
        sources: &[FileInfo],
        local: Arc<dyn LocalL0>,
    ) -> Result<FileInfo, EngineError> {
        let inputs = self.open(sources, local).await?;
        let headers: Vec<Header> = inputs.iter().map(|input| input.header().clone()).collect();
        let from = sources.first().map_or(level, |file| file.level);
        let header = merged_header(&headers).map_err(|error| merge_failed(error, from, level))?;

        let (writer, body) = stream::body();
        let merging = background::run(move || write_merged(inputs, writer));
        let put = self.client.put(level, header.txids, header.timestamp, body);
        let (merged, put) = tokio::join!(merging, put);
        let merged = merged?;
        match (put, merged) {
            (Ok(PutOutcome::AlreadyExists), _) => self.accept_existing(level, &header).await,
            (Err(refused), Err(error)) if is_broken_pipe(&error) => Err(refused.into()),
            (_, Err(error)) => Err(merge_failed(error, from, level)),
            (Err(refused), Ok(_)) => Err(refused.into()),
            (Ok(PutOutcome::Created), Ok(summary)) => self.read_back(level, &summary).await,
        }
    }

    /// Opens the sources up to the first with another page size.
    async fn open(&self, sources: &[FileInfo], local: Arc<dyn LocalL0>) -> Result<Vec<Input>, EngineError> {
        let (client, runtime) = (self.client.clone(), Handle::current());
        let (sources, limits) = (sources.to_vec(), self.limits);
        let opening = spawn_blocking(move || {
            let mut room = MOST_LOCAL_FILES;
            let mut here = |file| local_files(file, local.as_ref(), &mut room);
            let found: Vec<(&FileInfo, Option<Vec<OpenFile>>)> =
                sources.iter().map(|file| (file, here(file))).collect();
            let chunk_size = limits.chunk_size(found.iter().filter(|(_, files)| files.is_none()).count());
            let remote = |file| FileReader::open(client.clone(), file, chunk_size, runtime.clone());
            // All of them first, so that remote files arrive side by side.
            let opened: Vec<(Level, OpenFile)> = found
                .into_iter()
                .flat_map(|(file, local)| {
                    let files = local.unwrap_or_else(|| {
                        vec![OpenFile { txids: file.txids, content: Box::new(remote(file)) }]
                    });
                    files.into_iter().map(|opened| (file.level, opened))
                })
                .collect();
            decoders(opened)
        });
        opening.await?
    }

    /// Proves that what was written is what the store has.
    async fn read_back(&self, level: Level, written: &Summary) -> Result<FileInfo, EngineError> {
        let (txids, size) = (written.header.txids, written.size);
        let end = size.saturating_sub(Trailer::SIZE as u64);
        // One byte more than there should be, to see that there is not.
        match self.client.read(level, txids, end..size + 1).await {
            Ok(tail) if tail == written.trailer.encode().as_slice() => {}
            Ok(_) | Err(StorageError::PastEnd { .. }) => {
                self.client.delete(&[(level, txids)]).await?;
                let reason =
                    "the store does not give back what was written; the file was removed again".into();
                return Err(EngineError::Damaged { level, txids, reason });
            }
            Err(error) => return Err(error.into()),
        }
        Ok(FileInfo { level, txids, size, created_at: written.header.timestamp })
    }

    /// A file with our name is there: from an earlier attempt whose answer was lost, or of another writer.
    async fn accept_existing(&self, level: Level, ours: &Header) -> Result<FileInfo, EngineError> {
        let listing = self.client.list(level, ours.txids.min(), TimestampSource::Listing).await?;
        let Some(file) = listing.into_iter().find(|file| file.txids == ours.txids) else {
            let reason = "it exists, but a listing does not show it".into();
            return Err(EngineError::Damaged { level, txids: ours.txids, reason });
        };
        let reader =
            FileReader::open(self.client.clone(), &file, self.limits.chunk_size(1), Handle::current());
        let found = spawn_blocking(move || verify(reader)).await?;
        let found = found.map_err(|error| decode_failed(error, level, ours.txids))?.header;
        if !is_same(&found, ours) {
            let reason =
                format!("level {level} file {} holds something else than was to be written", ours.txids);
            return Err(EngineError::Fenced { location: self.client.location(), reason });
        }
        Ok(FileInfo { created_at: found.timestamp, ..file })
    }
}

impl Limits {
    /// Bytes to fetch at once from each of so many files. Each may hold two such chunks.
    fn chunk_size(&self, files: usize) -> u64 {
        (self.read_memory / 2 / files.max(1) as u64).clamp(16 << 10, 4 << 20)
    }
}

/// What the local disk has of a file, as long as there is room.
fn local_files(file: &FileInfo, local: &dyn LocalL0, room: &mut usize) -> Option<Vec<OpenFile>> {
    if file.level != Level::L0 {
        return None;
    }
    match local.open(file.txids, *room) {
        Ok(files) => {
            *room -= files.as_ref().map_or(0, Vec::len).min(*room);
            files
        }
        Err(error) => {
            warn!(%error, txids = %file.txids, "cannot open a local level-0 file, reading it from the replica");
            None
        }
    }
}

/// Reads the headers and checks that they are those of the names.
fn decoders(opened: Vec<(Level, OpenFile)>) -> Result<Vec<Input>, EngineError> {
    let mut inputs: Vec<Input> = Vec::with_capacity(opened.len());
    for (level, OpenFile { txids, content }) in opened {
        let input = Decoder::new(content).map_err(|error| decode_failed(error, level, txids))?;
        let header = input.header();
        if header.txids != txids {
            let reason = format!("its header says that it holds {}", header.txids);
            return Err(EngineError::Damaged { level, txids, reason });
        }
        if inputs.first().is_some_and(|first| first.header().page_size != header.page_size) {
            break;
        }
        inputs.push(input);
    }
    Ok(inputs)
}

fn write_merged(inputs: Vec<Input>, out: BodyWriter) -> Result<Summary, MergeError> {
    let (out, summary) = merge(inputs, out)?;
    out.finish().map_err(EncodeError::Io)?;
    Ok(summary)
}

/// Whether two files are of the same history and hold the same states. Files of Litestream have no lineage.
fn is_same(found: &Header, ours: &Header) -> bool {
    let lineage = found.lineage.post_apply;
    (found.txids, found.page_size, found.commit) == (ours.txids, ours.page_size, ours.commit)
        && (lineage.is_none() || ours.lineage.post_apply.is_none() || lineage == ours.lineage.post_apply)
}

fn is_storage(error: &EngineError) -> bool {
    matches!(error, EngineError::Storage(_) | EngineError::Fenced { .. })
}

fn is_broken_pipe(error: &MergeError) -> bool {
    matches!(error, MergeError::Output(EncodeError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe)
}

fn merge_failed(error: MergeError, from: Level, into: Level) -> EngineError {
    match error {
        MergeError::Input { txids, source } => decode_failed(source, from, txids),
        MergeError::Lineage { after, .. } => damaged(from, after, &error),
        MergeError::PageSizes { after, .. } | MergeError::NotContiguous { after, .. } => {
            damaged(from, after, &error)
        }
        MergeError::NoInputs | MergeError::Output(_) => EngineError::Io {
            action: "compact into",
            path: format!("level {into}").into(),
            source: io::Error::other(error),
        },
    }
}

fn damaged(level: Level, txids: TxidRange, error: &dyn std::error::Error) -> EngineError {
    EngineError::Damaged { level, txids, reason: error.to_string() }
}
