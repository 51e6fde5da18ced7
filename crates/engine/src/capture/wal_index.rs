//! The header of the wal-index: how far the WAL is committed.
//!
//! Invariant: no frame is captured before the wal-index says that it is committed. The WAL file alone cannot
//! say so: a writer that dies between writing its commit frame and publishing it leaves a frame that looks
//! committed, and the next writer overwrites it. (<https://sqlite.org/walformat.html>, "The WAL-Index Header".)
//!
//! The header is read through the connection's own shared memory, by the VFS method that SQLite itself uses.
//! A descriptor of ours on the `-shm` file would do as well, but closing it would drop SQLite's locks.
//! Reading costs no system call, so that looking at an idle database is nearly free.

use std::ffi::c_int;

use rusqlite::Connection;
use rustix::mm::Advice;
use walstream_ltx::PageSize;
use walstream_ltx::header::Salts;

use super::database_file::DatabaseFile;
use super::wal::{ByteOrder, FrameCount, WalChecksum};

/// What is committed in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalEnd {
    /// Salts of the present WAL generation; both zero before the first one.
    pub(crate) salts: Salts,
    /// Committed frames. Zero: the generation has none yet.
    pub(crate) frames: FrameCount,
    /// The running checksum after the last committed frame; meaningless without frames.
    pub(crate) checksum: WalChecksum,
    /// Database size in pages as of the last commit; meaningless without frames.
    pub(crate) pages: u32,
    /// Page size; `None` as long as nobody wrote to the WAL.
    pub(crate) page_size: Option<PageSize>,
    /// Byte order of the checksums in the WAL.
    pub(crate) byte_order: ByteOrder,
    /// Frames that are in the database file already.
    pub(crate) backfilled: FrameCount,
}

impl WalEnd {
    /// Whether the database file holds everything that is committed. The next writer may then write over the frames,
    /// also while somebody reads: a reader without a mark reads nothing but the file.
    pub(crate) fn is_in_file(&self) -> bool {
        self.frames.0 == 0 || self.frames == self.backfilled
    }

    /// An earlier commit of the same generation. The file may hold less than it, or more.
    pub(crate) fn back_to(&self, frames: FrameCount, checksum: WalChecksum) -> Self {
        let backfilled = if frames == self.frames { self.backfilled } else { FrameCount(0) };
        WalEnd { frames, checksum, backfilled, ..*self }
    }
}

const HEADER_SIZE: usize = 48;
const BACKFILL_OFFSET: usize = 96;
/// Size of the first region of the wal-index as SQLite maps it.
const REGION_SIZE: c_int = 32 * 1024;

/// Reads the header; `None` while a writer is in the midst of publishing a commit, or if the header is not
/// valid (a writer died there and the next one will recover it). `connection` must have read before, so
/// that it has the WAL open.
pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Option<WalEnd>> {
    let region = DatabaseFile::of(connection).wal_index(REGION_SIZE)?;
    let first = copy::<HEADER_SIZE>(region, 0);
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
    let second = copy::<HEADER_SIZE>(region, HEADER_SIZE);
    let backfilled = u32::from_ne_bytes(copy::<4>(region, BACKFILL_OFFSET));
    if first != second {
        return Ok(None);
    }
    Ok(parse(&first, backfilled))
}

/// Takes the wal-index out of this process's resident memory; it stays mapped, and what is in it stays in the page
/// cache. One look brings its 32 KiB back, which many databases would keep for nothing.
pub(crate) fn release_memory(connection: &Connection) {
    let Ok(region) = DatabaseFile::of(connection).wal_index(REGION_SIZE) else { return };
    // SAFETY: the region is a shared mapping of the `-shm` file (the default VFS knows no other kind), page-aligned
    // and REGION_SIZE long. MADV_DONTNEED drops the page-table entries of such a mapping and changes no content.
    let _ =
        unsafe { rustix::mm::madvise(region.cast_mut().cast(), REGION_SIZE as usize, Advice::LinuxDontNeed) };
}

fn parse(header: &[u8; HEADER_SIZE], backfilled: u32) -> Option<WalEnd> {
    let native = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    // The salts are copied from the WAL byte for byte, so they are big-endian on every machine.
    let salt = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let initialized = header[12] != 0;
    let sum = WalChecksum::default().add(ByteOrder::NATIVE, &header[..40]);
    if !initialized || sum != WalChecksum::new(native(40), native(44)) {
        return None;
    }
    let stored_size = u32::from(u16::from_ne_bytes([header[14], header[15]]));
    Some(WalEnd {
        salts: Salts { salt1: salt(32), salt2: salt(36) },
        frames: FrameCount(native(16)),
        checksum: WalChecksum::new(native(24), native(28)),
        pages: native(20),
        page_size: PageSize::new(if stored_size == 1 { 65536 } else { stored_size }),
        byte_order: if header[13] != 0 { ByteOrder::Big } else { ByteOrder::Little },
        backfilled: FrameCount(backfilled),
    })
}

/// Copies bytes that other processes may be changing; the caller compares checksums before it believes them.
fn copy<const N: usize>(region: *const u8, offset: usize) -> [u8; N] {
    debug_assert!(offset + N <= REGION_SIZE as usize && offset.is_multiple_of(4) && N.is_multiple_of(4));
    let mut bytes = [0; N];
    for (word, out) in bytes.chunks_exact_mut(4).enumerate() {
        // SAFETY: `region` is 32 KiB long and page-aligned, `offset` a multiple of 4 inside it.
        let value = unsafe { region.add(offset).cast::<u32>().add(word).read_volatile() };
        out.copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}
