//! The pages of two states of a replica, fetched one by one.
//!
//! Invariant: a page that both states take from the same file is one page, and is the same in both. Memory is the
//! encoded indexes, the pages that are asked for at once, and a bounded number of those that were before.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;
use walstream_ltx::{Header, IndexEntry, PageSize, Pgno, decode_frame, split_frames};
use walstream_storage::{FileInfo, ReplicaClient};

use super::one_page_size;
use crate::error::EngineError;
use crate::restore::by_index::{Opened, open_all};
use crate::restore::fetch::Source;
use crate::restore::pages::{Piece, Pieces};
use crate::restore::progress::Counts;

/// Requests on their way at once.
const PARALLELISM: usize = 8;
/// Bytes of pages that are asked for at once.
const BATCH: usize = 8 << 20;
/// Bytes of pages that are kept in case they are asked for again.
const KEPT: usize = 32 << 20;

/// One of the two states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Before,
    After,
}

impl Side {
    pub(super) const BOTH: [Side; 2] = [Side::Before, Side::After];

    /// For arrays with a place for each.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// A version of a page: the position of its file in [`Versions`], and its number.
type Version = (usize, Pgno);

/// The two states.
pub(super) struct Versions {
    files: Vec<Arc<Source>>,
    states: [State; 2],
    page_size: PageSize,
    kept: HashMap<Version, Bytes>,
}

struct State {
    opened: Opened,
    /// For each file of `opened`, its position among those of both states.
    files: Vec<usize>,
}

impl State {
    fn place(&self, (file, entry): (usize, IndexEntry)) -> (usize, IndexEntry) {
        (self.files[file], entry)
    }
}

impl Versions {
    /// Opens the files of two plans, oldest first; those of both once.
    pub(super) async fn open(
        client: &Arc<dyn ReplicaClient>,
        plans: &[Vec<FileInfo>; 2],
        counts: &Arc<Counts>,
    ) -> Result<Versions, EngineError> {
        let mut infos: Vec<FileInfo> = plans.concat();
        infos.sort_by_key(|file| (file.level, file.txids));
        infos.dedup_by_key(|file| (file.level, file.txids));
        let source = |file: &FileInfo| Source::new(Arc::clone(client), file.clone(), Arc::clone(counts));
        let files = open_all(infos.iter().map(source).collect(), PARALLELISM).await?;
        let state = |plan: &[FileInfo]| {
            let of_plan = plan.iter().filter_map(|wanted| {
                let is_it = |info: &FileInfo| (info.level, info.txids) == (wanted.level, wanted.txids);
                infos.iter().position(is_it)
            });
            let mut positions: Vec<usize> = of_plan.collect();
            let Some(&newest) = positions.last() else {
                return Err(EngineError::NoBackup { location: client.location() });
            };
            let planned = positions.iter().map(|&at| files[at].clone()).collect();
            let opened = Opened::of(planned, files[newest].header.clone())?;
            positions.drain(..positions.len() - opened.sources().len());
            Ok(State { opened, files: positions })
        };
        let states = [state(&plans[0])?, state(&plans[1])?];
        let page_size = one_page_size([&states[0], &states[1]].map(|state| state.opened.newest().page_size))?;
        let files = files.into_iter().map(|file| file.source).collect();
        Ok(Versions { files, states, page_size, kept: HashMap::new() })
    }

    /// The header of the newest file of a state.
    pub(super) fn header(&self, side: Side) -> &Header {
        self.states[side.index()].opened.newest()
    }

    pub(super) fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The error for pages that do not add up to what the newest file of the later state promises.
    pub(super) fn damaged(&self, reason: &str) -> Option<EngineError> {
        let latest = self.states.iter().max_by_key(|state| state.opened.newest().txids.max())?;
        latest.opened.sources().last().map(|source| source.damaged(reason))
    }

    /// How many pages should be asked for at once.
    pub(super) fn batch(&self) -> usize {
        BATCH / self.page_size.bytes()
    }

    /// The pages that are not the same by where they are stored, in order.
    pub(super) fn candidates(&self) -> Vec<Pgno> {
        let [before, after] = &self.states;
        let mut old = before.opened.newest_pages().map(|page| before.place(page)).peekable();
        let mut candidates = Vec::new();
        for (file, entry) in after.opened.newest_pages().map(|page| after.place(page)) {
            while let Some((_, gone)) = old.next_if(|(_, old)| old.pgno < entry.pgno) {
                candidates.push(gone.pgno);
            }
            let there = old.next_if(|(_, old)| old.pgno == entry.pgno);
            if there.is_none_or(|(other, _)| other != file) {
                candidates.push(entry.pgno);
            }
        }
        candidates.extend(old.map(|(_, gone)| gone.pgno));
        candidates
    }

    /// The wanted pages, each at its place in the answer; `None` for one that the state does not have.
    pub(super) async fn pages(&mut self, wanted: &[(Side, Pgno)]) -> Result<Vec<Option<Bytes>>, EngineError> {
        let place = |&(side, pgno): &(Side, Pgno)| {
            let state = &self.states[side.index()];
            state.opened.newest_of(pgno).map(|page| state.place(page))
        };
        let places: Vec<Option<(usize, IndexEntry)>> = wanted.iter().map(place).collect();
        let missing =
            places.iter().flatten().filter(|(file, entry)| !self.kept.contains_key(&(*file, entry.pgno)));
        let mut missing: Vec<(usize, IndexEntry)> = missing.copied().collect();
        missing.sort_by_key(|(file, entry)| (*file, entry.pgno));
        missing.dedup();
        let fetched = self.fetch(missing).await?;
        let find = |(file, entry): (usize, IndexEntry)| {
            let version = (file, entry.pgno);
            fetched.get(&version).or_else(|| self.kept.get(&version)).cloned()
        };
        let answer = places.into_iter().map(|place| place.and_then(find)).collect();
        if (self.kept.len() + fetched.len()) * self.page_size.bytes() > KEPT {
            self.kept.clear();
        }
        self.kept.extend(fetched);
        Ok(answer)
    }

    /// Fetches pages, in the order of their files and numbers.
    async fn fetch(&self, places: Vec<(usize, IndexEntry)>) -> Result<HashMap<Version, Bytes>, EngineError> {
        let (longest, hole) = self.files.first().map_or((0, 0), |file| (file.range(), file.hole()));
        let pieces = Pieces::new(places.into_iter(), self.files.len(), longest).with_hole(hole);
        let reading = pieces.map(|piece| read(Arc::clone(&self.files[piece.file]), piece, self.page_size));
        let pages = stream::iter(reading).buffer_unordered(PARALLELISM);
        pages
            .try_fold(HashMap::new(), async |mut all, pages| {
                all.extend(pages);
                Ok(all)
            })
            .await
    }
}

async fn read(
    source: Arc<Source>,
    piece: Piece,
    page_size: PageSize,
) -> Result<Vec<(Version, Bytes)>, EngineError> {
    let bytes = source.read(piece.range()).await?;
    let decode = move || {
        let file = piece.file;
        let pages = split_frames(&bytes, piece.start, piece.pages).map(|found| {
            let (entry, frame) = found?;
            let mut page = vec![0; page_size.bytes()];
            decode_frame(frame, entry.pgno, page_size, &mut page)?;
            Ok(((file, entry.pgno), Bytes::from(page)))
        });
        pages.collect::<Result<_, walstream_ltx::DecodeError>>().map_err(|error| source.damaged(error))
    };
    spawn_blocking(decode).await?
}
