//! What every store must do, done with each kind of store.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use common::{TIME, chunks, content, list, put, range, s3};
use futures::StreamExt;
use walstream_ltx::{Level, Txid};
use walstream_storage::{
    PutBody, PutOutcome, ReplicaClient, ReplicaConfig, StorageError, TimestampSource, connect,
};
use walstream_test_support::Moto;

type Client = Arc<dyn ReplicaClient>;

macro_rules! with_every_store {
    ($($test:ident)*) => {
        mod directory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("file://{}/replica", folder.path().display());
                let config: super::ReplicaConfig = url.parse().unwrap();
                super::$test(super::connect(&config).unwrap()).await;
            })*
        }
        mod s3_moto {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let server = super::Moto::start();
                super::$test(super::s3(&server.endpoint(), super::Moto::BUCKET, "some/path")).await;
            })*
        }
    };
}

with_every_store! {
    an_empty_replica_is_no_error
    a_file_comes_back_with_its_time_and_size
    listings_are_ordered_and_begin_where_asked
    an_existing_file_is_left_alone
    of_eight_writers_at_once_one_wins
    ranges_are_exact
    what_is_missing_is_not_found
    deleting_twice_is_no_error
    a_long_stream_arrives_whole
    a_stream_that_breaks_leaves_nothing
    a_local_file_is_uploaded
}

async fn an_empty_replica_is_no_error(client: Client) {
    client.init().await.unwrap();
    for level in Level::all() {
        assert!(client.list(level, Txid::ZERO, TimestampSource::Exact).await.unwrap().is_empty());
    }
}

async fn a_file_comes_back_with_its_time_and_size(client: Client) {
    let body = PutBody::Bytes(Bytes::from_static(b"0123456789"));
    assert_eq!(client.put(Level::SNAPSHOT, range(1, 26), TIME, body).await.unwrap(), PutOutcome::Created);

    let files = client.list(Level::SNAPSHOT, Txid::FIRST, TimestampSource::Exact).await.unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].level, files[0].txids, files[0].size), (Level::SNAPSHOT, range(1, 26), 10));
    assert_eq!(files[0].created_at, TIME);
    assert!(list(&*client, 0).await.is_empty(), "levels do not mix");
}

async fn listings_are_ordered_and_begin_where_asked(client: Client) {
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

async fn an_existing_file_is_left_alone(client: Client) {
    assert_eq!(put(&*client, range(1, 1), "first").await.unwrap(), PutOutcome::Created);
    assert_eq!(put(&*client, range(1, 1), "second").await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(1, 1)).await, b"first");

    let long = || PutBody::Stream(chunks(6, 1 << 20));
    assert_eq!(client.put(Level::L0, range(1, 1), TIME, long()).await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(1, 1)).await, b"first");
    assert!(client.creates_exclusively().await.unwrap());
}

async fn of_eight_writers_at_once_one_wins(client: Client) {
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

async fn ranges_are_exact(client: Client) {
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

async fn what_is_missing_is_not_found(client: Client) {
    put(&*client, range(1, 1), "x").await.unwrap();
    let missing = range(2, 2);
    assert!(matches!(client.read(Level::L0, missing, 0..1).await, Err(StorageError::NotFound { .. })));
    assert!(matches!(client.read_stream(Level::L0, missing, 0).await, Err(StorageError::NotFound { .. })));
}

async fn deleting_twice_is_no_error(client: Client) {
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

async fn a_long_stream_arrives_whole(client: Client) {
    // 64 MiB in pieces that fit no part size.
    let (count, size) = (64, (1 << 20) + 1);
    let put = client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(count, size))).await;
    assert_eq!(put.unwrap(), PutOutcome::Created);

    let files = client.list(Level::L0, Txid::FIRST, TimestampSource::Exact).await.unwrap();
    assert_eq!((files[0].size, files[0].created_at), ((count * size) as u64, TIME));
    let stored = content(&*client, range(1, 1)).await;
    let whole =
        stored.chunks(size).enumerate().all(|(number, chunk)| chunk.iter().all(|byte| *byte == number as u8));
    assert!(whole && stored.len() == count * size);
}

async fn a_stream_that_breaks_leaves_nothing(client: Client) {
    for chunks_before in [0, 1, 12] {
        let broken = chunks(chunks_before, 1 << 20)
            .chain(futures::stream::iter([Err(std::io::Error::other("the database went away"))]));
        let error =
            client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(broken.boxed())).await.unwrap_err();
        assert!(error.to_string().contains("the database went away"), "{error}");
        assert!(list(&*client, 0).await.is_empty());
    }
}

async fn a_local_file_is_uploaded(client: Client) {
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
