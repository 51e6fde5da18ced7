//! The checksum of a database file as a whole.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use walstream_ltx::{Checksum, Commit, PageSize, Pgno};

/// Bytes that are read at once; every page size divides it.
const CHUNK: usize = 1 << 20;

/// The XOR of what `of_page` gives for each of so many pages, the lock page excepted.
pub(super) fn rolling(
    file: &File,
    page_size: PageSize,
    commit: Commit,
    of_page: fn(Pgno, &[u8]) -> Checksum,
) -> io::Result<Checksum> {
    let (mut sum, lock) = (Checksum::EMPTY, page_size.lock_pgno());
    let mut chunk = vec![0; CHUNK];
    let mut left = u64::from(commit.get()) * u64::from(page_size.get());
    let mut offset = 0;
    let mut pgno = Pgno::FIRST;
    while left > 0 {
        let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        file.read_exact_at(&mut chunk[..length], offset)?;
        for page in chunk[..length].chunks(page_size.bytes()) {
            if pgno != lock {
                sum = sum.toggle(of_page(pgno, page));
            }
            pgno = Pgno::new(pgno.get().saturating_add(1)).unwrap_or(pgno);
        }
        (offset, left) = (offset + length as u64, left - length as u64);
    }
    Ok(sum)
}
