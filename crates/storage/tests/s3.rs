//! What is special to S3: names, metadata, pages of listings, failures and how they are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::proxy::{Fault, Proxy};
use common::strict::{Manners, Strict};
use common::{TIME, chunks, content, list, put, range, s3};
use walstream_ltx::{Level, Txid};
use walstream_storage::{
    PutBody, PutOutcome, ReplicaClient, ReplicaConfig, S3Config, StorageError, TimestampSource, connect,
};
use walstream_test_support::{Answers, Moto};

#[tokio::test]
async fn moto_keys_and_metadata_are_the_peers() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "/backups//app~1/");
    client.put(Level::SNAPSHOT, range(1, 255), TIME, PutBody::Bytes("x".into())).await.unwrap();

    let key = "backups/app~1/0009/0000000000000001-00000000000000ff.ltx";
    assert_eq!(server.keys("backups"), [key], "and the object that was used to try out the store is gone");
    let upload = proxy.seen(&format!("put /bkt/{}", key.replace('~', "%7e"))).concat();
    assert!(
        upload.is_empty() || upload.contains("x-amz-meta-litestream-timestamp: 2023-11-14t22:13:20.123z"),
        "{upload}"
    );
    let upload = proxy.seen("x-amz-meta-litestream-timestamp: 2023-11-14t22:13:20.123z").concat();
    assert!(upload.contains("content-length: 1\r\n") && !upload.contains("aws-chunked"), "{upload}");
    assert!(upload.contains("if-none-match: *") && upload.contains("x-amz-content-sha256: "), "{upload}");
    assert_eq!(client.location(), "s3://bkt/backups/app~1");
}

#[tokio::test]
async fn moto_the_top_of_a_bucket_is_a_replica_too() {
    let server = Moto::start();
    let client = s3(&server.endpoint(), Moto::BUCKET, "");
    client.init().await.unwrap();
    put(&*client, range(1, 1), "x").await.unwrap();
    assert_eq!(server.keys(""), ["0000/0000000000000001-0000000000000001.ltx"]);
    assert_eq!(list(&*client, 1).await.len(), 1);
}

#[tokio::test]
async fn moto_an_object_without_metadata_has_the_time_of_its_upload() {
    let server = Moto::start();
    let client = s3(&server.endpoint(), Moto::BUCKET, "p");
    server.put("p/0000/0000000000000001-0000000000000001.ltx", b"x");
    let listed = list(&*client, 0).await;
    let exact = client.list(Level::L0, Txid::ZERO, TimestampSource::Exact).await.unwrap();
    assert_eq!(listed, exact);
    assert!(listed[0].created_at > TIME);
}

/// The first sentence that a user sees, and how long it takes.
async fn first_contact(config: S3Config) -> (StorageError, Duration) {
    let begun = Instant::now();
    let error = connect(&ReplicaConfig::S3(config)).unwrap().init().await.unwrap_err();
    (error, begun.elapsed())
}

fn config(endpoint: &str, bucket: &str) -> S3Config {
    S3Config {
        bucket: Some(bucket.into()),
        path: Some("db".into()),
        endpoint: Some(endpoint.into()),
        access_key_id: Some("AKID".into()),
        secret_access_key: Some("very-secret".to_owned().into()),
        ..S3Config::default()
    }
}

#[tokio::test]
async fn moto_what_cannot_work_is_told_in_one_sentence_within_five_seconds() {
    let (server, denying) = (Moto::start(), Moto::start_denying());
    let silent = Proxy::start(server.address()).await;
    silent.plan("GET", 100, Fault::Hang);
    let busy = Proxy::start(server.address()).await;
    busy.plan("GET", 100, Fault::Answer { status: "503 Service Unavailable", headers: "" });
    let closed = "http://127.0.0.1:1";
    for (config, sentence) in [
        (config(closed, "bkt"), "s3://bkt/db: first contact failed: cannot connect to http://127.0.0.1:1: Connection refused (os error 111)".to_owned()),
        (config(&server.endpoint(), "nope"), format!("s3://nope/db: bucket \"nope\" does not exist at {}; create it, or correct the bucket name or the endpoint", server.endpoint())),
        (config(&denying.endpoint(), "bkt"), "s3://bkt/db: access denied: InvalidAccessKeyId: The AWS Access Key Id you provided does not exist in our records.".to_owned()),
        (config(&silent.endpoint(), "bkt"), format!("s3://bkt/db: first contact failed: {} gave no answer within 5 s", silent.endpoint())),
        (config(&busy.endpoint(), "bkt"), "s3://bkt/db: first contact failed: the server answered 503 Service Unavailable".to_owned()),
    ] {
        let (error, took) = first_contact(config).await;
        assert_eq!(error.to_string(), sentence);
        assert!(took < Duration::from_millis(5500), "{error}: {took:?}");
    }
}

