//! Is what the WAL holds now the continuation of what was captured?
//!
//! Invariant: the answer is "continue" only where it is proven; every doubt is a gap. A gap is never wrong, it
//! only costs reading the database once (see [`super::diff`]).

use std::fs::File;
use std::io::BufReader;

use walstream_ltx::decode::Decoder;
use walstream_ltx::header::{Header, Salts};

use super::source::Source;
use super::wal::{FrameCount, WalChecksum, WalFile, WalPoint};
use super::wal_index::WalEnd;
use crate::error::EngineError;

/// What to do with the WAL as it is now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// There is nothing new.
    Nothing,
    /// Everything after this point is new.
    Continue(WalPoint),
    /// Frames may have been missed; the reason is for the log.
    Gap(&'static str),
}

/// The rule within one process.
///
/// `covered` says that everything which was in the WAL when the present read lock was taken is captured. Then
/// new salts can only mean that this lock is on mark 0 and that a writer restarted the WAL right at its end:
/// a lock on any other mark forbids the restart, and mark 0 forbids the copying that must precede a second one.
/// A WAL without frames needs no copying: checkpoints of the application may have restarted it several times. Which
/// salts come next says nothing: a restart adds one to salt-1, but a connection that writes the first frame after a
/// restart by somebody else's checkpoint draws both anew.
pub(crate) fn in_process(at: &WalPoint, covered: bool, end: &WalEnd) -> Next {
    if at.salts == end.salts {
        return match end.frames.cmp(&at.frames) {
            std::cmp::Ordering::Greater => Next::Continue(*at),
            std::cmp::Ordering::Less => Next::Gap("the WAL became shorter"),
            std::cmp::Ordering::Equal if at.frames.0 == 0 || at.checksum == end.checksum => Next::Nothing,
            std::cmp::Ordering::Equal => Next::Gap("the WAL was rewritten at the same length"),
        };
    }
    if covered {
        let start = WalPoint { salts: end.salts, frames: FrameCount(0), checksum: WalChecksum::default() };
        Next::Continue(start)
    } else {
        Next::Gap("the WAL was restarted before it was captured")
    }
}

/// The rule after a start: the newest level-0 file says where it ended, and the WAL must hold exactly what was
/// captured up to there: the same salts, an unbroken checksum chain, and at its end the checksum that we noted
/// in the file, or, in a file of Litestream's, the very page that the last frame holds.
pub(crate) fn after_start(
    newest: &Header,
    open_newest: impl FnOnce() -> Result<File, EngineError>,
    source: &Source,
    end: &WalEnd,
) -> Result<Next, EngineError> {
    if newest.page_size != source.page_size(end)? {
        return Ok(Next::Gap("the page size changed"));
    }
    if newest.wal.salts != end.salts || end.salts == Salts::default() {
        return Ok(Next::Gap("the WAL was restarted while nobody watched"));
    }
    let captured = FrameCount::from_end_offset(newest.wal.offset + newest.wal.size, newest.page_size);
    let Some(captured) = captured.filter(|&captured| captured <= end.frames) else {
        return Ok(Next::Gap("the WAL is shorter than what was captured"));
    };
    if captured.0 == 0 {
        return Ok(Next::Continue(WalPoint {
            salts: end.salts,
            frames: captured,
            checksum: WalChecksum::default(),
        }));
    }
    let wal = WalFile::open(source.wal_path(), newest.page_size)?;
    let there = wal.scan(wal.start(end)?, &WalEnd { frames: captured, ..*end }, 0);
    let there = match there {
        Ok(there) => there,
        Err(EngineError::Wal { .. }) => return Ok(Next::Gap("the WAL does not hold what was captured")),
        Err(error) => return Err(error),
    };
    let same = match newest.node_id {
        0 => holds_last_page(open_newest()?, newest, &wal, captured, there.last_page)?,
        noted => WalChecksum::from_u64(noted) == there.end.checksum,
    };
    Ok(if same { Next::Continue(there.end) } else { Next::Gap("the WAL was rewritten while nobody watched") })
}

/// Whether the newest file holds the page of the WAL's frame `frame` in the same version.
fn holds_last_page(
    newest: File,
    header: &Header,
    wal: &WalFile,
    frame: FrameCount,
    pgno: walstream_ltx::Pgno,
) -> Result<bool, EngineError> {
    let mut in_wal = vec![0; header.page_size.bytes()];
    wal.read_page(frame, &mut in_wal)?;
    // The file was verified when the folder was opened, so an error here is a disagreement and no more.
    let Ok(mut decoder) = Decoder::new(BufReader::new(newest)) else { return Ok(false) };
    while let Ok(Some(page)) = decoder.next_page() {
        if page.pgno == pgno {
            return Ok(page.data == in_wal);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::wal::ByteOrder;

    fn point(salt1: u32, frames: u32, sum: u32) -> WalPoint {
        let checksum = WalChecksum::new(sum, sum);
        WalPoint { salts: Salts { salt1, salt2: 99 }, frames: FrameCount(frames), checksum }
    }

    fn end(salt1: u32, frames: u32, sum: u32) -> WalEnd {
        let WalPoint { salts, frames, checksum } = point(salt1, frames, sum);
        let (page_size, byte_order) = (None, ByteOrder::Little);
        WalEnd { salts, frames, checksum, pages: 1, page_size, byte_order, backfilled: FrameCount(0) }
    }

    #[test]
    fn a_generation_goes_on_where_it_was_left() {
        assert_eq!(in_process(&point(5, 3, 1), false, &end(5, 3, 1)), Next::Nothing);
        assert_eq!(in_process(&point(5, 3, 1), false, &end(5, 4, 2)), Next::Continue(point(5, 3, 1)));
    }

    #[test]
    fn the_next_generation_follows_only_a_covered_one() {
        for salt1 in [6, 7, 4, 99] {
            let start = WalPoint { checksum: WalChecksum::default(), ..point(salt1, 0, 0) };
            assert_eq!(in_process(&point(5, 3, 1), true, &end(salt1, 1, 2)), Next::Continue(start));
            assert!(matches!(in_process(&point(5, 3, 1), false, &end(salt1, 1, 2)), Next::Gap(_)));
        }
    }

    #[test]
    fn whatever_cannot_be_explained_is_a_gap() {
        assert!(matches!(in_process(&point(5, 3, 1), true, &end(5, 2, 1)), Next::Gap(_)));
        assert!(matches!(in_process(&point(5, 3, 1), true, &end(5, 3, 2)), Next::Gap(_)));
    }
}
