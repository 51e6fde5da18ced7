//! What is special to WebDAV: names, times, what servers make of the standard, failures and how they are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::proxy::{Fault, Proxy};
use common::{TIME, chunks, content, header, list, put, range};
use walstream_ltx::{Level, Txid};
use walstream_storage::{
    PutBody, PutOutcome, ReplicaClient, ReplicaConfig, Secret, StorageError, TimestampSource, WebDavConfig,
    connect,
};
use walstream_test_support::WebDav;

/// A client for the folder `db` on some server.
fn webdav(endpoint: &str, login: Option<(&str, &str)>) -> Arc<dyn ReplicaClient> {
    let config = WebDavConfig {
        url: Some(endpoint.into()),
        username: login.map(|(username, _)| username.into()),
        password: login.map(|(_, password)| Secret::new(password)),
        path: Some("/db".into()),
    };
    connect(&ReplicaConfig::WebDav(config)).unwrap()
}

/// Every name below a folder, in order.
fn names_below(folder: &Path) -> Vec<String> {
    let files = walstream_test_support::replica::files_below(folder);
    let mut names: Vec<String> =
        files.iter().map(|path: &PathBuf| path.strip_prefix(folder).unwrap().display().to_string()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn webdav_files_lie_where_the_peer_puts_them_and_nothing_else_is_left() {
    for server in [WebDav::nginx(), WebDav::wsgidav(), WebDav::rclone()] {
        let client = webdav(&server.endpoint(), server.login());
        client.init().await.unwrap();
        client.put(Level::SNAPSHOT, range(1, 255), TIME, PutBody::Bytes("x".into())).await.unwrap();
        put(&*client, range(1, 1), "first").await.unwrap();
        put(&*client, range(1, 1), "second").await.unwrap();
        client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(2, 1 << 20))).await.unwrap();
        let names = [
            "db/ltx/0/0000000000000001-0000000000000001.ltx",
            "db/ltx/9/0000000000000001-00000000000000ff.ltx",
        ];
        assert_eq!(names_below(&server.files()), names);
        assert_eq!(client.location(), format!("webdav://{}/db", server.address()));
    }
}

#[tokio::test]
async fn webdav_exact_times_are_those_of_the_headers() {
    for server in [WebDav::nginx(), WebDav::wsgidav(), WebDav::rclone()] {
        let client = webdav(&server.endpoint(), server.login());
        for txid in 1..=20 {
            let body = PutBody::Bytes(header(range(txid, txid)));
            client.put(Level::L0, range(txid, txid), TIME, body).await.unwrap();
        }
        let exact = client.list(Level::L0, Txid::ZERO, TimestampSource::Exact).await.unwrap();
        assert!(exact.len() == 20 && exact.iter().all(|file| file.created_at == TIME), "{exact:?}");
    }
}

#[tokio::test]
async fn webdav_a_server_that_takes_times_is_told_them() {
    let server = WebDav::rclone();
    let client = webdav(&server.endpoint(), server.login());
    put(&*client, range(1, 1), "no header").await.unwrap();
    assert_eq!(list(&*client, 0).await[0].created_at.as_millis(), TIME.as_millis() / 1000 * 1000);
}

#[tokio::test]
async fn webdav_a_file_without_a_header_has_the_servers_time() {
    let server = WebDav::nginx();
    let client = webdav(&server.endpoint(), None);
    for (txid, body) in [(1, ""), (2, "short"), (3, &"x".repeat(200))] {
        put(&*client, range(txid, txid), body).await.unwrap();
    }
    let listed = list(&*client, 0).await;
    assert!(listed.len() == 3 && listed[0].size == 0 && listed.iter().all(|file| file.created_at > TIME));
    assert_eq!(client.list(Level::L0, Txid::ZERO, TimestampSource::Exact).await.unwrap(), listed);
}

