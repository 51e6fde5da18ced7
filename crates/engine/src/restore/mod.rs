//! From a replica back to a database.
//!
//! Invariant: what appears under the output path is exactly the database that was captured at the wanted
//! state, proven by checksums and durable; otherwise nothing appears, and the error says why.
//!
//! ```text
//! plan: which files ─► fetch: their headers ─┬─► by_index (pages: newest of each) ─┬─► write ─► verified, published
//!                                            └─► by_stream (whole files) ──────────┘
//! ```

mod apply;
mod by_index;
mod by_stream;
mod compare;
pub(crate) mod delta;
mod fetch;
pub(crate) mod mark;
mod newest;
mod pages;
pub mod plan;
pub mod points;
mod progress;
mod rolling;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod v3;
mod version;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

use futures::try_join;
use tokio::task::spawn_blocking;
use walstream_ltx::{Checksum, Commit, Header, Level, PageSize, Timestamp, Txid, TxidRange};
use walstream_storage::{FileInfo, ReplicaClient};

use self::by_index::Opened;
use self::fetch::Source;
use self::mark::Mark;
use self::progress::Meter;
use self::write::{Output, PageSink};
use crate::error::EngineError;

pub use self::apply::{Applied, apply};
pub use self::compare::{ChangedObject, ComparedState, Comparison, Differences, Rows, compare};
pub(crate) use self::newest::newest_whole_state;
pub use self::plan::{RestorePlan, Target};
pub use self::points::{Point, points};
pub use self::progress::{Progress, Unwatched};
pub use self::v3::Backup;
pub use self::version::{Plan, plan};
pub use self::write::check_output;

/// What SQLite is asked about the restored database before it gets its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IntegrityCheck {
    /// Nothing; checksums have proven the pages.
    #[default]
    None,
    /// `PRAGMA quick_check`.
    Quick,
    /// `PRAGMA integrity_check`.
    Full,
}

/// What to restore, and where to.
#[derive(Clone, Debug)]
pub struct RestoreOptions {
    /// Path of the restored database.
    pub output: PathBuf,
    /// The wanted state.
    pub target: Target,
    /// Requests on their way at once.
    pub parallelism: usize,
    /// Whether a database that is there already is replaced.
    pub overwrite: bool,
    /// Whether only pages are fetched that are not those of the database that is replaced.
    pub delta: bool,
    /// What SQLite is asked at the end.
    pub integrity_check: IntegrityCheck,
}

impl RestoreOptions {
    /// The latest state, to a path where nothing is yet.
    pub fn new(output: impl Into<PathBuf>) -> Self {
        RestoreOptions {
            output: output.into(),
            target: Target::Latest,
            parallelism: 8,
            overwrite: false,
            delta: false,
            integrity_check: IntegrityCheck::None,
        }
    }
}

/// How a restored database was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Every page, by the rolling checksum of the database when it was captured.
    RollingChecksum,
    /// Every file that gave a page, by its own checksum.
    FileChecksums,
    /// A replica of Litestream 0.3: snapshot and WAL, by the checksums in them.
    LegacyChecksums,
}

/// A database that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its state; [`Txid::ZERO`] if it comes from a replica of Litestream 0.3, which has no TXIDs.
    pub txid: Txid,
    /// Size of its pages.
    pub page_size: PageSize,
    /// How many they are.
    pub commit: Commit,
    /// When that state was captured.
    pub created_at: Timestamp,
    /// Whether the replica held nothing newer.
    pub newest: bool,
    /// When the oldest state was captured that the replica held, by its listing.
    pub oldest: Timestamp,
    /// Bytes that were fetched from the replica.
    pub bytes_fetched: u64,
    /// How it was proven.
    pub verified: Verified,
}

/// Restores a database. A file that turns out damaged, or that was deleted meanwhile, is replaced by others
/// that lead to the same state, if there are any.
pub async fn restore(
    client: Arc<dyn ReplicaClient>,
    options: &RestoreOptions,
    progress: &dyn Progress,
) -> Result<Restored, EngineError> {
    restore_as(client, options, progress, Marked::No).await
}

