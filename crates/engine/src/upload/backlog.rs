//! Many files that wait go up as one: after an outage, or while captures come faster than uploads.
//!
//! Invariants: a merged file says what its files say, each page once, and the same files always give the same bytes, so
//! that a second try recognises the first. Memory is bounded, whatever waits. No file is merged with one of another
//! page size, nor across a hole.
//!
//! Names of merged files differ from writer to writer, so creating one does not show that another writer is there. Two
//! habits make up for that. Whoever merges uploads the first file of what waits by itself, under the name that any
//! other writer would need next, and merges only what follows. And whoever has stored a merged file, or his very first
//! one, then lists what is there: of two writers who come at the same moment at least one sees the other, takes back
//! what he wrote, and stops.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use walstream_ltx::{
    Decoder, EncodeError, Header, Level, MergeError, Summary, Timestamp, TxidRange, merge, merged_header,
};
use walstream_storage::{PutOutcome, ReplicaClient};

use super::fence;
use crate::error::EngineError;
use crate::shadow::folder::ShadowFolder;
use crate::stream;

/// Fewer files are not worth it: a merged one costs a listing besides.
const FEWEST: usize = 3;
/// Where files are cheap, storing them one by one takes less time than merging them, but there should not be thousands.
const FEWEST_CHEAP: usize = 64;
/// The files of one merge have at most so many bytes, so that one that fails is soon done again.
const MOST_BYTES: u64 = 64 << 20;
/// Memory for reading the files of one merge.
const MEMORY: usize = 8 << 20;
/// Each file is read in pieces of this size.
const BUFFER: usize = 8 << 10;
/// So many databases of a process merge at the same time.
static MERGES: Semaphore = Semaphore::const_new(4);

/// Files that will go up as one.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// Oldest first.
    pub(super) files: Vec<TxidRange>,
    /// What the merged file will say about itself.
    header: Header,
}

impl Batch {
    pub(super) fn txids(&self) -> TxidRange {
        self.header.txids
    }

    /// When the newest of them was captured.
    pub(super) fn captured_at(&self) -> Timestamp {
        self.header.timestamp
    }
}

/// What of the waiting files, oldest first, can and should go up as one.
pub(super) async fn choose(
    client: &dyn ReplicaClient,
    shadow: &ShadowFolder,
    waiting: &[TxidRange],
) -> Result<Option<Batch>, EngineError> {
    let fewest = if client.files_are_cheap() { FEWEST_CHEAP } else { FEWEST };
    if waiting.len() < fewest {
        return Ok(None);
    }
    let (shadow, waiting) = (shadow.clone(), waiting.to_vec());
    spawn_blocking(move || choose_from(&shadow, &waiting)).await?
}

fn choose_from(shadow: &ShadowFolder, waiting: &[TxidRange]) -> Result<Option<Batch>, EngineError> {
    let (mut headers, mut bytes) = (Vec::<Header>::new(), 0u64);
    for &file in waiting {
        let Some((header, size)) = shadow.describe(file)? else { break };
        bytes = bytes.saturating_add(size);
        let continues =
            headers.last().is_none_or(|last| merged_header(&[last.clone(), header.clone()]).is_ok());
        let most_files = MEMORY / (BUFFER + 2 * header.page_size.bytes());
        if !continues || bytes > MOST_BYTES || headers.len() >= most_files {
            break;
        }
        headers.push(header);
    }
    if headers.len() < FEWEST {
        return Ok(None);
    }
    let files = waiting[..headers.len()].to_vec();
    Ok(merged_header(&headers).ok().map(|header| Batch { files, header }))
}

/// What became of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merged {
    /// The file is new on the replica.
    Created,
    /// It was there already.
    Confirmed,
    /// A file of the batch is damaged, so nothing was stored.
    Refused,
}

/// Merges and uploads a batch. Nothing is stored on the way: the merged file is made while it is sent.
pub(super) async fn upload(
    client: &dyn ReplicaClient,
    shadow: &ShadowFolder,
    batch: &Batch,
) -> Result<Merged, EngineError> {
    // Never closed; if it were, there would be no bound and nothing worse.
    let _permit = MERGES.acquire().await;
    let (mut writer, body) = stream::body();
    let files = Files::of(shadow, batch);
    let merging = spawn_blocking(move || {
        let summary = files.merge_into(&mut writer)?;
        writer.finish().map_err(EncodeError::Io)?;
        Ok::<_, MergeError>(summary)
    });
    let put = client.put(Level::L0, batch.txids(), batch.header.timestamp, body).await;
    match (put, merging.await?) {
        (Ok(PutOutcome::Created), Ok(_)) => Ok(Merged::Created),
        (Ok(PutOutcome::AlreadyExists), _) => {
            let files = Files::of(shadow, batch);
            let ours = spawn_blocking(move || files.merge_into(io::sink())).await?;
            let ours = ours.map_err(|error| unmergeable(shadow, batch, &error))?;
            fence::confirm_merged(client, &ours).await?;
            Ok(Merged::Confirmed)
        }
        (_, Err(error @ (MergeError::Input { .. } | MergeError::Lineage { .. }))) => {
            tracing::warn!(%error, txids = %batch.txids(), "waiting files cannot be merged and go up one by one");
            Ok(Merged::Refused)
        }
        (Err(error), _) => Err(error.into()),
        (Ok(PutOutcome::Created), Err(error)) => Err(unmergeable(shadow, batch, &error)),
    }
}

fn unmergeable(shadow: &ShadowFolder, batch: &Batch, error: &MergeError) -> EngineError {
    EngineError::Shadow { path: shadow.path(batch.txids()), reason: error.to_string() }
}

/// The local files of a batch.
struct Files(Vec<(TxidRange, PathBuf)>);

impl Files {
    fn of(shadow: &ShadowFolder, batch: &Batch) -> Files {
        Files(batch.files.iter().map(|&file| (file, shadow.path(file))).collect())
    }

    fn merge_into(&self, out: impl Write) -> Result<Summary, MergeError> {
        let open = |(txids, path): &(TxidRange, PathBuf)| {
            let pieces = BufReader::with_capacity(BUFFER, Pieces { path: path.clone(), at: 0 });
            Decoder::new(pieces).map_err(|source| MergeError::Input { txids: *txids, source })
        };
        let inputs: Result<Vec<_>, MergeError> = self.0.iter().map(open).collect();
        merge(inputs?, out).map(|(_, summary)| summary)
    }
}

/// A file that is opened for each piece that is read, because hundreds of them are read side by side.
struct Pieces {
    path: PathBuf,
    at: u64,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let taken = File::open(&self.path)?.read_at(out, self.at)?;
        self.at += taken as u64;
        Ok(taken)
    }
}
