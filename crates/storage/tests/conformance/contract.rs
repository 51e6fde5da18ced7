//! What every store must do when nothing goes wrong.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::StreamExt;
use walstream_ltx::{Level, Txid};
use walstream_storage::{LegacyPart, PutBody, PutOutcome, StorageError, TimestampSource};

use crate::backends::{Backend, PATH};
use crate::common::{TIME, chunks, content, header, list, put, range};

/// A WAL segment whose offset has more digits than others.
const BEYOND_4_GIB: &str = "wal/00000001_100000020.wal.lz4";

pub(crate) async fn an_empty_replica_is_no_error<B: Backend>(backend: B) {
    let client = backend.client();
    client.init().await.unwrap();
    for level in Level::all() {
        assert!(client.list(level, Txid::ZERO, TimestampSource::Exact).await.unwrap().is_empty());
    }
}

pub(crate) async fn a_file_comes_back_with_its_time_and_size<B: Backend>(backend: B) {
    let client = backend.client();
    // Some stores keep no time of ours, but the file does.
    let body = PutBody::Bytes(header(range(1, 26)));
    assert_eq!(client.put(Level::SNAPSHOT, range(1, 26), TIME, body).await.unwrap(), PutOutcome::Created);

    let files = client.list(Level::SNAPSHOT, Txid::FIRST, TimestampSource::Exact).await.unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].level, files[0].txids, files[0].size), (Level::SNAPSHOT, range(1, 26), 100));
    assert_eq!(files[0].created_at, TIME);
    assert!(list(&*client, 0).await.is_empty(), "levels do not mix");
}

pub(crate) async fn listings_are_ordered_and_begin_where_asked<B: Backend>(backend: B) {
    let client = backend.client();
    for txids in [range(10, 12), range(1, 1), range(9, 9), range(1, 8), range(0x1000, 0x1000)] {
        put(&*client, txids, "x").await.unwrap();
    }
    let names = async |from| -> Vec<(u64, u64)> {
        let files = list(&*client, from).await;
        files.iter().map(|file| (file.txids.min().get(), file.txids.max().get())).collect()
    };
    assert_eq!(names(0).await, [(1, 1), (1, 8), (9, 9), (10, 12), (0x1000, 0x1000)]);
    assert_eq!(names(2).await, [(9, 9), (10, 12), (0x1000, 0x1000)]);
    assert_eq!(names(10).await, [(10, 12), (0x1000, 0x1000)]);
    assert_eq!(names(0x1001).await, []);
}

pub(crate) async fn an_existing_file_is_left_alone<B: Backend>(backend: B) {
    let client = backend.client();
    assert_eq!(put(&*client, range(1, 1), "first").await.unwrap(), PutOutcome::Created);
    assert_eq!(put(&*client, range(1, 1), "second").await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(1, 1)).await, b"first");

    let long = || PutBody::Stream(chunks(6, 1 << 20));
    assert_eq!(client.put(Level::L0, range(1, 1), TIME, long()).await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(1, 1)).await, b"first");
}

pub(crate) async fn of_eight_writers_at_once_one_wins<B: Backend>(backend: B) {
    let client = backend.client();
    for round in 1..=5 {
        let writers = (0..8).map(|writer| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { put(&*client, range(round, round), &format!("writer {writer}")).await })
        });
        let outcomes = futures::future::join_all(writers.collect::<Vec<_>>()).await;
        let outcomes: Vec<PutOutcome> =
            outcomes.into_iter().map(|outcome| outcome.unwrap().unwrap()).collect();
        let winners = outcomes.iter().filter(|outcome| **outcome == PutOutcome::Created).count();
        assert_eq!(winners, 1, "{outcomes:?}");
        let winner = outcomes.iter().position(|outcome| *outcome == PutOutcome::Created).unwrap();
        assert_eq!(content(&*client, range(round, round)).await, format!("writer {winner}").as_bytes());
    }
}