/// Whether a restored database says of itself which state it is in, because it will be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marked {
    No,
    Yes,
}

pub(crate) async fn restore_as(
    client: Arc<dyn ReplicaClient>,
    options: &RestoreOptions,
    progress: &dyn Progress,
    marked: Marked,
) -> Result<Restored, EngineError> {
    check_output(&options.output, options.overwrite)?;
    let mut meter = Meter::new(progress);
    let target = &options.target;
    let (listing, legacy) = try_join!(plan::list(&*client, target), v3::list(&*client))?;
    let oldest = points::range(&listing, &legacy).map(|(oldest, _)| oldest);
    let mut plan = match version::decide(&listing, &legacy, &*client, target)? {
        Plan::Files(plan) => plan,
        Plan::Legacy(_) if marked == Marked::Yes => {
            let reason = "it ends, and so cannot be followed; restore it without -f".into();
            return Err(EngineError::Legacy { location: client.location(), reason });
        }
        Plan::Legacy(backup) => {
            let newest = v3::choose(&legacy, &listing, &Target::Latest).as_ref() == Some(&backup);
            let restored = v3::restore(&client, backup, options, &mut meter).await?;
            let oldest = oldest.unwrap_or(restored.created_at);
            return Ok(Restored { newest, oldest, ..restored });
        }
    };
    let wanted = plan.txid();
    let newest = listing.iter().all(|file| file.txids.max() <= wanted);
    let attempt = Attempt { client: &client, options, marked, listing: &listing };
    let mut lost: Vec<(Level, TxidRange)> = Vec::new();
    loop {
        let error = match attempt.run(plan, &mut meter).await {
            Err(EngineError::Damaged { level, txids, reason }) => {
                lost.push((level, txids));
                EngineError::Damaged { level, txids, reason }
            }
            Ok(restored) => {
                let created_at = captured_at(&client, &listing, &restored).await;
                let oldest = oldest.unwrap_or(created_at);
                return Ok(Restored { newest, oldest, created_at, ..restored });
            }
            Err(error) => return Err(error),
        };
        let mut others = plan::list(&*client, target).await?;
        others.retain(|file| !lost.contains(&(file.level, file.txids)));
        plan = match plan::plan_from(&others, &legacy, &*client, target) {
            Ok(other) if other.txid() >= wanted => other,
            Ok(older) => return Err(with_hint(error, older.txid())),
            Err(_) => return Err(error),
        };
        tracing::warn!(%error, "restoring from other files that lead to the same state");
    }
}

/// When the restored state was captured, as [`points`] tells it: a snapshot is as old as the moment at which it was
/// taken, a file of a lower level that leads to the same state as old as that state.
async fn captured_at(
    client: &Arc<dyn ReplicaClient>,
    listing: &[FileInfo],
    restored: &Restored,
) -> Timestamp {
    let points = points::of_files(listing);
    let lowest =
        points.iter().find(|point| point.txid == restored.txid).and_then(|point| point.levels.first());
    let leads = |file: &&FileInfo| Some(&file.level) == lowest && file.txids.max() == restored.txid;
    let lower = listing.iter().find(leads).filter(|file| file.level < Level::SNAPSHOT);
    let Some(file) = lower else { return restored.created_at };
    let header = Source::new(Arc::clone(client), file.clone(), Arc::default()).read_header(false).await;
    // It proves nothing, so that it may be gone or damaged.
    header.map_or(restored.created_at, |header| header.timestamp.min(restored.created_at))
}

/// Says of a damaged file which state can be restored without it.
fn with_hint(error: EngineError, without: Txid) -> EngineError {
    match error {
        EngineError::Damaged { level, txids, reason } => {
            let reason = format!("{reason}; an earlier state can be restored with -txid {without}");
            EngineError::Damaged { level, txids, reason }
        }
        other => other,
    }
}

