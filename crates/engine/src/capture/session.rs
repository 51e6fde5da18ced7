//! Captures of one database, one after the other: the only place where a position moves.
//!
//! Invariant: the position (TXID, rolling checksum), the point in the WAL and the page map describe the same
//! state, and they move together, after the file that leads there is durable. If anything fails before that,
//! nothing has moved and the next capture sees the same frames again.

use std::path::Path;
use std::sync::Arc;

use walstream_ltx::Lineage;
use walstream_ltx::header::Header;
use walstream_ltx::{Checksum, Commit, Pgno, Txid, TxidRange};
use walstream_storage::counted::Spent;

use super::batch::{self, HeaderFields};
use super::brake::Brake;
use super::continuity::{self, Next};
use super::diff;
use super::image::Image;
use super::page_map::{Changes, PageMap};
use super::source::{ReadLock, Source};
use super::wal::{FrameCount, WalFile, WalPoint, frame_size};
use super::wal_index::WalEnd;
use crate::clock::Clock;
use crate::error::EngineError;
use crate::fs::Staged;
use crate::shadow::folder::ShadowFolder;
use crate::shadow::recover::Local;

/// How far a database is captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The newest captured batch.
    pub txid: Txid,
    /// Rolling checksum of the database after it; unknown after a file of Litestream's.
    pub checksum: Option<Checksum>,
}

/// The newest file on the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemoteNewest {
    pub(crate) position: Position,
    pub(crate) commit: Commit,
}

/// What one capture added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Captured {
    pub(crate) txids: TxidRange,
    /// Size of the level-0 file.
    pub(crate) size: u64,
    /// Bytes of WAL that went into it.
    pub(crate) wal_bytes: u64,
    /// Whether it reached everything that was committed when the capture began.
    pub(crate) complete: bool,
}

/// A level-0 file that is written and not yet durable, and where it leads.
pub(super) struct Pending {
    staged: Staged,
    captured: Captured,
    position: Position,
    commit: Commit,
    point: WalPoint,
    /// What it does to the map; `None` where the caller replaces the map.
    changes: Option<Changes>,
    full: bool,
}

/// The capture of one database.
pub(crate) struct Capture {
    pub(super) source: Source,
    /// While the database has writers that are faster than its checkpoints.
    pub(super) brake: Option<Brake>,
    shadow: ShadowFolder,
    clock: Arc<dyn Clock>,
    /// Bytes of WAL after which a file is cut; 0: never.
    max_bytes: u64,
    position: Position,
    /// Size of the database at the position.
    commit: Commit,
    point: WalPoint,
    /// Everything that was in the WAL when the present read lock was taken is captured.
    covered: bool,
    map: PageMap,
    /// The map is that of a later moment, because none was known for the position. It becomes right again
    /// with the next capture.
    map_is_ahead: bool,
    /// A full file was written: the replica needs a snapshot that later restores can begin with.
    needs_snapshot: bool,
    /// As of which TXID the stored map is.
    saved_map: Txid,
    /// The stored map, if there is any, cannot be rolled forward to the position.
    stored_map_is_lost: bool,
    /// Bytes of WAL that were captured since this was last asked.
    wal_bytes: u64,
    /// How long writers were kept out.
    pub(super) kept_out: Arc<Spent>,
}

/// What a capture needs besides the database.
pub(crate) struct Setup {
    pub(crate) source: Source,
    pub(crate) shadow: ShadowFolder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) max_bytes: u64,
}

impl Capture {
    /// Finds the position to go on from: the newest local file if the replica is not ahead of it, else the
    /// replica's newest file, else the beginning. `remote` is `None` if the replica is empty, or unknown while
    /// there is undamaged local state.
    pub(crate) fn resume(
        setup: Setup,
        local: Local,
        remote: Option<RemoteNewest>,
    ) -> Result<Self, EngineError> {
        let local_txid = local.newest.as_ref().map_or(Txid::ZERO, |header| header.txids.max());
        if let Some(remote) = remote.filter(|remote| remote.position.txid > local_txid) {
            return Self::follow_replica(setup, local.map.map(|(map, _)| map), remote);
        }
        // None of their numbers is on the replica, so they may be given out anew.
        for &file in &local.damaged {
            setup.shadow.remove(file)?;
        }
        match local.newest {
            Some(newest) => {
                let map = local.map.filter(|&(_, txid)| txid == local_txid).map(|(map, _)| map);
                Self::follow_local(setup, newest, map)
            }
            None => Self::begin(setup),
        }
    }