#[tokio::test]
async fn webdav_a_change_takes_two_requests() {
    let server = WebDav::nginx();
    let proxy = Proxy::start(server.address()).await;
    let client = webdav(&proxy.endpoint(), None);
    put(&*client, range(1, 1), "x").await.unwrap();
    let before = proxy.seen("").len();
    put(&*client, range(2, 2), "x").await.unwrap();
    let requests = proxy.seen("").split_off(before);
    assert!(requests.len() == 2 && requests[0].starts_with("put /db/ltx/0/"), "{requests:?}");
    assert!(
        requests[0].contains("content-length: 1\r\n") && !requests[0].contains("chunked"),
        "{requests:?}"
    );
    assert!(
        requests[1].starts_with("move /db/ltx/0/") && requests[1].contains("overwrite: f"),
        "{requests:?}"
    );
}

#[tokio::test]
async fn webdav_a_stream_is_sent_with_its_length() {
    let server = WebDav::nginx();
    let proxy = Proxy::start(server.address()).await;
    let client = webdav(&proxy.endpoint(), None);
    client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(3, 1 << 20))).await.unwrap();
    let upload = proxy.seen("put /db").concat();
    assert!(upload.contains("content-length: 3145728\r\n") && !upload.contains("chunked"), "{upload}");
}

#[tokio::test]
async fn webdav_passing_failures_are_tried_again() {
    let server = WebDav::nginx();
    let proxy = Proxy::start(server.address()).await;
    let client = webdav(&proxy.endpoint(), None);
    for fault in [
        Fault::Answer { status: "503 Service Unavailable", headers: "" },
        Fault::Answer { status: "423 Locked", headers: "" },
        Fault::CutRequest(0),
    ] {
        let txids = range(1, 1);
        for method in ["PROPFIND", "MKCOL", "PUT", "MOVE", "GET", "DELETE"] {
            proxy.plan(method, 2, fault.clone());
        }
        assert_eq!(put(&*client, txids, "0123456789").await.unwrap(), PutOutcome::Created, "{fault:?}");
        assert_eq!(list(&*client, 0).await.len(), 1, "{fault:?}");
        assert_eq!(content(&*client, txids).await, b"0123456789", "{fault:?}");
        client.delete(&[(Level::L0, txids)]).await.unwrap();
    }
}

#[tokio::test]
async fn webdav_a_busy_server_is_left_alone_as_long_as_it_asks() {
    let server = WebDav::nginx();
    let proxy = Proxy::start(server.address()).await;
    let client = webdav(&proxy.endpoint(), None);
    proxy.plan(
        "PROPFIND",
        1,
        Fault::Answer { status: "429 Too Many Requests", headers: "Retry-After: 2\r\n" },
    );
    let begun = Instant::now();
    assert!(list(&*client, 0).await.is_empty());
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn webdav_an_upload_whose_answer_is_lost_finds_itself() {
    for server in [WebDav::nginx(), WebDav::wsgidav(), WebDav::rclone()] {
        let proxy = Proxy::start(server.address()).await;
        let client = webdav(&proxy.endpoint(), server.login());
        // The server has renamed it, the retry finds the name taken: the caller compares the content.
        proxy.plan("MOVE", 1, Fault::CutAnswer(0));
        assert_eq!(put(&*client, range(1, 1), "mine").await.unwrap(), PutOutcome::AlreadyExists);
        assert_eq!(content(&*client, range(1, 1)).await, b"mine");
        assert_eq!(names_below(&server.files()).len(), 1);
    }
}

#[tokio::test]
async fn webdav_a_download_goes_on_where_it_was_cut() {
    let server = WebDav::nginx();
    let proxy = Proxy::start(server.address()).await;
    let client = webdav(&proxy.endpoint(), None);
    client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(4, 1 << 20))).await.unwrap();
    proxy.plan("GET", 1, Fault::CutAnswer(1_500_000));
    let stored = content(&*client, range(1, 1)).await;
    let whole = (0..4)
        .all(|number| stored[number << 20..(number + 1) << 20].iter().all(|byte| *byte == number as u8));
    assert!(stored.len() == 4 << 20 && whole);
    let gets = proxy.seen("get /db");
    assert!(gets.len() == 2 && gets[1].contains("range: bytes="), "{gets:?}");
}