/// What every try of one restore has in common.
struct Attempt<'a> {
    client: &'a Arc<dyn ReplicaClient>,
    options: &'a RestoreOptions,
    marked: Marked,
    listing: &'a [FileInfo],
}

impl Attempt<'_> {
    async fn run(&self, plan: RestorePlan, meter: &mut Meter<'_>) -> Result<Restored, EngineError> {
        let txid = plan.txid();
        let source = |file| Source::new(Arc::clone(self.client), file, meter.counts());
        let mut sources: Vec<Source> = plan.files.into_iter().map(source).collect();
        let newest = match sources.last_mut() {
            Some(source) => source.read_header(true).await?,
            None => return Err(EngineError::NoBackup { location: self.client.location() }),
        };
        let written = create(self.options, &newest, meter).await?;
        let verified = self.write_pages(sources, &newest, (&written.0, &written.1), meter).await?;
        let (output, check) = (written.0, self.options.integrity_check);
        let mark = (self.marked == Marked::Yes).then_some(Mark { txid, digest: newest.lineage.post_apply });
        let finish = move || {
            output.check_integrity(check)?;
            mark.map_or(Ok(()), |mark| output.mark(mark))?;
            output.publish()
        };
        spawn_blocking(finish).await??;
        let Header { page_size, commit, timestamp: created_at, .. } = newest;
        let bytes_fetched = meter.fetched();
        let (newest, oldest) = (false, created_at);
        Ok(Restored { txid, page_size, commit, created_at, newest, oldest, bytes_fetched, verified })
    }

    /// Fetches only the newest pages where the database's checksum can prove them, else whole files. Pages that
    /// fail that proof are fetched again as whole files, to find out which file is damaged.
    async fn write_pages(
        &self,
        sources: Vec<Source>,
        newest: &Header,
        (output, sink): (&Output, &PageSink),
        meter: &mut Meter<'_>,
    ) -> Result<Verified, EngineError> {
        let parallelism = self.options.parallelism.max(1);
        let Some(expected) = newest.lineage.post_apply else {
            let sources: Vec<Arc<Source>> = sources.into_iter().map(Arc::new).collect();
            by_stream::write(&sources, newest, sink, parallelism, meter).await?;
            return Ok(Verified::FileChecksums);
        };
        let opened = by_index::open(sources, newest.clone(), parallelism).await?;
        if self.write_difference(&opened, (output, sink), meter).await? == Some(expected) {
            return Ok(Verified::RollingChecksum);
        }
        let mut found = opened.write(sink, parallelism, meter).await?;
        if found != expected {
            found = by_stream::write(opened.sources(), newest, sink, parallelism, meter).await?;
        }
        if found != expected { Err(output.mismatch(expected, found)) } else { Ok(Verified::RollingChecksum) }
    }

    /// The digest of what is there already and the pages that differ from it give; `None` if nothing there is of use.
    async fn write_difference(
        &self,
        opened: &Opened,
        output: (&Output, &PageSink),
        meter: &mut Meter<'_>,
    ) -> Result<Option<Checksum>, EngineError> {
        let Attempt { client, options, listing, .. } = *self;
        let parallelism = options.parallelism.max(1);
        let page_size = opened.newest().page_size;
        let base = match options.delta {
            true => delta::base(client, listing, &options.output, page_size, parallelism).await?,
            false => None,
        };
        let Some(base) = base else { return Ok(None) };
        let differing = base.differing(client, listing, opened.newest(), parallelism, meter).await?;
        let Some(differing) = differing else { return Ok(None) };
        base.write(opened, &differing, output, parallelism, meter).await.map(Some)
    }
}

async fn create(
    options: &RestoreOptions,
    newest: &Header,
    meter: &Meter<'_>,
) -> Result<(Output, PageSink), EngineError> {
    let (path, newest, counts) = (options.output.clone(), newest.clone(), meter.counts());
    let create = move || {
        let output = Output::create(&path)?;
        let sink = output.resize(&newest, counts)?;
        Ok((output, sink))
    };
    spawn_blocking(create).await?
}