#[tokio::test]
async fn moto_a_missing_bucket_is_never_an_empty_replica() {
    let server = Moto::start();
    let client = s3(&server.endpoint(), "nope", "db");
    let listed = client.list(Level::L0, Txid::ZERO, TimestampSource::Listing).await;
    assert!(matches!(listed, Err(StorageError::Config(_))), "{listed:?}");
    let read = client.read(Level::L0, range(1, 1), 0..9).await;
    assert!(matches!(read, Err(StorageError::Config(_))), "{read:?}");
    assert!(matches!(put(&*client, range(1, 1), "x").await, Err(StorageError::Config(_))));
    assert!(matches!(client.delete(&[(Level::L0, range(1, 1))]).await, Err(StorageError::Config(_))));
}

#[tokio::test]
async fn moto_passing_failures_are_tried_again() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "db");
    client.creates_exclusively().await.unwrap();

    for fault in [
        Fault::Answer { status: "503 Service Unavailable", headers: "" },
        Fault::Answer { status: "500 Internal Server Error", headers: "" },
        Fault::CutRequest(0),
    ] {
        let txids = range(1, 1);
        proxy.plan("PUT", 2, fault.clone());
        assert_eq!(put(&*client, txids, "0123456789").await.unwrap(), PutOutcome::Created, "{fault:?}");
        proxy.plan("GET", 2, fault.clone());
        assert_eq!(list(&*client, 0).await.len(), 1, "{fault:?}");
        proxy.plan("GET", 2, fault.clone());
        assert_eq!(content(&*client, txids).await, b"0123456789", "{fault:?}");
        proxy.plan("POST", 1, fault.clone());
        client.delete(&[(Level::L0, txids)]).await.unwrap();
    }
}

#[tokio::test]
async fn moto_a_busy_server_is_left_alone_as_long_as_it_asks() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "db");
    proxy.plan("GET", 1, Fault::Answer { status: "429 Too Many Requests", headers: "Retry-After: 2\r\n" });
    let begun = Instant::now();
    assert!(list(&*client, 0).await.is_empty());
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn moto_a_download_goes_on_where_it_was_cut() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "db");
    client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(4, 1 << 20))).await.unwrap();
    proxy.plan("GET", 1, Fault::CutAnswer(1_500_000));
    let stored = content(&*client, range(1, 1)).await;
    assert_eq!(stored.len(), 4 << 20);
    let gets = proxy.seen("get /bkt/db/0000/");
    assert!(gets.len() == 2 && gets[1].contains("range: bytes="), "{gets:?}");
}

#[tokio::test]
async fn moto_an_upload_whose_answer_is_lost_finds_itself() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "db");
    client.creates_exclusively().await.unwrap();
    // The server has stored it, the retry finds the name taken: the caller compares the content.
    proxy.plan("PUT", 1, Fault::CutAnswer(0));
    assert_eq!(put(&*client, range(1, 1), "mine").await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(1, 1)).await, b"mine");

    proxy.plan("POST /bkt/db/0000/0000000000000002-0000000000000002.ltx?uploadId", 1, Fault::CutAnswer(0));
    let end = "POST /bkt/db/0000/0000000000000002-0000000000000002.ltx?uploadId";
    proxy.plan(end, 1, Fault::Answer { status: "404 Not Found", headers: "" });
    let long = client.put(Level::L0, range(2, 2), TIME, PutBody::Stream(chunks(6, 1 << 20))).await;
    assert_eq!(long.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(2, 2)).await.len(), 6 << 20);
}

