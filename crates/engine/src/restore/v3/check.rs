//! Whether a replica of Litestream 0.3 is whole, without restoring it.
//!
//! Invariant: what is called sound was read and unpacked to its last byte, and its LZ4 frame has the content checksum
//! that stands in it. What the bytes of a WAL mean is SQLite's business, and seen by a restore alone.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use lz4_flex::frame::FrameDecoder;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use walstream_ltx::Timestamp;
use walstream_storage::{LegacyObject, LegacyPart, ReplicaClient, StorageError};

use super::{fetch_ahead, list};
use crate::error::EngineError;
use crate::restore::by_stream::{FileBytes, feed};
use crate::restore::progress::{Meter, Unwatched};

/// Requests on their way at once.
const PARALLELISM: usize = 4;

/// An object that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyDamage {
    /// Its name below the root of the replica.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a replica of Litestream 0.3 holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyReport {
    /// Snapshots and WAL segments that were read.
    pub objects: usize,
    /// Their bytes.
    pub bytes: u64,
    /// When the newest of them was stored.
    pub newest: Timestamp,
    /// Those that are not what was written.
    pub damaged: Vec<LegacyDamage>,
    /// What is missing between them.
    pub holes: Vec<String>,
}

/// Reads every object of version 0.3 in the place of a replica.
pub(crate) async fn check(client: &Arc<dyn ReplicaClient>) -> Result<LegacyReport, EngineError> {
    let objects = list(&**client).await?;
    let mut report = LegacyReport {
        objects: objects.len(),
        bytes: objects.iter().map(|object| object.size).fold(0, u64::saturating_add),
        newest: objects.iter().map(|object| object.created_at).max().unwrap_or_default(),
        ..LegacyReport::default()
    };
    let mut lengths = HashMap::new();
    for object in &objects {
        match length(client, object).await? {
            Ok(length) => _ = lengths.insert(object.name.as_str(), length),
            Err(reason) => report.damaged.push(LegacyDamage { name: object.name.clone(), reason }),
        }
    }
    report.holes = holes(&objects, &lengths);
    Ok(report)
}

/// Unpacks an object; its unpacked length, or what is wrong with it.
async fn length(
    client: &Arc<dyn ReplicaClient>,
    object: &LegacyObject,
) -> Result<Result<u64, String>, EngineError> {
    let mut meter = Meter::new(&Unwatched);
    let ranges = fetch_ahead(client, vec![object.clone()], meter.counts(), PARALLELISM);
    let (chunks, received) = mpsc::channel(1);
    let size = object.size;
    let unpacking = spawn_blocking(move || unpacked_length(received, size));
    let fetched = feed(ranges, chunks, &mut meter).await;
    let unpacked = unpacking.await?;
    match fetched {
        Ok(()) => Ok(unpacked),
        Err(EngineError::Legacy { .. }) => Ok(Err("it is shorter than in the listing".to_owned())),
        Err(EngineError::Storage(StorageError::NotFound { .. })) => {
            Ok(Err("it is listed but not there".to_owned()))
        }
        Err(error) => Err(error),
    }
}

fn unpacked_length(mut chunks: mpsc::Receiver<bytes::Bytes>, size: u64) -> Result<u64, String> {
    let mut decoder = FrameDecoder::new(FileBytes::new(&mut chunks, size));
    let length = io::copy(&mut decoder, &mut io::sink()).map_err(|error| error.to_string())?;
    // The decoder takes the end of its input for the end of a frame.
    match decoder.get_ref().is_at_end_unasked() {
        true => Ok(length),
        false => Err("it is cut short, or goes on after its end".to_owned()),
    }
}

/// What is missing in any generation from its oldest snapshot on.
fn holes(objects: &[LegacyObject], lengths: &HashMap<&str, u64>) -> Vec<String> {
    let mut generations: Vec<&str> = objects.iter().map(|object| object.generation.as_str()).collect();
    generations.sort_unstable();
    generations.dedup();
    let of = |generation| objects.iter().filter(move |object| object.generation == generation);
    generations.into_iter().flat_map(|generation| holes_in(generation, of(generation), lengths)).collect()
}

fn holes_in<'a>(
    generation: &str,
    objects: impl Iterator<Item = &'a LegacyObject>,
    lengths: &HashMap<&str, u64>,
) -> Vec<String> {
    let (snapshots, mut segments): (Vec<_>, Vec<_>) =
        objects.partition(|object| object.part == LegacyPart::Snapshot);
    let Some(first) = snapshots.iter().map(|snapshot| snapshot.index).min() else {
        return vec![format!("generation {generation} has no snapshot")];
    };
    segments.retain(|segment| segment.index >= first);
    segments.sort_by_key(|segment| (segment.index, segment.part));
    let (mut holes, mut next) = (Vec::new(), first);
    for wal in segments.chunk_by(|a, b| a.index == b.index) {
        let [LegacyObject { index, .. }, ..] = wal else { continue };
        // A snapshot is a new beginning.
        if *index != next && snapshots.iter().all(|snapshot| snapshot.index != *index) {
            holes.push(format!("generation {generation}: WAL {next:08x} is missing before {index:08x}"));
        }
        holes.extend(hole_in_wal(wal, lengths).map(|hole| format!("generation {generation}: {hole}")));
        next = index.saturating_add(1);
    }
    holes
}

fn hole_in_wal(segments: &[&LegacyObject], lengths: &HashMap<&str, u64>) -> Option<String> {
    let mut end = Some(0);
    for segment in segments {
        let LegacyPart::Wal { offset } = segment.part else { continue };
        // After a damaged segment nothing is known about the next.
        if let Some(end) = end.filter(|&end| end != offset) {
            return Some(format!("WAL segment {:08x}_{end:08x} is missing", segment.index));
        }
        end = lengths.get(segment.name.as_str()).map(|length| offset.saturating_add(*length));
    }
    None
}
