//! Memory for large reads, used again and again.
//!
//! Invariant: at most [`KEPT`] buffers of at most [`LARGEST`] bytes wait to be used again, in the whole process.
//! Without this, a restore spends more time in the allocator and in page faults than in reading: each range is
//! allocated by one thread and freed by another.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Buffers that wait, all together a few megabytes.
const KEPT: usize = 8;
/// Larger ones are given back to the system.
const LARGEST: usize = 1 << 20;
/// For less it is not worth the while, and small reads may be kept for long.
const SMALLEST: usize = 64 << 10;

static FREE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// So many bytes, filled by `fill`.
pub(super) fn filled(length: usize, fill: impl FnOnce(&mut [u8]) -> io::Result<()>) -> io::Result<Bytes> {
    if !(SMALLEST..=LARGEST).contains(&length) {
        let mut memory = vec![0; length];
        fill(&mut memory)?;
        return Ok(memory.into());
    }
    let memory = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    let mut borrowed = Borrowed(memory);
    // What it held before is written over by `fill`; only growth costs zeros.
    borrowed.0.resize(length, 0);
    fill(&mut borrowed.0)?;
    Ok(Bytes::from_owner(borrowed))
}

/// A buffer in use. It is free again when its last user drops it.
struct Borrowed(Vec<u8>);

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(std::mem::take(&mut self.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_not_given_out_and_never_shows_what_was_in_it() {
        let read = |byte, length| {
            filled(length, |memory| {
                memory.fill(byte);
                Ok(())
            })
            .unwrap()
        };
        let held = read(7, SMALLEST);
        for length in [0, 1, SMALLEST, SMALLEST + 1, LARGEST, LARGEST + 1, SMALLEST] {
            assert_eq!(read(9, length), vec![9; length]);
        }
        assert_eq!(held, vec![7; SMALLEST]);
        assert!(FREE.lock().unwrap().iter().all(|memory| memory.len() <= LARGEST));
    }
}
