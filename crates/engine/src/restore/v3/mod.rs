//! Replicas of Litestream 0.3: a snapshot and the WALs that came after it (format.md, "Replicas of
//! Litestream 0.3").
//!
//! Invariant: what is restored is one snapshot and an unbroken row of WAL bytes of the same generation, applied
//! by SQLite. A hole in that row is an error that says what is missing.

mod apply;
mod check;
mod row;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use walstream_ltx::{Timestamp, Txid};
use walstream_storage::{FileInfo, LegacyObject, LegacyPart, ReplicaClient, StorageError};

use super::by_stream::feed;
use super::fetch::{self, patiently};
use super::points::Point;
use super::progress::{Counts, Meter};
use super::write::Output;
use super::{RestoreOptions, Restored, Target, Verified};
use crate::error::EngineError;

pub(crate) use self::check::check;
pub use self::check::{LegacyDamage, LegacyReport};

/// Every object of version 0.3 in the place of a replica.
pub(super) async fn list(client: &dyn ReplicaClient) -> Result<Vec<LegacyObject>, EngineError> {
    match client.legacy() {
        Some(store) => Ok(store.list_legacy().await?),
        None => Ok(Vec::new()),
    }
}

/// A snapshot and the WAL segments after it, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    snapshot: LegacyObject,
    segments: Vec<LegacyObject>,
}

/// The backup of version 0.3 that leads to the target, if it leads closer to it than the LTX `files` do.
pub(super) fn choose(objects: &[LegacyObject], files: &[FileInfo], target: &Target) -> Option<Backup> {
    let wanted = |time: Timestamp| match target {
        Target::Latest => true,
        Target::At(limit) => time <= *limit,
        // TXIDs are of version 0.5.
        Target::Txid(_) => false,
    };
    let objects = || objects.iter().filter(|object| wanted(object.created_at));
    let snapshots = objects().filter(|object| object.part == LegacyPart::Snapshot);
    let snapshot = snapshots.max_by_key(|object| object.created_at)?;
    let legacy = match target {
        Target::Latest => objects().map(|object| object.created_at).max()?,
        _ => snapshot.created_at,
    };
    let beginnings = files.iter().filter(|file| *target == Target::Latest || file.txids.is_snapshot());
    let newest = beginnings.map(|file| file.created_at).filter(|&time| wanted(time)).max();
    if newest.is_some_and(|newest| newest >= legacy) {
        return None;
    }
    let follows = |object: &&LegacyObject| {
        object.generation == snapshot.generation
            && object.index >= snapshot.index
            && object.part != LegacyPart::Snapshot
    };
    let mut segments: Vec<LegacyObject> = objects().filter(follows).cloned().collect();
    segments.sort_by_key(|segment| (segment.index, segment.part));
    Some(Backup { snapshot: snapshot.clone(), segments })
}

impl Backup {
    /// Everything that is read to restore it, in that order.
    pub fn objects(&self) -> impl Iterator<Item = &LegacyObject> {
        std::iter::once(&self.snapshot).chain(&self.segments)
    }

    /// An error if the names alone show that something is missing.
    pub(super) fn check_names(&self, location: &str) -> Result<(), EngineError> {
        row::check(&self.snapshot, &self.segments, location)
    }
}

/// The states that [`choose`] finds by their times, oldest first, up to where a WAL is missing.
pub(super) fn points(objects: &[LegacyObject], files: &[FileInfo]) -> Vec<Point> {
    let mut objects: Vec<&LegacyObject> = objects.iter().collect();
    objects.sort_by_key(|object| (object.created_at, object.index, object.part));
    let mut begun = BTreeSet::new();
    let mut current: Option<Stretch<'_>> = None;
    let mut points = Vec::new();
    for object in objects {
        match object.part {
            LegacyPart::Snapshot => current = Some(Stretch::new(object, files)),
            LegacyPart::Wal { offset: 0 } => _ = begun.insert((object.generation.as_str(), object.index)),
            LegacyPart::Wal { .. } => {}
        }
        if current.as_mut().is_some_and(|stretch| stretch.leads_to(object, &begun)) {
            points.push(Point { txid: Txid::ZERO, created_at: object.created_at, levels: Vec::new() });
        }
    }
    points.dedup();
    points
}