pub(crate) async fn ranges_are_exact<B: Backend>(backend: B) {
    let client = backend.client();
    put(&*client, range(1, 1), "0123456789").await.unwrap();
    let read = async |from, to| client.read(Level::L0, range(1, 1), from..to).await;
    for (from, to, expected) in
        [(0, 1, "0"), (4, 6, "45"), (9, 10, "9"), (0, 10, "0123456789"), (8, 99, "89"), (3, 3, "")]
    {
        assert_eq!(read(from, to).await.unwrap(), expected, "{from}..{to}");
    }
    for from in [10, 11, 1 << 40] {
        assert!(
            matches!(read(from, from + 5).await, Err(StorageError::PastEnd { offset, .. }) if offset == from)
        );
    }
    let rest = async |from| -> Result<Vec<Bytes>, StorageError> {
        let stream = client.read_stream(Level::L0, range(1, 1), from).await?;
        Ok(stream.map(Result::unwrap).collect().await)
    };
    assert_eq!(rest(7).await.unwrap().concat(), b"789");
    assert!(matches!(rest(10).await, Err(StorageError::PastEnd { offset: 10, .. })));
}

pub(crate) async fn what_is_missing_is_not_found<B: Backend>(backend: B) {
    let client = backend.client();
    put(&*client, range(1, 1), "x").await.unwrap();
    let missing = range(2, 2);
    assert!(matches!(client.read(Level::L0, missing, 0..1).await, Err(StorageError::NotFound { .. })));
    assert!(matches!(client.read_stream(Level::L0, missing, 0).await, Err(StorageError::NotFound { .. })));
}

pub(crate) async fn deleting_twice_is_no_error<B: Backend>(backend: B) {
    let client = backend.client();
    for txid in 1..=3 {
        put(&*client, range(txid, txid), "x").await.unwrap();
    }
    let gone = [(Level::L0, range(1, 1)), (Level::L0, range(3, 3)), (Level::SNAPSHOT, range(1, 9))];
    client.delete(&gone).await.unwrap();
    client.delete(&gone).await.unwrap();
    client.delete(&[]).await.unwrap();
    let left: Vec<_> = list(&*client, 0).await.iter().map(|file| file.txids).collect();
    assert_eq!(left, [range(2, 2)]);
}

pub(crate) async fn a_long_stream_arrives_whole<B: Backend>(backend: B) {
    let client = backend.client();
    // 64 MiB in pieces that fit no part size.
    let (count, size) = (64, (1 << 20) + 1);
    let put = client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(count, size))).await;
    assert_eq!(put.unwrap(), PutOutcome::Created);

    let files = client.list(Level::L0, Txid::FIRST, TimestampSource::Exact).await.unwrap();
    assert_eq!(files[0].size, (count * size) as u64);
    let stored = content(&*client, range(1, 1)).await;
    let whole =
        stored.chunks(size).enumerate().all(|(number, chunk)| chunk.iter().all(|byte| *byte == number as u8));
    assert!(whole && stored.len() == count * size);
}

pub(crate) async fn a_stream_that_breaks_leaves_nothing<B: Backend>(backend: B) {
    let client = backend.client();
    for chunks_before in [0, 1, 12] {
        let broken = chunks(chunks_before, 1 << 20)
            .chain(futures::stream::iter([Err(std::io::Error::other("the database went away"))]));
        let error =
            client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(broken.boxed())).await.unwrap_err();
        assert!(error.to_string().contains("the database went away"), "{error}");
        assert!(list(&*client, 0).await.is_empty());
    }
}

pub(crate) async fn a_local_file_is_uploaded<B: Backend>(backend: B) {
    let client = backend.client();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    let long: Vec<u8> = (0..12_345_678_u32).map(|number| (number % 251) as u8).collect();
    for (txid, body) in [(1, &b""[..]), (2, b"short"), (3, &long)] {
        std::fs::write(&path, body).unwrap();
        client.put(Level::L0, range(txid, txid), TIME, PutBody::File(path.clone())).await.unwrap();
        assert!(content(&*client, range(txid, txid)).await == body, "file {txid}");
    }
    let missing = PutBody::File(folder.path().join("missing"));
    assert!(client.put(Level::L0, range(4, 4), TIME, missing).await.is_err());
    let kept: BTreeSet<_> = list(&*client, 0).await.iter().map(|file| file.size).collect();
    assert_eq!(kept, BTreeSet::from([0, 5, long.len() as u64]));
}