    /// A database that was never replicated. TXID 1 is its state now; it needs no level-0 file, because the
    /// first snapshot is it. TXID 2 is an anchor of at most one page: it notes where in the WAL we stand, so
    /// that a restart, ours or the peer's, goes on from there.
    fn begin(mut setup: Setup) -> Result<Self, EngineError> {
        let image = present_image(&mut setup)?;
        let map = diff::map_of(&image, setup.source.file())?;
        let position = Position { txid: Txid::FIRST, checksum: Some(map.rolling()) };
        let mut capture = Self::new(setup, position, &image, map);
        // Before the anchor, so that whoever finds the anchor finds a map that leads to it.
        capture.save_map()?;
        let anchor: Vec<_> = image.last_page.into_iter().collect();
        let changes = batch::checksums(&image, capture.source.file(), &anchor)?;
        let last_frame = WalPoint { frames: image.point.frames.prev(), ..image.point };
        let pages = changes.pages.iter().copied();
        let anchor = capture.stage(&image, last_frame, pages, capture.map.rolling(), false)?;
        capture.accept(anchor)?;
        capture.needs_snapshot = true;
        Ok(capture)
    }

    /// Goes on after the newest local file.
    fn follow_local(mut setup: Setup, newest: Header, map: Option<PageMap>) -> Result<Self, EngineError> {
        let end = setup.source.committed()?;
        let open = || match setup.shadow.open_file(newest.txids)? {
            Some(file) => Ok(file),
            None => Err(EngineError::Shadow {
                path: setup.shadow.path(newest.txids),
                reason: "it vanished while it was read".into(),
            }),
        };
        let next = continuity::after_start(&newest, open, &setup.source, &end)?;
        let position = Position { txid: newest.txids.max(), checksum: newest.lineage.post_apply };
        let image = Image::at(&setup.source, &end)?;
        match next {
            Next::Gap(reason) => {
                tracing::info!(path = %setup.source.path().display(), reason, "continuity not proven, comparing all pages");
                let now = PageMap::empty(image.page_size());
                let mut capture = Self::new(setup, position, &image, now);
                capture.stored_map_is_lost = map.is_none();
                capture.settle(map.as_ref(), image)?;
                Ok(capture)
            }
            Next::Nothing | Next::Continue(_) => {
                let map_is_ahead = map.is_none();
                let map = map.map_or_else(|| diff::map_of(&image, setup.source.file()), Ok)?;
                let mut capture = Self::new(setup, position, &image, map);
                capture.commit = newest.commit;
                capture.point = if let Next::Continue(point) = next { point } else { image.point };
                capture.covered = false;
                capture.map_is_ahead = map_is_ahead;
                capture.stored_map_is_lost = map_is_ahead;
                Ok(capture)
            }
        }
    }

    /// Goes on after the replica's newest file. Local files are older than it and are of no use any more. They go oldest
    /// first: a damaged one at the end keeps a start without the replica from believing those before it.
    fn follow_replica(
        mut setup: Setup,
        map: Option<PageMap>,
        remote: RemoteNewest,
    ) -> Result<Self, EngineError> {
        Self::forget_local_files(&setup)?;
        let image = present_image(&mut setup)?;
        let now = PageMap::empty(image.page_size());
        let mut capture = Self::new(setup, remote.position, &image, now);
        capture.commit = remote.commit;
        capture.stored_map_is_lost = true;
        let base = map.filter(|map| Some(map.rolling()) == remote.position.checksum);
        capture.settle(base.as_ref(), image)?;
        Ok(capture)
    }

    /// Goes on after the replica's newest file although the local state does not lead there, if the database is just
    /// what that file left: a restored one beside the state of an earlier life. `None` if it is not; then nothing has
    /// changed.
    pub(crate) fn rejoin(mut setup: Setup, remote: RemoteNewest) -> Result<Option<Self>, EngineError> {
        let image = present_image(&mut setup)?;
        let map = diff::map_of(&image, setup.source.file())?;
        if remote.position.checksum != Some(map.rolling()) || remote.commit != map.commit() {
            return Ok(None);
        }
        Self::forget_local_files(&setup)?;
        let mut capture = Self::new(setup, remote.position, &image, map);
        capture.stored_map_is_lost = true;
        Ok(Some(capture))
    }

