//! What is special to Google Cloud Storage: names, metadata, large uploads, and how failures are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::proxy::{Fault, Proxy};
use common::{TIME, chunks, content, gcs, gcs_config, list, put, range};
use futures::StreamExt;
use walstream_ltx::{Level, Txid};
use walstream_storage::{
    GcsConfig, PutBody, PutOutcome, ReplicaConfig, StorageError, TimestampSource, connect,
};
use walstream_test_support::Gcs;

#[tokio::test]
async fn gcs_server_names_and_metadata_are_the_peers() {
    let server = Gcs::start();
    let proxy = Proxy::start(server.address()).await;
    let client = gcs(&proxy.endpoint(), "/backups//app~1/");
    client.put(Level::SNAPSHOT, range(1, 255), TIME, PutBody::Bytes("x".into())).await.unwrap();

    let key = "backups/app~1/ltx/9/0000000000000001-00000000000000ff.ltx";
    assert_eq!(server.keys("backups"), [key], "and the object that was used to try out the store is gone");
    assert_eq!(server.metadata(key)["litestream-timestamp"], "2023-11-14T22:13:20.123Z");
    let upload = proxy.seen("x-goog-meta-litestream-timestamp").concat();
    assert!(upload.contains("x-goog-if-generation-match: 0"), "{upload}");
    assert_eq!(client.location(), "gs://bkt/backups/app~1");
}

#[tokio::test]
async fn gcs_server_the_top_of_a_bucket_is_a_replica_too() {
    let server = Gcs::start();
    let client = gcs(&server.endpoint(), "");
    client.init().await.unwrap();
    put(&*client, range(1, 1), "x").await.unwrap();
    assert_eq!(server.keys(""), ["ltx/0/0000000000000001-0000000000000001.ltx"]);
    assert_eq!(list(&*client, 1).await.len(), 1);
}

#[tokio::test]
async fn gcs_server_a_large_upload_looks_its_name_up_once_more_at_its_end() {
    let server = Arc::new(Gcs::start());
    let client = gcs(&server.endpoint(), "db");
    // The name was free when the upload began, and is taken before it ends.
    let other = Arc::clone(&server);
    let last = async move {
        other.put("db/ltx/0/0000000000000002-0000000000000002.ltx", b"another writer's");
        Ok(Bytes::from_static(b"last"))
    };
    let body = chunks(10, 1 << 20).chain(futures::stream::once(last)).boxed();
    let outcome = client.put(Level::L0, range(2, 2), TIME, PutBody::Stream(body)).await;
    assert_eq!(outcome.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(2, 2)).await, b"another writer's");
}

#[tokio::test]
async fn gcs_server_an_upload_whose_answer_is_lost_finds_itself() {
    let server = Gcs::start();
    let proxy = Proxy::start(server.address()).await;
    let client = gcs(&proxy.endpoint(), "db");
    client.creates_exclusively().await.unwrap();
    proxy.plan("PUT", 1, Fault::CutAnswer(0));
    assert_eq!(put(&*client, range(1, 1), "mine").await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(1, 1)).await, b"mine");
}

#[tokio::test]
async fn gcs_server_passing_failures_are_tried_again() {
    let server = Gcs::start();
    let proxy = Proxy::start(server.address()).await;
    let client = gcs(&proxy.endpoint(), "db");
    client.creates_exclusively().await.unwrap();
    for fault in [Fault::Answer { status: "503 Service Unavailable", headers: "" }, Fault::CutRequest(0)] {
        proxy.plan("PUT", 2, fault.clone());
        assert_eq!(put(&*client, range(1, 1), "0123456789").await.unwrap(), PutOutcome::Created, "{fault:?}");
        proxy.plan("GET", 2, fault.clone());
        assert_eq!(content(&*client, range(1, 1)).await, b"0123456789", "{fault:?}");
        client.delete(&[(Level::L0, range(1, 1))]).await.unwrap();
    }
}

#[tokio::test]
async fn gcs_server_an_interrupted_upload_leaves_nothing() {
    let server = Gcs::start();
    let proxy = Proxy::start(server.address()).await;
    let client = gcs(&proxy.endpoint(), "db");
    client.creates_exclusively().await.unwrap();
    proxy.plan("PUT", 100, Fault::CutRequest(100_000));
    let cut = client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(12, 1 << 20))).await;
    assert!(matches!(cut, Err(StorageError::Unavailable { operation: "upload", .. })), "{cut:?}");
    assert!(list(&*client, 0).await.is_empty() && server.keys("").is_empty());
    assert_eq!(proxy.seen("delete /bkt/").iter().filter(|head| head.contains("uploadid=")).count(), 1);
}