pub(crate) async fn three_thousand_files_are_listed_and_deleted<B: Backend>(backend: B) {
    let client = backend.client();
    let writes = futures::stream::iter(1..=3000).map(|txid| {
        let client = client.clone();
        async move { put(&*client, range(txid, txid), "x").await.unwrap() }
    });
    writes.buffer_unordered(32).for_each(|_| async {}).await;

    let txids = async |from| -> Vec<u64> {
        list(&*client, from).await.iter().map(|file| file.txids.min().get()).collect()
    };
    assert_eq!(txids(0).await, (1..=3000).collect::<Vec<_>>());
    assert_eq!(txids(1500).await, (1500..=3000).collect::<Vec<_>>());
    let exact = client.list(Level::L0, Txid::new(2901), TimestampSource::Exact).await.unwrap();
    assert!(exact.len() == 100, "{}", exact.len());

    let old: Vec<_> = (1..=1500).map(|txid| (Level::L0, range(txid, txid))).collect();
    client.delete(&old[..1000]).await.unwrap();
    assert_eq!(txids(0).await, (1001..=3000).collect::<Vec<_>>());
    // Two thirds of these are gone already.
    client.delete(&old).await.unwrap();
    assert_eq!(txids(0).await, (1501..=3000).collect::<Vec<_>>());
}

pub(crate) async fn foreign_names_are_not_listed<B: Backend>(backend: B) {
    let client = backend.client();
    put(&*client, range(1, 1), "x").await.unwrap();
    let file = backend.name_of(Level::L0, range(2, 2));
    let (folder, name) = file.rsplit_once('/').unwrap();
    let upper = name.replace("2.ltx", "A.ltx");
    for foreign in [
        format!("{folder}/{name}.tmp"),
        format!("{folder}/sub/{name}"),
        format!("{folder}x/{name}"),
        format!("{folder}/{upper}"),
        format!("{folder}/0000000000000003-0000000000000002.ltx"),
        "lock".to_owned(),
    ] {
        backend.plant(&foreign, b"x").await;
    }
    assert_eq!(list(&*client, 0).await.len(), 1);
    // And a file that somebody else put there under a good name is as good as ours.
    backend.plant(&file, b"theirs").await;
    assert_eq!(content(&*client, range(2, 2)).await, b"theirs");
    assert_eq!(list(&*client, 0).await.len(), 2);
}

pub(crate) async fn replicas_in_one_place_do_not_mix<B: Backend>(backend: B) {
    let (one, other) = (backend.client_of("one"), backend.client_of("one/other"));
    put(&*one, range(1, 1), "one").await.unwrap();
    put(&*other, range(1, 1), "other").await.unwrap();
    put(&*other, range(2, 2), "other").await.unwrap();
    assert_eq!(list(&*one, 0).await.len(), 1);
    assert_eq!(content(&*one, range(1, 1)).await, b"one");
    other.delete(&[(Level::L0, range(1, 1))]).await.unwrap();
    assert_eq!(list(&*one, 0).await.len(), 1);
    assert_eq!(list(&*other, 0).await.len(), 1);
}

pub(crate) async fn a_replica_of_version_03_is_found_and_read<B: Backend>(backend: B) {
    let generation = "generations/0ed0e5a977d64650";
    let names = ["snapshots/00000001.snapshot.lz4", "wal/00000001_00000000.wal.lz4", BEYOND_4_GIB];
    let names = names.map(|name| format!("{generation}/{name}"));
    let foreign = ["wal/00000001_00000020.wal.lz4.tmp", "readme.txt", "../readme.txt", "../notes/wal/x"];
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    for name in names.iter().cloned().chain(foreign.map(|name| format!("{generation}/{name}"))) {
        backend.plant(&name.replace("0ed0e5a977d64650/../", ""), b"0123456789").await;
    }
    let client = backend.client();
    let store = client.legacy().unwrap();
    let mut objects = store.list_legacy().await.unwrap();
    objects.sort_by_key(|object| (object.index, object.part));
    assert_eq!(objects.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), names);
    assert_eq!(objects[2].part, LegacyPart::Wal { offset: (1 << 32) + 32 });
    for object in &objects {
        assert_eq!(object.size, 10);
        // Most servers tell whole seconds.
        assert!(object.created_at.as_millis() as u128 > before - 2000, "{object:?}");
        for (range, expected) in [(0..10, "0123456789"), (3..6, "345"), (8..99, "89"), (3..3, "")] {
            assert_eq!(store.read_legacy(object, range).await.unwrap(), expected);
        }
        assert!(matches!(store.read_legacy(object, 10..12).await, Err(StorageError::PastEnd { .. })));
    }
    objects[0].name.push('x');
    assert!(matches!(store.read_legacy(&objects[0], 0..1).await, Err(StorageError::NotFound { .. })));
    let neighbour = backend.client_of(&PATH[..PATH.len() - 1]);
    assert_eq!(neighbour.legacy().unwrap().list_legacy().await.unwrap(), []);
}