/// Some servers see that the name is taken and end the connection before they have read the body; whether the client
/// hears the answer is then chance.
#[tokio::test]
async fn moto_a_refusal_that_is_not_heard_is_looked_up() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "db");
    assert_eq!(put(&*client, range(1, 1), "mine").await.unwrap(), PutOutcome::Created);
    proxy.plan("PUT", 100, Fault::CutRequest(2));
    assert_eq!(put(&*client, range(1, 1), "mine").await.unwrap(), PutOutcome::AlreadyExists);
    assert!(put(&*client, range(2, 2), "mine").await.is_err());
}

#[tokio::test]
async fn moto_a_large_upload_asks_for_a_free_name_at_its_end() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "db");
    client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(6, 1 << 20))).await.unwrap();
    let end =
        proxy.seen("?uploadid=").into_iter().filter(|head| head.starts_with("post")).collect::<Vec<_>>();
    assert!(end.len() == 1 && end[0].contains("if-none-match: *"), "{end:?}");

    // A server that does not know the condition there is asked again without it.
    proxy.plan(
        "POST /bkt/db/0000/0000000000000002-0000000000000002.ltx?uploadId",
        1,
        Fault::Answer { status: "501 Not Implemented", headers: "" },
    );
    let long = client.put(Level::L0, range(2, 2), TIME, PutBody::Stream(chunks(6, 1 << 20))).await;
    assert_eq!(long.unwrap(), PutOutcome::Created);
}

/// The multipart uploads that the server still holds.
fn unfinished(server: &Moto) -> usize {
    let answer =
        walstream_test_support::http::request(server.address(), "GET", "/bkt?uploads", &[], b"").unwrap();
    String::from_utf8(answer.body).unwrap().matches("<UploadId>").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_an_interrupted_upload_leaves_nothing() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "db");
    client.creates_exclusively().await.unwrap();

    proxy.plan("PUT", 100, Fault::CutRequest(100_000));
    let cut = client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(12, 1 << 20))).await;
    assert!(matches!(cut, Err(StorageError::Unavailable { operation: "upload", .. })), "{cut:?}");
    assert!(list(&*client, 0).await.is_empty());
    assert_eq!(unfinished(&server), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_an_upload_that_is_given_up_is_taken_back() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "db");
    client.creates_exclusively().await.unwrap();
    proxy.plan("PUT", 100, Fault::Hang);
    let put = client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(12, 1 << 20)));
    assert!(tokio::time::timeout(Duration::from_secs(1), put).await.is_err());
    let deadline = Instant::now() + Duration::from_secs(10);
    while unfinished(&server) > 0 {
        assert!(Instant::now() < deadline, "the upload is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn moto_a_silent_server_is_an_error_in_the_end() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "db");
    client.creates_exclusively().await.unwrap();
    proxy.plan("/bkt/db", 100, Fault::Hang);
    let begun = Instant::now();
    let error = put(&*client, range(1, 1), "x").await.unwrap_err().to_string();
    assert!(
        error.ends_with(&format!("upload failed: {} fell silent: no answer within 20 s", proxy.endpoint())),
        "{error}"
    );
    assert!(begun.elapsed() < Duration::from_secs(25));
}

#[tokio::test]
async fn moto_a_store_that_ignores_the_condition_is_found_out() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let client = s3(&proxy.endpoint(), Moto::BUCKET, "db");
    // As such stores do: the second write under the same name is a success.
    proxy.plan("PUT", 2, Fault::Answer { status: "200 OK", headers: "ETag: \"x\"\r\n" });
    assert!(!client.creates_exclusively().await.unwrap());

    assert_eq!(put(&*client, range(1, 1), "first").await.unwrap(), PutOutcome::Created);
    assert_eq!(put(&*client, range(1, 1), "second").await.unwrap(), PutOutcome::AlreadyExists);
    assert_eq!(content(&*client, range(1, 1)).await, b"first");
    let again = s3(&proxy.endpoint(), Moto::BUCKET, "another");
    assert!(!again.creates_exclusively().await.unwrap());
    assert_eq!(proxy.seen(".walstream-probe").len(), 2, "one store is tried out once");
}