    fn forget_local_files(setup: &Setup) -> Result<(), EngineError> {
        setup.shadow.files()?.into_iter().try_for_each(|file| setup.shadow.remove(file))
    }

    fn new(setup: Setup, position: Position, image: &Image, map: PageMap) -> Self {
        Capture {
            source: setup.source,
            brake: None,
            shadow: setup.shadow,
            clock: setup.clock,
            max_bytes: setup.max_bytes,
            position,
            commit: image.commit(),
            point: image.point,
            covered: true,
            map,
            map_is_ahead: false,
            needs_snapshot: false,
            saved_map: Txid::ZERO,
            stored_map_is_lost: false,
            wal_bytes: 0,
            kept_out: Arc::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.source.path()
    }

    /// How far the database is captured.
    pub(crate) fn position(&self) -> Position {
        self.position
    }

    /// Counts from here on how long writers are kept out.
    pub(crate) fn count_stalls(&mut self, kept_out: Arc<Spent>) {
        self.kept_out = kept_out;
    }

    /// Bytes of WAL that were captured since this was last asked.
    pub(crate) fn take_wal_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.wal_bytes)
    }

    /// Up to where in the WAL everything is captured.
    pub(crate) fn wal_offset(&self) -> u64 {
        self.point.frames.end_offset(self.map.page_size())
    }

    /// Whether a full file was written since this was last asked, so that the replica needs a new snapshot.
    pub(crate) fn take_snapshot_need(&mut self) -> bool {
        std::mem::take(&mut self.needs_snapshot)
    }

    /// Whether a snapshot is being read, which keeps every checkpoint from completing.
    pub(crate) fn is_pinned(&self) -> bool {
        self.source.has_other_reader()
    }

    /// Whether the path of the database still leads to the file that is captured.
    pub(crate) fn is_current(&self) -> Result<bool, EngineError> {
        self.source.is_current()
    }

    /// Bytes of committed frames that wait to be captured, as far as can be told without waiting.
    pub(crate) fn pending_bytes(&self) -> Result<u64, EngineError> {
        let Some(end) = self.source.peek()? else { return Ok(0) };
        let before = if end.salts == self.point.salts { self.point.frames.0 } else { 0 };
        let frames = u64::from(end.frames.0.saturating_sub(before));
        Ok(frames * self.frame_size())
    }

    pub(super) fn frame_size(&self) -> u64 {
        frame_size(self.map.page_size())
    }

    /// Whether anything is new, as far as can be told without waiting.
    pub(crate) fn has_news(&self) -> Result<bool, EngineError> {
        let end = self.source.peek()?;
        Ok(end.is_none_or(|end| continuity::in_process(&self.point, self.covered, &end) != Next::Nothing))
    }

    /// Captures what is committed, up to the limit for one file. `None`: there was nothing new.
    pub(crate) fn capture(&mut self) -> Result<Option<Captured>, EngineError> {
        let captured = self.capture_next()?;
        if self.stored_map_is_lost && !self.map_is_ahead {
            // What was captured is captured, whether this succeeds or not; the next capture tries again.
            if let Err(error) = self.save_map() {
                tracing::debug!(path = %self.path().display(), %error, "page map not stored yet");
            }
        }
        Ok(captured)
    }

    fn capture_next(&mut self) -> Result<Option<Captured>, EngineError> {
        let locked = self.source.is_locked();
        let end = self.source.committed()?;
        self.covered &= locked;
        match continuity::in_process(&self.point, self.covered, &end) {
            Next::Nothing if self.map_disagrees() => {
                self.capture_gap(&end, "the database is not what was captured")
            }
            Next::Nothing => {
                self.covered = true;
                self.map_is_ahead = false;
                self.position.checksum = Some(self.map.rolling());
                Ok(None)
            }
            Next::Continue(from) if from.frames == end.frames => {
                // The WAL was restarted, and the next generation has no frames yet.
                self.point = from;
                Ok(None)
            }
            Next::Continue(from) => match self.stage_frames(from, &end) {
                Err(error @ EngineError::Wal { .. }) => self.capture_gap(&end, &error.to_string()),
                Err(error) => Err(error),
                Ok(pending) => self.accept(pending).map(Some),
            },
            Next::Gap(reason) => self.capture_gap(&end, reason),
        }
    }

    /// Whether a map that was built anew, of a WAL without news, is not that of the position.
    fn map_disagrees(&self) -> bool {
        self.map_is_ahead && self.position.checksum.is_some_and(|known| known != self.map.rolling())
    }

    /// Captures everything that is committed when it begins. An application that commits faster than files are written
    /// does not make it go on for ever.
    pub(crate) fn capture_all(&mut self) -> Result<Vec<Captured>, EngineError> {
        let end = self.source.committed()?;
        let mut captured = Vec::new();
        while let Some(next) = self.capture()? {
            captured.push(next);
            if next.complete || self.has_reached(&end) {
                break;
            }
        }
        Ok(captured)
    }

    /// Whether the point is at or after what was the end of the WAL at an earlier moment.
    fn has_reached(&self, end: &WalEnd) -> bool {
        self.point.salts != end.salts || self.point.frames >= end.frames
    }

    /// Captures everything that is committed while writers are kept out. The last of it, if it is a continuation like
    /// any other, is left for [`Capture::accept`], so that writers need not wait until it is durable.
    pub(super) fn capture_tail(&mut self) -> Result<(Vec<Captured>, Option<Pending>), EngineError> {
        let mut captured = Vec::new();
        loop {
            let end = self.source.committed()?;
            let staged = match continuity::in_process(&self.point, self.covered, &end) {
                Next::Continue(from) if from.frames < end.frames => self.stage_frames(from, &end).ok(),
                _ => None,
            };
            match staged {
                Some(pending) if pending.captured.complete => return Ok((captured, Some(pending))),
                Some(pending) => captured.push(self.accept(pending)?),
                None => match self.capture()? {
                    Some(next) => captured.push(next),
                    None => return Ok((captured, None)),
                },
            }
        }
    }

    /// Writes what the frames after `from` changed, up to the limit for one file.
    fn stage_frames(&mut self, from: WalPoint, end: &WalEnd) -> Result<Pending, EngineError> {
        let page_size = self.source.page_size(end)?;
        if page_size != self.map.page_size() {
            return Err(EngineError::Wal {
                path: self.path().into(),
                reason: "the page size changed".into(),
            });
        }
        let wal = WalFile::open(self.source.wal_path(), page_size)?;
        let start = if from.frames.0 == 0 { wal.start(end)? } else { from };
        let limit = if self.map_is_ahead { 0 } else { self.max_bytes };
        let stretch = wal.scan(start, end, limit)?;
        let complete = stretch.end.frames == end.frames;
        let mut image = Image::of_stretch(wal, self.path(), page_size, stretch);
        let mut pages = batch::pages_of_increment(&image, self.commit);
        if batch::growth(&image, self.commit).any(|pgno| !image.holds(pgno)) {
            // A page that the growth left untouched may have its newest version in an older frame.
            let whole = end.back_to(image.point.frames, image.point.checksum);
            image = Image::at(&self.source, &whole)?;
            pages.retain(|&pgno| image.commit().contains(pgno));
        }
        let changes = batch::checksums(&image, self.source.file(), &pages)?;
        let post = self.map.preview(&changes);
        let mut pending = self.stage(&image, start, changes.pages.iter().copied(), post, false)?;
        pending.captured.complete = complete;
        pending.changes = Some(changes);
        Ok(pending)
    }

    fn capture_gap(&mut self, end: &WalEnd, reason: &str) -> Result<Option<Captured>, EngineError> {
        tracing::info!(path = %self.path().display(), reason, "continuity not proven, comparing all pages");
        let image = Image::at(&self.source, end)?;
        let empty = PageMap::empty(image.page_size());
        let base = std::mem::replace(&mut self.map, empty);
        let usable = !std::mem::take(&mut self.map_is_ahead);
        let outcome = self.settle(usable.then_some(&base), image);
        if outcome.is_err() {
            (self.map, self.map_is_ahead) = (base, !usable);
        }
        outcome
    }

    /// Brings the replica from the state at the position to the state of `image`: the pages that differ from
    /// `base` if it is known; else nothing if the digests of both states are equal, and every page if not.
    fn settle(&mut self, base: Option<&PageMap>, image: Image) -> Result<Option<Captured>, EngineError> {
        let now = diff::map_of(&image, self.source.file())?;
        let same = match base {
            Some(base) => *base == now,
            None => self.position.checksum == Some(now.rolling()) && self.commit == now.commit(),
        };
        let captured = if same {
            None
        } else {
            let pages = diff::differing(base, &now).filter_map(|pgno| Some((pgno, now.get(pgno)?)));
            let start = WalPoint { frames: FrameCount(0), ..image.point };
            let full = base.is_none_or(|base| base.page_size() != now.page_size());
            let pending = self.stage(&image, start, pages, now.rolling(), full)?;
            Some(self.accept(pending)?)
        };
        self.point = image.point;
        self.map = now;
        self.map_is_ahead = false;
        self.covered = true;
        Ok(captured)
    }

    /// Writes the next level-0 file. Nothing has moved yet.
    fn stage(
        &self,
        image: &Image,
        from: WalPoint,
        pages: impl Iterator<Item = (Pgno, Checksum)>,
        post: Checksum,
        full: bool,
    ) -> Result<Pending, EngineError> {
        let txids = batch::single(self.position.txid.next())?;
        let lineage = Lineage { pre_apply: self.position.checksum, post_apply: Some(post) };
        let fields = HeaderFields { txids, timestamp: self.clock.now(), lineage };
        let header = batch::header(image, from.frames, fields);
        let wal_bytes = header.wal.size;
        let unchanged = || self.require_generation(image);
        let (size, staged) = batch::stage(&self.shadow, header, image, self.source.file(), pages, unchanged)?;
        let captured = Captured { txids, size, wal_bytes, complete: true };
        let position = Position { txid: txids.max(), checksum: Some(post) };
        let (commit, point) = (image.commit(), image.point);
        Ok(Pending { staged, captured, position, commit, point, changes: None, full })
    }

    /// Makes a file durable, then moves the position, the size and the point; and the map, if the changes are known.
    pub(super) fn accept(&mut self, pending: Pending) -> Result<Captured, EngineError> {
        let Pending { staged, captured, position, commit, point, changes, full } = pending;
        self.shadow.publish(staged)?;
        (self.position, self.commit, self.point) = (position, commit, point);
        self.needs_snapshot |= full;
        self.wal_bytes += captured.wal_bytes;
        if let Some(changes) = changes {
            self.map.apply(&changes);
            self.map_is_ahead = false;
            self.covered |= captured.complete;
        }
        let Captured { size, wal_bytes, .. } = captured;
        let (db, offset) = (self.path().display(), point.frames.end_offset(self.map.page_size()));
        tracing::debug!(%db, txid = %position.txid, offset, size, wal_bytes, full, "sync");
        Ok(captured)
    }

    /// After a start the file may hold all frames already, so that a writer may restart the WAL while it is read. It
    /// publishes new salts before it writes over any frame.
    fn require_generation(&self, image: &Image) -> Result<(), EngineError> {
        if image.reads_frames() && self.source.published()?.salts != image.point.salts {
            let (path, reason) = (self.path().into(), "it was restarted while it was read".into());
            return Err(EngineError::Wal { path, reason });
        }
        Ok(())
    }

    /// Stores the page map; returns up to which TXID level-0 files are not needed to rebuild it.
    pub(crate) fn save_map(&mut self) -> Result<Txid, EngineError> {
        if !self.map_is_ahead && self.saved_map != self.position.txid {
            self.map.save(&self.shadow, self.position.txid)?;
            self.saved_map = self.position.txid;
            self.stored_map_is_lost = false;
        }
        Ok(self.saved_map)
    }

    /// The image at the position, for a snapshot. The caller holds a [`super::source::ReadLock`] that was taken
    /// before the last capture.
    pub(super) fn image_at_position(&mut self) -> Result<Image, EngineError> {
        let end = self.source.committed()?;
        let frames = self.point.frames;
        if end.salts != self.point.salts {
            // Only a restart after our point can have happened, and then the file holds everything.
            let nothing = WalEnd { frames: FrameCount(0), backfilled: FrameCount(0), ..end };
            return Image::at(&self.source, &nothing);
        }
        Image::at(&self.source, &end.back_to(frames, self.point.checksum))
    }

    pub(super) fn lock_for_snapshot(&mut self) -> Result<ReadLock, EngineError> {
        // No checkpoint gets past such a lock, so writers need not wait for any.
        self.brake = None;
        self.source.lock_for_reader()
    }

    pub(super) fn rolling(&self) -> Option<Checksum> {
        (!self.map_is_ahead).then(|| self.map.rolling())
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    pub(super) fn set_covered(&mut self, covered: bool) {
        self.covered = covered;
    }
}

fn present_image(setup: &mut Setup) -> Result<Image, EngineError> {
    let end = setup.source.committed()?;
    Image::at(&setup.source, &end)
}
