//! The write-ahead log file: header, frames, and the checksum chain that runs through them.
//!
//! Invariant: a frame counts only if it is whole, carries the salts of its generation, and continues the
//! checksum chain from the frame before it. (<https://sqlite.org/walformat.html>)

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use walstream_ltx::header::Salts;
use walstream_ltx::{Commit, PageSize, Pgno};

use super::wal_index::WalEnd;
use crate::error::EngineError;

/// Size of the WAL's header.
pub(crate) const WAL_HEADER_SIZE: u64 = 32;
/// Size of a frame's header; the page follows.
pub(crate) const FRAME_HEADER_SIZE: usize = 24;
/// The WAL is read in pieces of about this size.
const CHUNK: usize = 256 * 1024;

/// A number of frames, which is also the number of the last of them (frames count from 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FrameCount(pub(crate) u32);

impl FrameCount {
    /// Where the frame after these begins in the WAL file.
    pub(crate) fn end_offset(self, page_size: PageSize) -> u64 {
        WAL_HEADER_SIZE + u64::from(self.0) * frame_size(page_size)
    }

    /// How many frames end at an offset; `None` if no frame ends there.
    pub(crate) fn from_end_offset(offset: u64, page_size: PageSize) -> Option<Self> {
        let bytes = offset.checked_sub(WAL_HEADER_SIZE)?;
        let whole = bytes % frame_size(page_size) == 0;
        whole.then(|| u32::try_from(bytes / frame_size(page_size)).ok().map(FrameCount))?
    }

    /// One frame less; none stays none.
    pub(crate) fn prev(self) -> Self {
        FrameCount(self.0.saturating_sub(1))
    }

    /// Where the page of this frame begins in the WAL file. There is no frame 0.
    fn page_offset(self, page_size: PageSize) -> u64 {
        self.end_offset(page_size) - u64::from(page_size.get())
    }
}

/// Size of a frame with its page.
pub(crate) fn frame_size(page_size: PageSize) -> u64 {
    FRAME_HEADER_SIZE as u64 + u64::from(page_size.get())
}

/// Byte order in which a WAL sums up its words; its magic number says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    /// This machine's own.
    pub(crate) const NATIVE: ByteOrder =
        if cfg!(target_endian = "big") { ByteOrder::Big } else { ByteOrder::Little };
}

/// The running checksum of a WAL ("Checksum Algorithm" in the SQLite document).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WalChecksum {
    first: u32,
    second: u32,
}

impl WalChecksum {
    pub(crate) const fn new(first: u32, second: u32) -> Self {
        WalChecksum { first, second }
    }

    /// As one number, checksum-1 in the high half.
    pub(crate) const fn to_u64(self) -> u64 {
        (self.first as u64) << 32 | self.second as u64
    }

    /// The reverse of [`WalChecksum::to_u64`].
    pub(crate) const fn from_u64(value: u64) -> Self {
        WalChecksum { first: (value >> 32) as u32, second: value as u32 }
    }

    /// Continues over bytes whose length is a multiple of 8.
    #[must_use]
    pub(crate) fn add(self, order: ByteOrder, bytes: &[u8]) -> Self {
        debug_assert!(bytes.len().is_multiple_of(8));
        match order {
            ByteOrder::Little => self.fold(bytes, u32::from_le_bytes),
            ByteOrder::Big => self.fold(bytes, u32::from_be_bytes),
        }
    }

    #[inline(always)]
    fn fold(self, bytes: &[u8], word: impl Fn([u8; 4]) -> u32) -> Self {
        let (mut first, mut second) = (self.first, self.second);
        let (pairs, _) = bytes.as_chunks::<8>();
        for pair in pairs {
            let [a, b, c, d, e, f, g, h] = *pair;
            first = first.wrapping_add(word([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(word([e, f, g, h])).wrapping_add(first);
        }
        WalChecksum { first, second }
    }
}

/// The first 32 bytes of a WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalHeader {
    pub(crate) byte_order: ByteOrder,
    pub(crate) page_size: PageSize,
    pub(crate) salts: Salts,
    /// The chain starts with the header's own checksum.
    pub(crate) checksum: WalChecksum,
}

impl WalHeader {
    fn parse(bytes: &[u8; WAL_HEADER_SIZE as usize]) -> Option<Self> {
        let word = |at: usize| be_u32(bytes, at);
        let byte_order = match word(0) {
            0x377f_0682 => ByteOrder::Little,
            0x377f_0683 => ByteOrder::Big,
            _ => return None,
        };
        let checksum = WalChecksum::new(word(24), word(28));
        let valid = word(4) == 3_007_000 && WalChecksum::default().add(byte_order, &bytes[..24]) == checksum;
        let page_size = PageSize::new(word(8))?;
        let salts = Salts { salt1: word(16), salt2: word(20) };
        valid.then_some(WalHeader { byte_order, page_size, salts, checksum })
    }
}

fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

struct FrameHeader {
    pgno: u32,
    /// Database size after the commit that this frame ends; 0 inside a transaction.
    commit: u32,
    salts: Salts,
    checksum: WalChecksum,
}

impl FrameHeader {
    fn parse(bytes: &[u8]) -> Self {
        FrameHeader {
            pgno: be_u32(bytes, 0),
            commit: be_u32(bytes, 4),
            salts: Salts { salt1: be_u32(bytes, 8), salt2: be_u32(bytes, 12) },
            checksum: WalChecksum::new(be_u32(bytes, 16), be_u32(bytes, 20)),
        }
    }
}

/// A point in a WAL: so many frames of one generation, and the checksum chain up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalPoint {
    pub(crate) salts: Salts,
    pub(crate) frames: FrameCount,
    pub(crate) checksum: WalChecksum,
}

/// The newest version of every page that a stretch of the WAL holds.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// Where the stretch ends, always at a commit.
    pub(crate) end: WalPoint,
    /// Size of the database at that commit.
    pub(crate) commit: Commit,
    /// For each page the last frame that holds it.
    pub(crate) pages: BTreeMap<Pgno, FrameCount>,
    /// The page of the last frame.
    pub(crate) last_page: Pgno,
}