#[tokio::test]
async fn gcs_server_listings_of_several_pages_are_whole() {
    let server = Gcs::start();
    let client = gcs(&server.endpoint(), "many");
    for txid in 1..=250 {
        server.put(&format!("many/ltx/0/{txid:016x}-{txid:016x}.ltx"), b"x");
    }
    let txids = |files: Vec<walstream_storage::FileInfo>| {
        files.iter().map(|file| file.txids.min().get()).collect::<Vec<_>>()
    };
    assert_eq!(txids(list(&*client, 0).await), (1..=250).collect::<Vec<_>>());
    assert_eq!(txids(list(&*client, 150).await), (150..=250).collect::<Vec<_>>());
}

/// The first sentence that a user sees, and how long it takes.
async fn first_contact(config: GcsConfig) -> (String, Duration) {
    let begun = Instant::now();
    let error = match connect(&ReplicaConfig::Gcs(config)) {
        Ok(client) => client.init().await.unwrap_err(),
        Err(error) => error,
    };
    (error.to_string(), begun.elapsed())
}

#[tokio::test]
async fn gcs_server_what_cannot_work_is_told_in_one_sentence_within_five_seconds() {
    let (server, denying) = (Gcs::start(), Gcs::start_denying());
    let silent = Proxy::start(server.address()).await;
    silent.plan("GET", 100, Fault::Hang);
    for (endpoint, bucket, sentence) in [
        (server.endpoint(), "nope", format!("gs://nope/db: bucket \"nope\" does not exist at {}; create it, or correct the bucket name or the endpoint", server.endpoint())),
        (denying.endpoint(), "bkt", "gs://bkt/db: access denied: AccessDenied: Access denied.".to_owned()),
        (silent.endpoint(), "bkt", format!("gs://bkt/db: first contact failed: {} gave no answer within 5 s", silent.endpoint())),
        ("http://127.0.0.1:1".to_owned(), "bkt", "gs://bkt/db: first contact failed: cannot connect to http://127.0.0.1:1: Connection refused (os error 111)".to_owned()),
    ] {
        let (error, took) = first_contact(gcs_config(&endpoint, bucket, "db")).await;
        assert_eq!(error, sentence);
        assert!(took < Duration::from_millis(5500), "{error}: {took:?}");
    }
}

/// The key that Google would not know is never asked about: it cannot even sign.
#[tokio::test]
async fn credentials_that_cannot_work_are_told_in_one_sentence_within_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    let service_account =
        r#"{"type": "service_account", "client_email": "a@b", "private_key_id": "1", "private_key": "x"}"#;
    for (text, sentence) in [
        (Some(service_account), "holds no private key that can be used; supported are"),
        (
            Some(r#"{"type": "external_account"}"#),
            "holds Google credentials of type \"external_account\"; supported are",
        ),
        (
            None,
            "gs://bkt/db: first contact failed: no Google credentials: none are set and this machine's metadata server gave none; set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account",
        ),
    ] {
        // SAFETY: nobody else in this process reads or writes the environment meanwhile.
        unsafe {
            for (name, value) in [
                ("HOME", "/nonexistent"),
                ("GCE_METADATA_HOST", "127.0.0.1:1"),
                ("GCE_METADATA_IP", "127.0.0.1:1"),
            ] {
                std::env::set_var(name, value);
            }
            match text {
                Some(text) => {
                    std::fs::write(&file, text).unwrap();
                    std::env::set_var("GOOGLE_APPLICATION_CREDENTIALS", &file);
                }
                None => std::env::remove_var("GOOGLE_APPLICATION_CREDENTIALS"),
            }
        }
        let (error, took) = first_contact(GcsConfig { endpoint: None, ..gcs_config("", "bkt", "db") }).await;
        assert!(error.contains(sentence), "{error}");
        assert!(took < Duration::from_millis(5500), "{error}: {took:?}");
    }
}

#[tokio::test]
async fn gcs_server_a_missing_bucket_is_never_an_empty_replica() {
    let server = Gcs::start();
    let client = connect(&ReplicaConfig::Gcs(gcs_config(&server.endpoint(), "nope", "db"))).unwrap();
    let listed = client.list(Level::L0, Txid::ZERO, TimestampSource::Listing).await;
    assert!(matches!(listed, Err(StorageError::Config(_))), "{listed:?}");
    let read = client.read(Level::L0, range(1, 1), 0..9).await;
    assert!(matches!(read, Err(StorageError::Config(_))), "{read:?}");
    assert!(matches!(put(&*client, range(1, 1), "x").await, Err(StorageError::Config(_))));
    assert!(matches!(client.delete(&[(Level::L0, range(1, 1))]).await, Err(StorageError::Config(_))));
}
