//! A whole database as one snapshot file, encoded while the application goes on writing.
//!
//! Invariant: the pages are those of the position, to the last one: the checksum of what was encoded must be
//! the rolling checksum of the position, or the file is never finished.

use std::io::Write;
use std::path::PathBuf;

use walstream_ltx::{
    Checksum, EncodeError, Encoder, Header, Level, Lineage, Txid, TxidRange, WalSpan, page_digest,
};

use super::image::Image;
use super::session::{Capture, Captured};
use super::source::ReadLock;
use crate::error::EngineError;

/// A snapshot that is ready to be encoded. It holds a read lock of its own; while it lives no checkpoint can
/// complete, so it should not live longer than the upload takes.
pub(crate) struct Snapshot {
    lock: ReadLock,
    image: Image,
    database: PathBuf,
    header: Header,
    expected: Option<Checksum>,
}

impl Capture {
    /// Captures everything and pins the state that results.
    pub(crate) fn snapshot(&mut self) -> Result<(Snapshot, Vec<Captured>), EngineError> {
        let lock = self.lock_for_snapshot()?;
        let captured = self.capture_all()?;
        let image = self.image_at_position()?;
        let txids = TxidRange::new(Txid::FIRST, self.position().txid);
        let txids =
            txids.ok_or_else(|| EngineError::TaskLost("a snapshot before the first capture".into()))?;
        let expected = self.rolling();
        let from = image.point.frames.prev().end_offset(image.page_size());
        let size = image.point.frames.end_offset(image.page_size()) - from;
        let header = Header {
            page_size: image.page_size(),
            commit: image.commit(),
            txids,
            timestamp: self.clock().now(),
            tracked: false,
            pre_apply: None,
            // As the peer has it: just the last frame.
            wal: WalSpan { offset: from, size, salts: image.point.salts },
            node_id: 0,
            lineage: Lineage { pre_apply: None, post_apply: expected },
        };
        let database = self.path().to_owned();
        Ok((Snapshot { lock, image, database, header, expected }, captured))
    }
}

impl Snapshot {
    /// Its header.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Encodes the file; returns its size.
    pub(crate) fn encode(self, out: impl Write) -> Result<u64, EngineError> {
        let txids = self.header.txids;
        let database = self.database;
        let failed = |error: EncodeError| match error {
            EncodeError::Io(error) => EngineError::io("upload a snapshot of", &database)(error),
            other => EngineError::Damaged { level: Level::SNAPSHOT, txids, reason: other.to_string() },
        };
        let mut encoder = Encoder::new(out, self.header).map_err(failed)?;
        let mut rolling = Checksum::EMPTY;
        self.image.for_each_page(self.lock.file(), |pgno, page| {
            rolling = rolling.toggle(page_digest(pgno, page));
            encoder.page(pgno, page).map_err(failed)
        })?;
        if self.expected.is_some_and(|expected| expected != rolling) {
            let reason = "the pages read do not have the checksum of the position".into();
            return Err(EngineError::Damaged { level: Level::SNAPSHOT, txids, reason });
        }
        let (_, summary) = encoder.finish(None).map_err(failed)?;
        Ok(summary.size)
    }
}
