//! From an image and a list of pages to one level-0 file.
//!
//! Invariant: the file is whole before it is in the shadow folder, and durable there before the position moves. Its
//! header carries the rolling checksums before and after it, and where in the WAL it ends.

use std::io::Write;

use walstream_ltx::Encoder;
use walstream_ltx::Lineage;
use walstream_ltx::header::{Header, WalSpan};
use walstream_ltx::{Checksum, Commit, PageSize, Pgno, Timestamp, Txid, TxidRange, page_digest};

use super::database_file::DatabaseFile;
use super::image::Image;
use super::page_map::Changes;
use super::wal::{FrameCount, WalPoint};
use crate::error::EngineError;
use crate::fs::Staged;
use crate::shadow::folder::ShadowFolder;

/// What every header of ours has in common.
pub(crate) struct HeaderFields {
    pub(crate) txids: TxidRange,
    pub(crate) timestamp: Timestamp,
    pub(crate) lineage: Lineage,
}

/// The header of a level-0 file whose pages are those of `image` and whose frames begin after `from`.
pub(crate) fn header(image: &Image, from: FrameCount, fields: HeaderFields) -> Header {
    Header {
        page_size: image.page_size(),
        commit: image.commit(),
        txids: fields.txids,
        timestamp: fields.timestamp,
        tracked: false,
        pre_apply: None,
        wal: span(image.page_size(), from, &image.point),
        node_id: if image.point.frames.0 == 0 { 0 } else { image.point.checksum.to_u64() },
        lineage: fields.lineage,
    }
}

fn span(page_size: PageSize, from: FrameCount, to: &WalPoint) -> WalSpan {
    let offset = from.end_offset(page_size);
    WalSpan { offset, size: to.frames.end_offset(page_size) - offset, salts: to.salts }
}

/// The pages that an increment must hold: those with a frame, and those by which the database grew, whether
/// the WAL has them or not.
pub(crate) fn pages_of_increment(image: &Image, before: Commit) -> Vec<Pgno> {
    let mut pages: Vec<Pgno> = image.changed().collect();
    pages.extend(growth(image, before).filter(|&pgno| !image.holds(pgno)));
    pages.sort_unstable();
    pages
}

/// The pages by which the database grew, the lock page left out.
pub(crate) fn growth(image: &Image, before: Commit) -> impl Iterator<Item = Pgno> {
    let lock = image.page_size().lock_pgno();
    let numbers = before.get().saturating_add(1)..=image.commit().get();
    numbers.filter_map(Pgno::new).filter(move |&pgno| pgno != lock)
}

/// The checksums of some pages of an image.
pub(crate) fn checksums(
    image: &Image,
    file: DatabaseFile<'_>,
    pages: &[Pgno],
) -> Result<Changes, EngineError> {
    let mut page = vec![0; image.page_size().bytes()];
    let checksum = |&pgno: &Pgno| {
        image.read(file, pgno, &mut page)?;
        Ok((pgno, page_digest(pgno, &page)))
    };
    Ok(Changes {
        commit: image.commit(),
        pages: pages.iter().map(checksum).collect::<Result<_, EngineError>>()?,
    })
}

/// Writes a level-0 file with the given pages, each with the checksum that it must have; also returns its size.
/// `unchanged` has the last word: whether what was read is still what was there to be read.
pub(crate) fn stage(
    shadow: &ShadowFolder,
    header: Header,
    image: &Image,
    file: DatabaseFile<'_>,
    pages: impl Iterator<Item = (Pgno, Checksum)>,
    unchanged: impl FnOnce() -> Result<(), EngineError>,
) -> Result<(u64, Staged), EngineError> {
    let txids = header.txids;
    shadow.stage(txids, |out| {
        let failed = |reason: String| EngineError::Shadow { path: shadow.path(txids), reason };
        let size = encode(out, header, image, file, pages, &failed)?;
        unchanged().map(|()| size)
    })
}

fn encode(
    out: &mut dyn Write,
    header: Header,
    image: &Image,
    file: DatabaseFile<'_>,
    pages: impl Iterator<Item = (Pgno, Checksum)>,
    failed: &dyn Fn(String) -> EngineError,
) -> Result<u64, EngineError> {
    let mut encoder = Encoder::new(out, header).map_err(|error| failed(error.to_string()))?;
    let mut page = vec![0; image.page_size().bytes()];
    for (pgno, checksum) in pages {
        image.read(file, pgno, &mut page)?;
        if page_digest(pgno, &page) != checksum {
            // A writer restarted a WAL that the file holds all of. The file still has every page.
            let (path, reason) =
                (image.database().to_owned(), format!("page {pgno} changed while it was read"));
            return Err(EngineError::Wal { path, reason });
        }
        encoder.page(pgno, &page).map_err(|error| failed(error.to_string()))?;
    }
    let (_, summary) = encoder.finish(None).map_err(|error| failed(error.to_string()))?;
    Ok(summary.size)
}

/// The range that holds just one TXID.
pub(crate) fn single(txid: Txid) -> Result<TxidRange, EngineError> {
    TxidRange::single(txid).ok_or_else(|| EngineError::TaskLost("a capture without a TXID".into()))
}