#[tokio::test]
async fn webdav_ranges_are_exact_where_the_server_ignores_them() {
    let server = WebDav::nginx();
    let proxy = Proxy::start(server.address()).await;
    let client = webdav(&proxy.endpoint(), None);
    put(&*client, range(1, 1), "0123456789").await.unwrap();
    proxy.plan("GET", 100, Fault::WithoutHeader("range:"));
    for (from, to, expected) in [(0, 1, "0"), (4, 6, "45"), (9, 10, "9"), (8, 99, "89")] {
        assert_eq!(client.read(Level::L0, range(1, 1), from..to).await.unwrap(), expected);
    }
    let beyond = client.read(Level::L0, range(1, 1), 10..12).await;
    assert!(matches!(beyond, Err(StorageError::PastEnd { offset: 10, .. })), "{beyond:?}");
    assert!(matches!(
        client.read_stream(Level::L0, range(1, 1), 10).await.err(),
        Some(StorageError::PastEnd { offset: 10, .. })
    ));
}

#[tokio::test]
async fn webdav_behind_a_proxy_the_new_name_is_said_without_its_host() {
    let server = WebDav::nginx();
    let proxy = Proxy::start(server.address()).await;
    let client = webdav(&proxy.endpoint(), None);
    proxy.plan("MOVE", 1, Fault::Answer { status: "400 Bad Request", headers: "" });
    for txid in 1..=2 {
        assert_eq!(put(&*client, range(txid, txid), "x").await.unwrap(), PutOutcome::Created);
    }
    let moves = proxy.seen("move /db");
    assert_eq!(moves.len(), 3, "what the server wants is asked once");
    assert!(moves[0].contains("destination: http://") && moves[2].contains("destination: /db/ltx/0/"));
}

#[tokio::test]
async fn webdav_a_folder_that_somebody_removed_is_made_again() {
    for server in [WebDav::nginx(), WebDav::wsgidav(), WebDav::rclone()] {
        let client = webdav(&server.endpoint(), server.login());
        put(&*client, range(1, 1), "x").await.unwrap();
        server.delete("db/");
        assert_eq!(put(&*client, range(2, 2), "x").await.unwrap(), PutOutcome::Created);
        assert_eq!(list(&*client, 0).await.len(), 1);
    }
}

#[tokio::test]
async fn webdav_temporary_files_are_never_listed_and_removed_once_abandoned() {
    let server = WebDav::nginx();
    let folder = server.files().join("db/ltx/0");
    fs::create_dir_all(&folder).unwrap();
    let file = "0000000000000001-0000000000000001.ltx";
    let (old, new, foreign) = (
        folder.join(format!("{file}.60000000-1-2-3.tmp")),
        folder.join(format!("{file}.f0000000-1-2-3.tmp")),
        folder.join("x.tmp"),
    );
    for path in [&old, &new, &foreign] {
        fs::write(path, "").unwrap();
    }
    let client = webdav(&server.endpoint(), None);
    assert!(list(&*client, 0).await.is_empty());
    assert!(old.exists(), "reading removes nothing");
    put(&*client, range(2, 2), "x").await.unwrap();
    assert_eq!((old.exists(), new.exists(), foreign.exists()), (false, true, true));
}

#[tokio::test]
async fn webdav_an_upload_that_is_given_up_is_removed() {
    let server = WebDav::nginx();
    let proxy = Proxy::start(server.address()).await;
    let client = webdav(&proxy.endpoint(), None);
    proxy.plan("MOVE", 100, Fault::Hang);
    let put = put(&*client, range(1, 1), "x");
    assert!(tokio::time::timeout(Duration::from_secs(2), put).await.is_err());
    let deadline = Instant::now() + Duration::from_secs(10);
    while !names_below(&server.files()).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", names_below(&server.files()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn webdav_a_silent_server_is_an_error_in_the_end() {
    let server = WebDav::nginx();
    let proxy = Proxy::start(server.address()).await;
    let client = webdav(&proxy.endpoint(), None);
    put(&*client, range(1, 1), "x").await.unwrap();
    proxy.plan("/db", 100, Fault::Hang);
    let begun = Instant::now();
    let error = put(&*client, range(2, 2), "x").await.unwrap_err().to_string();
    let silence = format!("upload failed: {} fell silent: no answer within 20 s", proxy.endpoint());
    assert!(error.ends_with(&silence), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(25));
}

