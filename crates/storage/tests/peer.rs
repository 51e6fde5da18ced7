//! Replicas as the real Litestream writes them, seen through the stores.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use common::{content, list, s3};
use walstream_ltx::{Level, Txid};
use walstream_storage::{ReplicaClient, ReplicaConfig, TimestampSource, connect};
use walstream_test_support::{App, Moto, Program};

/// A replica of the peer with level-0 files.
fn replicate(folder: &std::path::Path, url: &str) {
    let app = App::open(folder.join("app.db"));
    app.execute("CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES (1)");
    Program::litestream().replicate_once(app.path(), url);
    app.execute("INSERT INTO t VALUES (2)");
    Program::litestream().replicate_once(app.path(), url);
}

/// The client finds the files, and each carries the time of its own header.
async fn check(client: &dyn ReplicaClient) {
    let files = client.list(Level::L0, Txid::FIRST, TimestampSource::Exact).await.unwrap();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let header = client.read(Level::L0, file.txids, 0..100).await.unwrap();
        assert_eq!(&header[..4], b"LTX1");
        let time = i64::from_be_bytes(header[32..40].try_into().unwrap());
        assert_eq!(file.created_at.as_millis(), time, "{}", file.txids);
    }
    let newest = list(client, 2).await.pop().unwrap();
    assert_eq!(content(client, newest.txids).await.len() as u64, newest.size);
}

#[tokio::test]
async fn replicas_of_the_peer_in_moto_and_in_directories_are_understood() {
    let (server, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    replicate(folder.path(), &server.replica_url("some//path/"));
    check(&*s3(&server.endpoint(), Moto::BUCKET, "some/path")).await;

    for name in ["plain", "with space", "with%20escape", "ü~#x"] {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}/{name}", folder.path().display());
        replicate(folder.path(), &url);
        let config: ReplicaConfig = url.parse().unwrap();
        check(&*connect(&config).unwrap()).await;
    }
}
