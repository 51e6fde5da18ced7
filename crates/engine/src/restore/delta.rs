//! Restoring over another state of the same database: only pages that differ are fetched.
//!
//! Invariant: what is there proves nothing but by its digest, and the result is read once more, whole, and must have the
//! digest of the wanted state. Whatever is in the way of this is no error: then everything is fetched.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;
use walstream_ltx::{Checksum, Commit, Header, Level, PageSize, Pgno, Txid, page_digest};
use walstream_storage::{FileInfo, ReplicaClient};

use super::by_index::{Opened, open_one};
use super::fetch::Source;
use super::plan::extend;
use super::progress::Meter;
use super::rolling::rolling;
use super::write::{Output, PageSink};
use crate::error::EngineError;

/// The database that is in the place of the one to be restored.
#[derive(Clone)]
pub(super) struct Base {
    file: Arc<File>,
    txid: Txid,
    commit: Commit,
}

/// The pages of a wanted state that are not those of the base.
pub(super) struct Differing {
    /// A bit for each page that some file between the two states holds.
    changed: Vec<u64>,
    /// Pages beyond this are not in the base.
    there: Commit,
}

impl Differing {
    pub(super) fn contains(&self, pgno: Pgno) -> bool {
        let (word, bit) = (pgno.index() / 64, pgno.index() % 64);
        !self.there.contains(pgno) || self.changed.get(word).is_some_and(|word| word >> bit & 1 == 1)
    }

    fn insert(&mut self, pgno: Pgno) {
        let (word, bit) = (pgno.index() / 64, pgno.index() % 64);
        if word >= self.changed.len() {
            self.changed.resize(word + 1, 0);
        }
        self.changed[word] |= 1 << bit;
    }
}

/// Finds out which state of the replica is at `path`, if any.
pub(super) async fn base(
    client: &Arc<dyn ReplicaClient>,
    listing: &[FileInfo],
    path: &Path,
    page_size: PageSize,
    parallelism: usize,
) -> Result<Option<Base>, EngineError> {
    let owned = path.to_owned();
    let Some((file, digest, commit)) = spawn_blocking(move || read_database(&owned, page_size)).await??
    else {
        return Ok(None);
    };
    let txid = state(client, listing, (digest, commit), parallelism).await?;
    Ok(txid.map(|txid| Base { file: Arc::new(file), txid, commit }))
}

/// The newest TXID that leads to the database with this digest and size, by the headers of all files.
pub(crate) async fn state(
    client: &Arc<dyn ReplicaClient>,
    listing: &[FileInfo],
    database: (Checksum, Commit),
    parallelism: usize,
) -> Result<Option<Txid>, EngineError> {
    let mut files = listing.to_vec();
    files.sort_by_key(|file| std::cmp::Reverse(file.txids.max()));
    let reading = files.into_iter().map(|file| leads_to(client, file, database));
    let mut reading = std::pin::pin!(stream::iter(reading).buffered(parallelism.max(1)));
    while let Some(found) = reading.next().await {
        if let Some(txid) = found? {
            return Ok(Some(txid));
        }
    }
    Ok(None)
}

/// A file that cannot be read is asked no further.
async fn leads_to(
    client: &Arc<dyn ReplicaClient>,
    file: FileInfo,
    (digest, commit): (Checksum, Commit),
) -> Result<Option<Txid>, EngineError> {
    let bytes = match client.read(file.level, file.txids, 0..file.size.min(Header::SIZE as u64)).await {
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(_) => return Ok(None),
        Ok(bytes) => bytes,
    };
    let header = Header::parse(&bytes).ok();
    let is_it =
        header.is_some_and(|header| header.lineage.post_apply == Some(digest) && header.commit == commit);
    Ok(is_it.then(|| file.txids.max()))
}

/// `None` if it is no database of such pages.
fn read_database(path: &Path, page_size: PageSize) -> Result<Option<(File, Checksum, Commit)>, EngineError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(EngineError::io("open", path))?,
    };
    let size = file.metadata().map_err(EngineError::io("read", path))?.len();
    let page = u64::from(page_size.get());
    let pages = u32::try_from(size / page).ok().filter(|&pages| pages > 0 && size % page == 0);
    let Some(commit) = pages.map(Commit::new) else { return Ok(None) };
    let digest = rolling(&file, page_size, commit, page_digest).map_err(EngineError::io("read", path))?;
    Ok(Some((file, digest, commit)))
}

impl Base {
    /// Which pages the state at `wanted` has that are others here; `None` if that cannot be known.
    pub(super) async fn differing(
        &self,
        client: &Arc<dyn ReplicaClient>,
        listing: &[FileInfo],
        wanted: &Header,
        parallelism: usize,
        meter: &Meter<'_>,
    ) -> Result<Option<Differing>, EngineError> {
        let mut differing = Differing { changed: Vec::new(), there: self.commit };
        let (from, to) = (self.txid.min(wanted.txids.max()), self.txid.max(wanted.txids.max()));
        let between = listing.iter().filter(|file| file.level != Level::SNAPSHOT && file.txids.min() <= to);
        let chain = extend(between, from);
        let reaches = from == to || chain.last().is_some_and(|last| last.txids.max() >= to);
        if !reaches {
            return Ok(None);
        }
        let chain = chain.into_iter().cloned().map(|file| {
            let source = Source::new(Arc::clone(client), file, meter.counts());
            open_one(source, false)
        });
        let mut indexes = std::pin::pin!(stream::iter(chain).buffered(parallelism));
        while let Some((_, _, index)) = indexes.try_next().await? {
            index.iter().for_each(|entry| differing.insert(entry.pgno));
        }
        Ok(Some(differing))
    }

    /// Brings the output to the wanted state, and returns the digest of what it is then.
    pub(super) async fn write(
        &self,
        opened: &Opened,
        differing: &Differing,
        (output, sink): (&Output, &PageSink),
        parallelism: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Checksum, EngineError> {
        let Header { page_size, commit, .. } = *opened.newest();
        let pages = self.commit.get().min(commit.get());
        let (from, to) = (Arc::clone(&self.file), output.file().clone());
        let size = u64::from(pages) * u64::from(page_size.get());
        spawn_blocking(move || copy(&from, &to, size)).await?.map_err(output.io("write"))?;
        opened.write_differing(differing, sink, parallelism, meter).await?;
        let written = output.file().clone();
        spawn_blocking(move || rolling(&written, page_size, commit, page_digest))
            .await?
            .map_err(output.io("read"))
    }
}

fn copy(mut from: &File, mut to: &File, size: u64) -> io::Result<()> {
    from.rewind()?;
    to.rewind()?;
    io::copy(&mut from.take(size), &mut to).map(|_| ())
}
