//! What is special to Azure: names, metadata, signatures, blocks, and how failures are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::proxy::{Fault, Proxy};
use common::{TIME, azure, azure_config, chunks, content, list, put, range};
use futures::StreamExt;
use walstream_ltx::{Level, Txid};
use walstream_storage::{
    AzureConfig, PutBody, PutOutcome, ReplicaConfig, Secret, StorageError, TimestampSource, connect,
};
use walstream_test_support::{Answers, Azurite};

/// The endpoint of an Azurite behind a proxy.
fn behind(proxy: &Proxy) -> String {
    format!("{}/{}", proxy.endpoint(), Azurite::ACCOUNT)
}

#[tokio::test]
async fn azurite_names_and_metadata_are_the_peers() {
    let server = Azurite::start();
    let client = azure(&server.endpoint(), "/backups//app~1/");
    client.put(Level::SNAPSHOT, range(1, 255), TIME, PutBody::Bytes("x".into())).await.unwrap();

    let key = "backups/app~1/ltx/9/0000000000000001-00000000000000ff.ltx";
    assert_eq!(server.keys("backups"), [key], "and the blob that was used to try out the store is gone");
    let headers = server.headers(key);
    for (name, value) in [
        ("x-ms-meta-litestreamtimestamp", "2023-11-14T22:13:20.123Z"),
        ("content-type", "application/octet-stream"),
        ("x-ms-blob-type", "BlockBlob"),
    ] {
        assert!(headers.contains(&(name.to_owned(), value.to_owned())), "{name}: {headers:?}");
    }
    assert_eq!(client.location(), "abs://devstoreaccount1@bkt/backups/app~1");
}

#[tokio::test]
async fn azurite_the_top_of_a_container_is_a_replica_too() {
    let server = Azurite::start();
    let client = azure(&server.endpoint(), "");
    client.init().await.unwrap();
    put(&*client, range(1, 1), "x").await.unwrap();
    assert_eq!(server.keys(""), ["ltx/0/0000000000000001-0000000000000001.ltx"]);
    assert_eq!(list(&*client, 1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn azurite_a_shared_access_signature_is_enough_for_everything() {
    let server = Azurite::start();
    let proxy = Proxy::start(server.address()).await;
    // Were the key used as well, it would not fit.
    let config = AzureConfig {
        account_key: Some(Secret::new("d3Jvbmc=")),
        sas_token: Some(Secret::new(format!("?{}", Azurite::SAS))),
        ..azure_config(&behind(&proxy), "db")
    };
    let client = connect(&ReplicaConfig::Azure(config)).unwrap();
    client.init().await.unwrap();
    put(&*client, range(1, 1), "x").await.unwrap();
    let long = || PutBody::Stream(chunks(70, 1 << 20));
    assert_eq!(client.put(Level::L0, range(2, 2), TIME, long()).await.unwrap(), PutOutcome::Created);
    assert_eq!(client.put(Level::L0, range(2, 2), TIME, long()).await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(2, 2)).await.len(), 70 << 20, "more than a document may have");
    assert_eq!(client.list(Level::L0, Txid::ZERO, TimestampSource::Exact).await.unwrap()[0].created_at, TIME);
    client.delete(&[(Level::L0, range(1, 1)), (Level::L0, range(2, 2))]).await.unwrap();
    assert!(list(&*client, 0).await.is_empty());

    proxy.plan("GET", 100, Fault::CutAnswer(0));
    let error = client.read(Level::L0, range(1, 1), 0..1).await.unwrap_err().to_string();
    assert!(!error.contains("xwVArD6"), "no signature in {error}");
}

#[tokio::test]
async fn azurite_a_large_upload_asks_for_a_free_name_at_its_end() {
    let server = Arc::new(Azurite::start());
    let proxy = Proxy::start(server.address()).await;
    let client = azure(&behind(&proxy), "db");
    let long = || PutBody::Stream(chunks(10, 1 << 20));
    assert_eq!(client.put(Level::L0, range(1, 1), TIME, long()).await.unwrap(), PutOutcome::Created);
    let end = proxy.seen("comp=blocklist");
    assert!(end.len() == 1 && end[0].contains("if-none-match: *"), "{end:?}");

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
async fn azurite_an_upload_whose_answer_is_lost_finds_itself() {
    let server = Azurite::start();
    let proxy = Proxy::start(server.address()).await;
    let client = azure(&behind(&proxy), "db");
    client.creates_exclusively().await.unwrap();
    proxy.plan("PUT", 1, Fault::CutAnswer(0));
    assert_eq!(put(&*client, range(1, 1), "mine").await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(1, 1)).await, b"mine");

    proxy.plan("comp=blocklist", 1, Fault::CutAnswer(0));
    let long = client.put(Level::L0, range(2, 2), TIME, PutBody::Stream(chunks(10, 1 << 20))).await;
    assert_eq!(long.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(2, 2)).await.len(), 10 << 20);
}

#[tokio::test]
async fn azurite_an_interrupted_upload_leaves_nothing() {
    let server = Azurite::start();
    let proxy = Proxy::start(server.address()).await;
    let client = azure(&behind(&proxy), "db");
    client.creates_exclusively().await.unwrap();
    proxy.plan("PUT", 100, Fault::CutRequest(100_000));
    let cut = client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(12, 1 << 20))).await;
    assert!(matches!(cut, Err(StorageError::Unavailable { operation: "upload", .. })), "{cut:?}");
    assert!(list(&*client, 0).await.is_empty() && server.keys("").is_empty());
}

