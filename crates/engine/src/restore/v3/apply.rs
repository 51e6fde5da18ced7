//! From the objects of a backup to a database: SQLite itself applies the WALs.
//!
//! Invariant: one WAL at a time lies beside the temporary database, whole, and is gone before the next.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use lz4_flex::frame::FrameDecoder;
use tokio::sync::mpsc;
use walstream_ltx::{Commit, PageSize};
use walstream_storage::LegacyObject;

use super::{damaged, row};
use crate::error::EngineError;
use crate::restore::by_stream::FileBytes;
use crate::restore::write::Output;

/// Bytes before the first frame of a WAL, and before the page in each frame.
const WAL_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// Unpacks a snapshot and applies the segments, which come in order and without a WAL missing. Returns the shape of the
/// database.
pub(super) fn apply(
    snapshot: &LegacyObject,
    segments: &[LegacyObject],
    chunks: mpsc::Receiver<bytes::Bytes>,
    output: &Output,
    location: &str,
) -> Result<(PageSize, Commit), EngineError> {
    let mut objects = Objects { chunks, location };
    objects.unpack(snapshot, output.file(), output)?;
    for wal in segments.chunk_by(|a, b| a.index == b.index) {
        objects.apply_wal(wal, output)?;
    }
    shape(output).ok_or_else(|| damaged(location, snapshot, "it does not hold a SQLite database"))
}

/// The objects of a backup, one after the other.
struct Objects<'a> {
    chunks: mpsc::Receiver<bytes::Bytes>,
    location: &'a str,
}

impl Objects<'_> {
    /// Decompresses the next object and returns how many bytes it held.
    fn unpack(&mut self, object: &LegacyObject, to: &File, output: &Output) -> Result<u64, EngineError> {
        let mut decoder = FrameDecoder::new(FileBytes::new(&mut self.chunks, object.size));
        let mut to = Destination { file: to, error: None };
        let copied = io::copy(&mut decoder, &mut to);
        if let Some(error) = to.error {
            return Err(output.io("write")(error));
        }
        let length = copied.map_err(|error| damaged(self.location, object, error))?;
        // The decoder takes the end of its input for the end of a frame.
        match decoder.get_ref().is_at_end_unasked() {
            true => Ok(length),
            false => Err(damaged(self.location, object, "it is cut short, or goes on after its end")),
        }
    }

    fn apply_wal(&mut self, segments: &[LegacyObject], output: &Output) -> Result<(), EngineError> {
        let file = output.create_wal()?;
        let mut length = 0;
        for segment in segments {
            row::check_offset(segment, length, self.location)?;
            length += self.unpack(segment, &file, output)?;
        }
        let frames = frames(&file, length).ok_or_else(|| self.bad_wal(segments, "it is no WAL"))?;
        let applied = output.checkpoint()?;
        if applied == frames {
            return Ok(());
        }
        Err(self.bad_wal(segments, &format!("only {applied} of its {frames} frames are valid")))
    }

    fn bad_wal(&self, segments: &[LegacyObject], problem: &str) -> EngineError {
        let Some(first) = segments.first() else {
            return EngineError::Legacy { location: self.location.to_owned(), reason: problem.to_owned() };
        };
        let reason = format!("WAL {:08x} of generation {}: {problem}", first.index, first.generation);
        EngineError::Legacy { location: self.location.to_owned(), reason }
    }
}

/// Tells errors of the file from errors of the input.
struct Destination<'a> {
    file: &'a File,
    error: Option<io::Error>,
}

impl Write for Destination<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| {
            let kind = error.kind();
            self.error = Some(error);
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many frames a WAL file of this length has.
fn frames(wal: &File, length: u64) -> Option<u64> {
    let mut page_size = [0; 4];
    wal.read_exact_at(&mut page_size, 8).ok()?;
    let page_size = PageSize::new(u32::from_be_bytes(page_size))?;
    let frame = FRAME_HEADER + u64::from(page_size.get());
    let frames = length.checked_sub(WAL_HEADER)?;
    frames.is_multiple_of(frame).then_some(frames / frame)
}

/// Page size and number of pages of the restored database.
fn shape(output: &Output) -> Option<(PageSize, Commit)> {
    let mut header = [0; 18];
    output.file().read_exact_at(&mut header, 0).ok()?;
    let bytes = match u32::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65536,
        bytes => bytes,
    };
    let page_size = PageSize::new(bytes).filter(|_| header.starts_with(b"SQLite format 3\0"))?;
    let pages = output.file().metadata().ok()?.len() / u64::from(page_size.get());
    Some((page_size, Commit::new(u32::try_from(pages).ok()?)))
}