/// The states that begin with one snapshot.
struct Stretch<'a> {
    snapshot: &'a LegacyObject,
    /// The WAL after the last one of an unbroken row.
    next: u32,
    /// From here on the newer version leads, or something is missing.
    until: Timestamp,
}

impl<'a> Stretch<'a> {
    fn new(snapshot: &'a LegacyObject, files: &[FileInfo]) -> Self {
        let beginnings = files.iter().filter(|file| file.txids.is_snapshot()).map(|file| file.created_at);
        let until = beginnings.filter(|&time| time >= snapshot.created_at).min();
        let until = until.unwrap_or(Timestamp::from_millis(i64::MAX));
        Stretch { snapshot, next: snapshot.index, until }
    }

    /// Whether the object, the next in time, makes a state. `begun` are the WALs whose first bytes came until then.
    fn leads_to(&mut self, object: &LegacyObject, begun: &BTreeSet<(&str, u32)>) -> bool {
        while begun.contains(&(self.snapshot.generation.as_str(), self.next)) {
            self.next = self.next.saturating_add(1);
        }
        if object.generation != self.snapshot.generation || object.index < self.snapshot.index {
            return false;
        }
        if object.part != LegacyPart::Snapshot && object.index >= self.next {
            self.until = self.until.min(object.created_at);
        }
        object.created_at < self.until
    }
}

/// Restores a backup. There is no TXID in version 0.3; [`Txid::ZERO`] stands for that.
pub(super) async fn restore(
    client: &Arc<dyn ReplicaClient>,
    backup: Backup,
    options: &RestoreOptions,
    meter: &mut Meter<'_>,
) -> Result<Restored, EngineError> {
    let location = client.location();
    meter.planned(backup.objects().map(|object| object.size).fold(0, u64::saturating_add), 0);
    let created_at = backup.objects().map(|object| object.created_at).max().unwrap_or_default();
    let objects = backup.objects().cloned().collect();
    let ranges = fetch_ahead(client, objects, meter.counts(), options.parallelism.max(1));
    let (chunks, received) = mpsc::channel(1);
    let (path, check) = (options.output.clone(), options.integrity_check);
    let applied = spawn_blocking(move || {
        let output = Output::create(&path)?;
        let shape = apply::apply(&backup.snapshot, &backup.segments, received, &output, &location)?;
        output.check_integrity(check)?;
        output.publish()?;
        Ok::<_, EngineError>(shape)
    });
    let fetched = feed(ranges, chunks, meter).await;
    let applied = applied.await?;
    meter.tell();
    let (page_size, commit) = fetched.and(applied)?;
    let (txid, verified) = (Txid::ZERO, Verified::LegacyChecksums);
    let bytes_fetched = meter.fetched();
    let (newest, oldest) = (false, created_at);
    Ok(Restored { txid, page_size, commit, created_at, newest, oldest, bytes_fetched, verified })
}

/// The bytes of all objects, one after the other, with several ranges on their way.
fn fetch_ahead(
    client: &Arc<dyn ReplicaClient>,
    objects: Vec<LegacyObject>,
    counts: Arc<Counts>,
    parallelism: usize,
) -> impl Stream<Item = Result<Bytes, EngineError>> + use<> {
    let range = fetch::range(&**client);
    let ranges = objects.into_iter().flat_map(move |object| {
        let (size, object) = (object.size, Arc::new(object));
        let starts = (0..size.div_ceil(range)).map(move |n| n * range);
        starts.map(move |start| (Arc::clone(&object), start..size.min(start + range)))
    });
    let client = Arc::clone(client);
    let read = move |(object, range)| read(Arc::clone(&client), object, range, Arc::clone(&counts));
    stream::iter(ranges).map(read).buffered(parallelism)
}

async fn read(
    client: Arc<dyn ReplicaClient>,
    object: Arc<LegacyObject>,
    range: Range<u64>,
    counts: Arc<Counts>,
) -> Result<Bytes, EngineError> {
    let Some(store) = client.legacy() else {
        return Err(damaged(&client.location(), &object, "the store cannot read it"));
    };
    match patiently(&counts, range, |part| store.read_legacy(&object, part)).await {
        Err(StorageError::PastEnd { .. }) => {
            Err(damaged(&client.location(), &object, "it is shorter than in the listing"))
        }
        other => Ok(other?),
    }
}