#[tokio::test]
async fn azurite_three_hundred_files_are_deleted_with_two_requests() {
    let server = Azurite::start();
    let proxy = Proxy::start(server.address()).await;
    let client = azure(&behind(&proxy), "db");
    let files: Vec<_> = (1..=300).map(|txid| (Level::L0, range(txid, txid))).collect();
    for (_, txids) in &files[..20] {
        put(&*client, *txids, "x").await.unwrap();
    }
    let before = proxy.seen("comp=batch").len();
    client.delete(&files).await.unwrap();
    assert_eq!(proxy.seen("comp=batch").len() - before, 2);
    assert!(server.keys("").is_empty());
}

/// The first sentence that a user sees, and how long it takes.
async fn first_contact(config: AzureConfig) -> (StorageError, Duration) {
    let begun = Instant::now();
    let error = connect(&ReplicaConfig::Azure(config)).unwrap().init().await.unwrap_err();
    (error, begun.elapsed())
}

#[tokio::test]
async fn azurite_what_cannot_work_is_told_in_one_sentence_within_five_seconds() {
    let server = Azurite::start();
    let silent = Proxy::start(server.address()).await;
    silent.plan("GET", 100, Fault::Hang);
    let good = azure_config(&server.endpoint(), "db");
    let nope = AzureConfig { bucket: Some("nope".to_owned()), ..good.clone() };
    let wrong_key = AzureConfig { account_key: Some(Secret::new("d3Jvbmc=")), ..good.clone() };
    let wrong_signature =
        AzureConfig { sas_token: Some(Secret::new("sv=2022-11-02&sig=wrong")), ..good.clone() };
    let machine = AzureConfig { account_key: None, ..good.clone() };
    let closed = azure_config("http://127.0.0.1:1/devstoreaccount1", "db");
    for (config, sentence) in [
        (nope, format!("abs://devstoreaccount1@nope/db: container \"nope\" does not exist at {}; create it, or correct the container name or the endpoint", server.endpoint())),
        (wrong_key, "abs://devstoreaccount1@bkt/db: access denied: AuthorizationFailure: Server failed to authenticate the request.".to_owned()),
        (wrong_signature, "abs://devstoreaccount1@bkt/db: access denied: Auth".to_owned()),
        (machine, "abs://devstoreaccount1@bkt/db: first contact failed: no Azure credentials: none are set and this machine has no managed identity; set account-key or sas-token".to_owned()),
        (closed, "abs://devstoreaccount1@bkt/db: first contact failed: cannot connect to http://127.0.0.1:1/devstoreaccount1: Connection refused (os error 111)".to_owned()),
        (azure_config(&behind(&silent), "db"), format!("abs://devstoreaccount1@bkt/db: first contact failed: {} gave no answer within 5 s", behind(&silent))),
    ] {
        let (error, took) = first_contact(config).await;
        assert!(error.to_string().starts_with(&sentence), "{error}");
        assert!(took < Duration::from_millis(5500), "{error}: {took:?}");
    }
}

#[tokio::test]
async fn azurite_a_missing_container_is_never_an_empty_replica() {
    let server = Azurite::start();
    let config = AzureConfig { bucket: Some("nope".to_owned()), ..azure_config(&server.endpoint(), "db") };
    let client = connect(&ReplicaConfig::Azure(config)).unwrap();
    let listed = client.list(Level::L0, Txid::ZERO, TimestampSource::Listing).await;
    assert!(matches!(listed, Err(StorageError::Config(_))), "{listed:?}");
    let read = client.read(Level::L0, range(1, 1), 0..9).await;
    assert!(matches!(read, Err(StorageError::Config(_))), "{read:?}");
    assert!(matches!(put(&*client, range(1, 1), "x").await, Err(StorageError::Config(_))));
    assert!(matches!(client.delete(&[(Level::L0, range(1, 1))]).await, Err(StorageError::Config(_))));
}

/// The token of the machine's identity, or what the token of a pod is changed for, goes with each request.
#[tokio::test]
async fn tokens_of_machines_and_pods_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let federated = folder.path().join("token");
    std::fs::write(&federated, "who-i-am").unwrap();
    for pod in [false, true] {
        let azure = Answers::start(&[
            ("comp=list", "<EnumerationResults><Blobs/></EnumerationResults>"),
            (
                "/machine",
                r#"{"access_token": "t0ken", "expires_on": "4070908800", "resource": "", "token_type": "Bearer"}"#,
            ),
            ("/tenant/oauth2/v2.0/token", r#"{"access_token": "t0ken", "expires_in": 3600}"#),
        ]);
        let (machine, url) = (format!("{}/machine", azure.url()), azure.url());
        let variables = match pod {
            false => vec![("IDENTITY_ENDPOINT", machine.as_str())],
            true => vec![
                ("AZURE_FEDERATED_TOKEN_FILE", federated.to_str().unwrap()),
                ("AZURE_CLIENT_ID", "client"),
                ("AZURE_TENANT_ID", "tenant"),
                ("AZURE_AUTHORITY_HOST", &url),
            ],
        };
        for (name, value) in variables {
            // SAFETY: nobody else in this process reads or writes the environment meanwhile.
            unsafe { std::env::set_var(name, value) };
        }
        let config = AzureConfig {
            account_name: Some("account".into()),
            bucket: Some("bkt".into()),
            endpoint: Some(format!("{url}/account")),
            ..AzureConfig::default()
        };
        connect(&ReplicaConfig::Azure(config)).unwrap().init().await.unwrap();
        let asked = azure.asked(if pod { "/tenant/oauth2" } else { "/machine" });
        assert_eq!(asked.len(), 1);
        let listings = azure.asked("comp=list");
        assert!(
            !listings.is_empty() && listings.iter().all(|head| head.contains("authorization: bearer t0ken"))
        );
    }
}
