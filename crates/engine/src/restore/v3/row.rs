//! The row of WAL segments that follows a snapshot.
//!
//! Invariant: a row that passes begins each of its WALs at offset 0, and misses no WAL. Whether a segment is as long as
//! the next one's offset says, only its content can tell.

use walstream_storage::{LegacyObject, LegacyPart};

use super::damaged;
use crate::error::EngineError;

/// Looks for what is missing in a row that is in order, as far as names tell.
pub(super) fn check(
    snapshot: &LegacyObject,
    segments: &[LegacyObject],
    location: &str,
) -> Result<(), EngineError> {
    let mut next = snapshot.index;
    for wal in segments.chunk_by(|a, b| a.index == b.index) {
        let [first, ..] = wal else { continue };
        if first.index != next {
            let reason = format!("missing WAL index: expected {next:08x}, found {:08x}", first.index);
            return Err(EngineError::Legacy { location: location.to_owned(), reason });
        }
        check_offset(first, 0, location)?;
        next = next.saturating_add(1);
    }
    Ok(())
}

/// That a segment goes on where the bytes of its WAL end so far.
pub(super) fn check_offset(segment: &LegacyObject, end: u64, location: &str) -> Result<(), EngineError> {
    if segment.part == (LegacyPart::Wal { offset: end }) {
        return Ok(());
    }
    let reason = format!("missing WAL segment: expected {:08x}_{end:08x} before it", segment.index);
    Err(damaged(location, segment, reason))
}