/// A WAL file, open for reading. No locks are ever taken on it, so it may be opened and closed at will.
pub(crate) struct WalFile {
    file: File,
    path: PathBuf,
    page_size: PageSize,
}

impl WalFile {
    pub(crate) fn open(path: &Path, page_size: PageSize) -> Result<Self, EngineError> {
        let file = File::open(path).map_err(EngineError::io("open", path))?;
        Ok(WalFile { file, path: path.to_owned(), page_size })
    }

    /// The start of the generation `end` belongs to, from the file's header.
    pub(crate) fn start(&self, end: &WalEnd) -> Result<WalPoint, EngineError> {
        let mut bytes = [0; WAL_HEADER_SIZE as usize];
        self.read_exact_at(&mut bytes, 0)?;
        let header = WalHeader::parse(&bytes).ok_or_else(|| self.mismatch("its header is not valid"))?;
        if header.salts != end.salts
            || header.page_size != self.page_size
            || header.byte_order != end.byte_order
        {
            return Err(self.mismatch("its header belongs to another generation"));
        }
        Ok(WalPoint { salts: header.salts, frames: FrameCount(0), checksum: header.checksum })
    }

    /// Reads every frame after `from`, verifies each, and stops at `end`, or at the first commit after about
    /// `limit` bytes (0: none).
    pub(crate) fn scan(&self, from: WalPoint, end: &WalEnd, limit: u64) -> Result<Stretch, EngineError> {
        let frame = frame_size(self.page_size) as usize;
        let per_chunk = (CHUNK / frame).max(1);
        let mut buffer = vec![0; per_chunk * frame];
        let mut pages = BTreeMap::new();
        let (mut frames, mut checksum) = (from.frames, from.checksum);
        while frames < end.frames {
            let count = per_chunk.min((end.frames.0 - frames.0) as usize);
            let chunk = &mut buffer[..count * frame];
            self.read_exact_at(chunk, frames.end_offset(self.page_size))?;
            for bytes in chunk.chunks_exact(frame) {
                let header = FrameHeader::parse(bytes);
                checksum = checksum
                    .add(end.byte_order, &bytes[..8])
                    .add(end.byte_order, &bytes[FRAME_HEADER_SIZE..]);
                frames = FrameCount(frames.0 + 1);
                let pgno = Pgno::new(header.pgno)
                    .filter(|_| header.salts == from.salts && header.checksum == checksum);
                let pgno =
                    pgno.ok_or_else(|| self.mismatch(&format!("frame {} breaks the chain", frames.0)))?;
                pages.insert(pgno, frames);
                let read = u64::from(frames.0 - from.frames.0) * frame as u64;
                let full = limit > 0 && read >= limit;
                if header.commit != 0 && (full || frames == end.frames) {
                    let commit = Commit::new(header.commit);
                    pages.retain(|&pgno, _| commit.contains(pgno));
                    let end = WalPoint { salts: from.salts, frames, checksum };
                    return Ok(Stretch { end, commit, pages, last_page: pgno });
                }
            }
        }
        Err(self.mismatch("its last frame is not a commit"))
    }

    /// Which page the last frame before a point holds, if that frame is still there.
    pub(crate) fn page_of(&self, point: &WalPoint) -> Option<Pgno> {
        let mut bytes = [0; FRAME_HEADER_SIZE];
        let offset = FrameCount(point.frames.0.checked_sub(1)?).end_offset(self.page_size);
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        let header = FrameHeader::parse(&bytes);
        Pgno::new(header.pgno).filter(|_| header.salts == point.salts && header.checksum == point.checksum)
    }

    /// Reads the page that a frame holds.
    pub(crate) fn read_page(&self, frame: FrameCount, page: &mut [u8]) -> Result<(), EngineError> {
        self.read_exact_at(page, frame.page_offset(self.page_size))
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> Result<(), EngineError> {
        self.file.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.mismatch("it is shorter than promised"),
            _ => EngineError::io("read", &self.path)(error),
        })
    }

    fn mismatch(&self, reason: &str) -> EngineError {
        EngineError::Wal { path: self.path.clone(), reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_frame_counts_are_each_others_inverse() {
        let size = PageSize::new(4096).unwrap();
        assert_eq!(FrameCount(6).end_offset(size), 32 + 24_720);
        assert_eq!(FrameCount::from_end_offset(24_752, size), Some(FrameCount(6)));
        assert_eq!(FrameCount::from_end_offset(24_753, size), None);
        assert_eq!(FrameCount::from_end_offset(31, size), None);
    }

    #[test]
    fn both_byte_orders_sum_up_words_as_sqlite_does() {
        let bytes = [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0];
        // s0 = 1, s1 = 2 + 1 = 3; s0 = 1 + 3 + 3 = 7, s1 = 3 + 4 + 7 = 14
        assert_eq!(WalChecksum::default().add(ByteOrder::Little, &bytes), WalChecksum::new(7, 14));
        assert_ne!(WalChecksum::default().add(ByteOrder::Big, &bytes), WalChecksum::new(7, 14));
    }
}