#[tokio::test]
async fn webdav_what_cannot_work_is_told_in_one_sentence_within_five_seconds() {
    let (open, locked) = (WebDav::nginx(), WebDav::rclone());
    let proxies = [(); 6].map(|()| Proxy::start(open.address()));
    let [silent, busy, moved, plain, page, digest] =
        futures::future::join_all(proxies).await.try_into().ok().unwrap();
    silent.plan("PROPFIND", 100, Fault::Hang);
    busy.plan("PROPFIND", 100, Fault::Answer { status: "507 Insufficient Storage", headers: "" });
    moved.plan(
        "PROPFIND",
        100,
        Fault::Answer { status: "301 Moved Permanently", headers: "Location: https://evil.example/db/\r\n" },
    );
    plain.plan("PROPFIND", 100, Fault::Answer { status: "405 Method Not Allowed", headers: "" });
    page.plan("PROPFIND", 100, Fault::Answer { status: "200 OK", headers: "" });
    digest.plan(
        "PROPFIND",
        100,
        Fault::Answer {
            status: "401 Unauthorized",
            headers: "WWW-Authenticate: Digest realm=\"x\", nonce=\"y\"\r\n",
        },
    );
    let at = |proxy: &Proxy| proxy.endpoint().replace("http", "webdav");
    let closed = "http://127.0.0.1:1";
    let wrong = Some(("backup", "wrong-password"));
    for (endpoint, login, sentence) in [
        (closed.to_owned(), None, "webdav://127.0.0.1:1/db: first contact failed: cannot connect to http://127.0.0.1:1: Connection refused (os error 111)".to_owned()),
        (locked.endpoint(), wrong, format!("webdav://{}/db: access denied: the server answered 401 Unauthorized", locked.address())),
        (silent.endpoint(), None, format!("{}/db: first contact failed: {} gave no answer within 5 s", at(&silent), silent.endpoint())),
        (busy.endpoint(), None, format!("{}/db: first contact failed: the server answered 507 Insufficient Storage", at(&busy))),
        (moved.endpoint(), None, format!("{}/db: the server answers with a redirect to https://evil.example/db/; set webdav-url to where the files are", at(&moved))),
        (plain.endpoint(), None, format!("{}/db: {} does not take WebDAV requests there (it answered 405 Method Not Allowed); correct webdav-url", at(&plain), plain.endpoint())),
        (page.endpoint(), None, format!("{}/db: {} is no WebDAV server there; correct webdav-url", at(&page), page.endpoint())),
        (digest.endpoint(), None, format!("{}/db: access denied: the server asks for Digest authentication, which is not supported; let it take Basic authentication over https", at(&digest))),
    ] {
        let begun = Instant::now();
        let error = webdav(&endpoint, login).init().await.unwrap_err();
        assert_eq!(error.to_string(), sentence);
        assert!(begun.elapsed() < Duration::from_millis(5500), "{error}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn webdav_a_base_that_does_not_exist_is_named() {
    for server in [WebDav::nginx(), WebDav::wsgidav(), WebDav::rclone()] {
        let client = webdav(&format!("{}/no/such", server.endpoint()), server.login());
        client.init().await.unwrap();
        let error = put(&*client, range(1, 1), "x").await.unwrap_err().to_string();
        let sentence = format!("webdav://{}/no/such: the folder does not exist", server.address());
        assert!(error.starts_with(&sentence), "{error}");
    }
}

#[tokio::test]
async fn webdav_what_must_not_be_deleted_is_denied() {
    let server = WebDav::nginx();
    let proxy = Proxy::start(server.address()).await;
    let client = webdav(&proxy.endpoint(), None);
    proxy.plan("DELETE", 100, Fault::Answer { status: "403 Forbidden", headers: "" });
    put(&*client, range(1, 1), "x").await.unwrap();
    let denied = client.delete(&[(Level::L0, range(1, 1))]).await;
    assert!(matches!(denied, Err(StorageError::Denied { .. })), "{denied:?}");
    assert_eq!(list(&*client, 0).await.len(), 1);
}