#[tokio::test]
async fn moto_what_the_user_wants_for_objects_and_requests_is_sent_and_signed() {
    let server = Moto::start();
    let proxy = Proxy::start(server.address()).await;
    let text = |value: &str| value.to_owned();
    let client = connect(&ReplicaConfig::S3(S3Config {
        tags: Some([(text("team"), text("a b")), (text("kind"), text("backup"))].into()),
        sse: Some(text("AES256")),
        request_payer: Some(true),
        headers: Some([(text("X-Gate-Key"), walstream_storage::Secret::new("hunter2"))].into()),
        storage_class: Some(text("STANDARD_IA")),
        part_size: Some(5 << 20),
        ..config(&proxy.endpoint(), Moto::BUCKET)
    }))
    .unwrap();
    client.put(Level::L0, range(1, 1), TIME, PutBody::Bytes("x".into())).await.unwrap();
    client.put(Level::L0, range(2, 2), TIME, PutBody::Stream(chunks(6, 1 << 20))).await.unwrap();
    assert_eq!(content(&*client, range(1, 1)).await, b"x");

    let (single, begin) = (proxy.seen("put /bkt/db/0000/"), proxy.seen("?uploads"));
    for request in [&single[0], &begin[0]] {
        for header in [
            "x-amz-tagging: kind=backup&team=a+b",
            "x-amz-server-side-encryption: aes256",
            "x-amz-storage-class: standard_ia",
        ] {
            assert!(request.contains(header), "{header}: {request}");
        }
    }
    for request in proxy.seen("/bkt") {
        assert!(
            request.contains("x-gate-key: hunter2") && request.contains("x-amz-request-payer: requester")
        );
        assert!(request.contains(";x-gate-key"), "it is signed: {request}");
    }
    assert!(!proxy.seen("get /bkt/db/0000/").concat().contains("x-amz-server-side-encryption"));
}

#[tokio::test]
async fn moto_without_the_right_to_delete_nothing_is_lost_and_that_is_said() {
    let server = Moto::start();
    let front = Strict::start(server.address(), Manners::NoDeletes).await;
    let client = s3(&front.endpoint(), Moto::BUCKET, "db");
    for txid in 1..=2 {
        assert_eq!(put(&*client, range(txid, txid), "x").await.unwrap(), PutOutcome::Created);
    }
    client.put(Level::L0, range(3, 3), TIME, PutBody::Stream(chunks(6, 1 << 20))).await.unwrap();
    let denied = client.delete(&[(Level::L0, range(1, 1)), (Level::L0, range(2, 2))]).await;
    assert!(matches!(denied, Err(StorageError::Denied { .. })), "{denied:?}");
    assert_eq!(list(&*client, 0).await.len(), 3);
}

/// A bucket for whoever the environment says that we are.
fn as_the_environment_says(endpoint: &str, variables: &[(&str, &str)]) -> Arc<dyn ReplicaClient> {
    for (name, value) in variables {
        // SAFETY: nobody else in this process reads or writes the environment meanwhile.
        unsafe { std::env::set_var(name, value) };
    }
    let config = S3Config {
        bucket: Some(Moto::BUCKET.into()),
        path: Some("db".into()),
        endpoint: Some(endpoint.into()),
        ..S3Config::default()
    };
    connect(&ReplicaConfig::S3(config)).unwrap()
}

/// As for a container of ECS or a pod with an identity association: a service beside it hands out keys.
#[tokio::test]
async fn moto_keys_of_a_pods_service_are_used() {
    let (server, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    let service = Answers::start(&[(
        "/keys",
        r#"{"AccessKeyId": "ID", "SecretAccessKey": "S", "Token": "of-the-pod", "Expiration": "2099-01-01T00:00:00Z"}"#,
    )]);
    let proxy = Proxy::start(server.address()).await;
    let token = folder.path().join("token");
    std::fs::write(&token, "who-i-am").unwrap();
    let client = as_the_environment_says(
        &proxy.endpoint(),
        &[
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/keys", service.url())),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.to_str().unwrap()),
        ],
    );
    assert_eq!(put(&*client, range(1, 1), "mine").await.unwrap(), PutOutcome::Created);
    assert!(service.asked("/keys").iter().all(|head| head.contains("authorization: who-i-am")));
    assert!(proxy.seen("put /bkt/db").iter().all(|head| head.contains("x-amz-security-token: of-the-pod")));
}