fn damaged(location: &str, object: &LegacyObject, reason: impl std::fmt::Display) -> EngineError {
    let reason = format!("{}: {reason}", object.name);
    EngineError::Legacy { location: location.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use walstream_ltx::{Level, TxidRange};

    use super::*;

    fn object(generation: &str, index: u32, offset: Option<u64>, time: i64) -> LegacyObject {
        LegacyObject {
            name: String::new(),
            generation: generation.to_owned(),
            index,
            part: offset.map_or(LegacyPart::Snapshot, |offset| LegacyPart::Wal { offset }),
            size: 10,
            created_at: Timestamp::from_millis(time),
        }
    }

    fn ltx(time: i64) -> FileInfo {
        let txids = TxidRange::single(Txid::FIRST).unwrap();
        FileInfo { level: Level::SNAPSHOT, txids, size: 10, created_at: Timestamp::from_millis(time) }
    }

    fn at(millis: i64) -> Target {
        Target::At(Timestamp::from_millis(millis))
    }

    #[test]
    fn the_newest_snapshot_of_all_generations_and_what_follows_it() {
        let objects = [
            object("b", 0, Some(0), 10),
            object("b", 0, None, 20),
            object("a", 0, None, 30),
            object("a", 1, Some(0), 50),
            object("a", 0, Some(64), 45),
            object("a", 0, Some(0), 40),
        ];
        let row = |target| {
            let backup = choose(&objects, &[], &target).unwrap();
            (
                backup.snapshot.generation,
                backup.segments.iter().map(|s| (s.index, s.part)).collect::<Vec<_>>(),
            )
        };
        let wal = |offset| LegacyPart::Wal { offset };
        assert_eq!(row(Target::Latest), ("a".into(), vec![(0, wal(0)), (0, wal(64)), (1, wal(0))]));
        assert_eq!(row(at(45)), ("a".into(), vec![(0, wal(0)), (0, wal(64))]), "a time includes itself");
        assert_eq!(row(at(29)), ("b".into(), vec![(0, wal(0))]));
        assert_eq!(choose(&objects, &[], &at(19)), None);
        assert_eq!(choose(&objects, &[], &Target::Txid(Txid::FIRST)), None);
    }

    #[test]
    fn segments_beyond_4_gib_come_after_the_others() {
        let long = 1 << 32;
        let objects =
            [object("a", 0, None, 1), object("a", 0, Some(long), 3), object("a", 0, Some(long - 32), 2)];
        let backup = choose(&objects, &[], &Target::Latest).unwrap();
        let offsets: Vec<LegacyPart> = backup.segments.iter().map(|segment| segment.part).collect();
        assert_eq!(offsets, [LegacyPart::Wal { offset: long - 32 }, LegacyPart::Wal { offset: long }]);
    }

    #[test]
    fn the_newer_version_wins_when_it_is_as_new() {
        let objects = [object("a", 0, None, 30), object("a", 0, Some(0), 40)];
        let legacy = |files: &[FileInfo], target| choose(&objects, files, &target).is_some();
        assert!(legacy(&[ltx(39)], Target::Latest));
        assert!(!legacy(&[ltx(40)], Target::Latest));
        assert!(legacy(&[ltx(50)], at(45)), "no snapshot of the newer version is that old");
        assert!(legacy(&[ltx(29)], at(45)));
        assert!(!legacy(&[ltx(30)], at(45)));
    }

    #[test]
    fn every_state_has_its_time() {
        let objects = [
            object("a", 0, Some(0), 5),
            object("a", 0, None, 10),
            object("a", 0, Some(64), 20),
            object("a", 1, Some(0), 30),
            object("b", 0, Some(0), 35),
            object("b", 0, None, 40),
            object("a", 1, Some(64), 45),
            object("b", 2, Some(0), 50),
            object("b", 2, Some(64), 60),
        ];
        let times = |files: &[FileInfo]| -> Vec<i64> {
            points(&objects, files).iter().map(|point| point.created_at.as_millis()).collect()
        };
        assert_eq!(times(&[]), [10, 20, 30, 40], "WAL 1 of b is missing");
        assert_eq!(times(&[ltx(25)]), [10, 20, 40], "what is newer leads");
        assert_eq!(times(&[ltx(9)]), times(&[]));
        for time in times(&[ltx(25)]) {
            assert!(choose(&objects, &[ltx(25)], &at(time)).is_some());
        }
    }
}
