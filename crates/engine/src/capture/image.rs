//! Every page of the database as of one frame of the WAL.
//!
//! Invariant: with a read lock whose mark is at or before the frame, a page is what its newest frame up to
//! there says, or, without such a frame, what the database file says. Checkpoints may run meanwhile: they
//! copy only frames up to the mark, and every page they touch has such a frame.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use walstream_ltx::{Commit, PageSize, Pgno};

use super::database_file::DatabaseFile;
use super::source::Source;
use super::wal::{FrameCount, Stretch, WalFile, WalPoint};
use super::wal_index::WalEnd;
use crate::error::EngineError;

/// The database file is read in pieces of this size; the largest page size divides it.
const CHUNK: usize = 1 << 20;

/// Which frames hold the newest pages up to one point of the WAL, and how large the database is there.
pub(crate) struct Image {
    wal: Option<WalFile>,
    frames: BTreeMap<Pgno, FrameCount>,
    database: PathBuf,
    page_size: PageSize,
    commit: Commit,
    /// The point itself, and the page of the last frame before it.
    pub(crate) point: WalPoint,
    pub(crate) last_page: Option<Pgno>,
}

impl Image {
    /// The database as of `end`. The frames of the generation are read and their checksum chain verified, unless the
    /// file holds all of them: then a writer may write over them at any moment, and the pages come from the file.
    pub(crate) fn at(source: &Source, end: &WalEnd) -> Result<Self, EngineError> {
        if end.is_in_file() {
            return Self::of_file(source, end);
        }
        let page_size = source.page_size(end)?;
        let wal = WalFile::open(source.wal_path(), page_size)?;
        let stretch = wal.scan(wal.start(end)?, end, 0)?;
        Ok(Self::of_stretch(wal, source.path(), page_size, stretch))
    }

    fn of_file(source: &Source, end: &WalEnd) -> Result<Self, EngineError> {
        let page_size = source.page_size(end)?;
        let pages = if end.frames.0 == 0 { source.pages_in_file(page_size)? } else { end.pages };
        let point = WalPoint { salts: end.salts, frames: end.frames, checksum: end.checksum };
        // Nothing depends on it, so a WAL that is gone already is no error.
        let last_page = WalFile::open(source.wal_path(), page_size).ok().and_then(|wal| wal.page_of(&point));
        let database = source.path().to_owned();
        let (frames, commit) = (BTreeMap::new(), Commit::new(pages));
        Ok(Image { wal: None, frames, database, page_size, commit, point, last_page })
    }

    /// What a stretch of the WAL changed, and nothing else: reading other pages falls through to the file.
    pub(crate) fn of_stretch(wal: WalFile, database: &Path, page_size: PageSize, stretch: Stretch) -> Self {
        Image {
            wal: Some(wal),
            frames: stretch.pages,
            database: database.to_owned(),
            page_size,
            commit: stretch.commit,
            point: stretch.end,
            last_page: Some(stretch.last_page),
        }
    }

    /// The path of the database.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    pub(crate) fn page_size(&self) -> PageSize {
        self.page_size
    }

    pub(crate) fn commit(&self) -> Commit {
        self.commit
    }

    /// The pages that have a frame, ascending.
    pub(crate) fn changed(&self) -> impl Iterator<Item = Pgno> {
        self.frames.keys().copied()
    }

    /// Whether anything is read from the WAL.
    pub(crate) fn reads_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Whether a page has a frame.
    pub(crate) fn holds(&self, pgno: Pgno) -> bool {
        self.frames.contains_key(&pgno)
    }

    /// Visits every page in order, the lock page left out. The file is read in large pieces.
    pub(crate) fn for_each_page(
        &self,
        file: DatabaseFile<'_>,
        mut visit: impl FnMut(Pgno, &[u8]) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let size = self.page_size.bytes();
        let per_chunk = (CHUNK / size) as u32;
        let mut buffer = vec![0; per_chunk as usize * size];
        let lock = self.page_size.lock_pgno();
        for first in (1..=self.commit.get()).step_by(per_chunk as usize) {
            let count = per_chunk.min(self.commit.get() - first + 1);
            let chunk = &mut buffer[..count as usize * size];
            self.read_file(file, u64::from(first - 1) * size as u64, chunk)?;
            for (number, page) in (first..).zip(chunk.chunks_exact_mut(size)) {
                let Some(pgno) = Pgno::new(number).filter(|&pgno| pgno != lock) else { continue };
                if self.holds(pgno) {
                    self.read(file, pgno, page)?;
                }
                visit(pgno, page)?;
            }
        }
        Ok(())
    }

    /// Reads a page. What the database file does not reach is zero, as SQLite sees it.
    pub(crate) fn read(
        &self,
        file: DatabaseFile<'_>,
        pgno: Pgno,
        page: &mut [u8],
    ) -> Result<(), EngineError> {
        if let (Some(&frame), Some(wal)) = (self.frames.get(&pgno), &self.wal) {
            return wal.read_page(frame, page);
        }
        self.read_file(file, self.page_size.offset_of(pgno), page)
    }

    fn read_file(&self, file: DatabaseFile<'_>, offset: u64, buffer: &mut [u8]) -> Result<(), EngineError> {
        file.read_at(buffer, offset).map_err(EngineError::io("read", &self.database))
    }
}
