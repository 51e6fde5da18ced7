//! What every store must do when the network or the server fails.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use walstream_ltx::Level;
use walstream_storage::{Limits, PutBody, PutOutcome, ReplicaConfig, StorageError, connect, connect_within};

use crate::backends::Backend;
use crate::common::proxy::{Fault, Proxy};
use crate::common::wire::{Trouble, Wire};
use crate::common::{TIME, chunks, content, list, put, range};

/// Long enough to be on its way when something happens, short enough for one request.
const LONG: usize = 3 << 20;

fn body() -> PutBody {
    PutBody::Bytes((0..LONG).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into())
}

fn is_body(stored: &[u8]) -> bool {
    stored.len() == LONG && stored.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8)
}

pub(crate) async fn an_upload_that_is_cut_leaves_nothing_or_all<B: Backend>(backend: B) {
    let wire = Wire::start(&backend.address()).await;
    let client = backend.client_through(&wire.address());
    client.init().await.unwrap();
    client.creates_exclusively().await.unwrap();
    for (txid, after) in [(1, 1), (2, 1000), (3, LONG / 2), (4, LONG - 1)] {
        wire.trouble(Some(Trouble::CutRequest(after)));
        let outcome = client.put(Level::L0, range(txid, txid), TIME, body()).await;
        // Whatever came of it, a file that is listed is whole, and the next try leads to one.
        let again = client.put(Level::L0, range(txid, txid), TIME, body()).await.unwrap();
        assert!(is_body(&content(&*client, range(txid, txid)).await), "cut after {after}");
        match outcome {
            Ok(_) => assert_eq!(again, PutOutcome::AlreadyExists),
            Err(StorageError::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(list(&*client, txid).await.len(), 1);
    }
    assert_eq!(wire.struck(), 4);

    // A longer one, of which parts may be stored already, that is given up: nothing is to be seen of it.
    let given_up = futures::stream::iter([Err(std::io::Error::other("given up"))]);
    let stream = PutBody::Stream(chunks(12, 1 << 20).chain(given_up).boxed());
    wire.trouble(Some(Trouble::CutRequest(11 << 20)));
    client.put(Level::L0, range(9, 9), TIME, stream).await.unwrap_err();
    wire.trouble(None);
    assert_eq!(list(&*client, 9).await, []);
}

pub(crate) async fn an_upload_whose_answer_is_lost_ends_well<B: Backend>(backend: B) {
    let wire = Wire::start(&backend.address()).await;
    let client = backend.client_through(&wire.address());
    client.init().await.unwrap();
    client.creates_exclusively().await.unwrap();
    for txid in 1..=3 {
        wire.trouble(Some(Trouble::LoseAnswer(LONG)));
        // "Exists already" is right too: the content is compared by whoever uploads.
        client.put(Level::L0, range(txid, txid), TIME, body()).await.unwrap();
        wire.trouble(None);
        assert!(is_body(&content(&*client, range(txid, txid)).await));
    }
    assert_eq!(list(&*client, 0).await.len(), 3);
    assert_eq!(wire.struck(), 3);
}

pub(crate) async fn a_download_that_is_cut_goes_on<B: Backend>(backend: B) {
    let wire = Wire::start(&backend.address()).await;
    let client = backend.client_through(&wire.address());
    client.put(Level::L0, range(1, 1), TIME, body()).await.unwrap();
    for after in [1, 1000, LONG / 2, LONG - 1] {
        wire.trouble(Some(Trouble::CutAnswer(after)));
        assert!(is_body(&content(&*client, range(1, 1)).await), "cut after {after}");
        wire.trouble(Some(Trouble::CutAnswer(after)));
        let read = client.read(Level::L0, range(1, 1), 0..LONG as u64).await.unwrap();
        assert!(is_body(&read), "cut after {after}");
        wire.trouble(Some(Trouble::CutAnswer(50)));
        assert_eq!(list(&*client, 0).await.len(), 1, "cut listing");
    }
    assert_eq!(wire.struck(), 12);
}

/// What a server that has too much to do says. Only stores that speak HTTP have it.
pub(crate) async fn a_busy_server_is_asked_again<B: Backend>(backend: B) {
    let proxy = Proxy::start(&backend.address()).await;
    let client = backend.client_through(proxy.address());
    client.init().await.unwrap();
    client.creates_exclusively().await.unwrap();
    for (txid, status) in [(1, "503 Service Unavailable"), (2, "429 Too Many Requests")] {
        let busy = || Fault::Answer { status, headers: "" };
        proxy.plan(" ", 2, busy());
        client.put(Level::L0, range(txid, txid), TIME, body()).await.unwrap();
        proxy.plan(" ", 2, busy());
        assert_eq!(list(&*client, txid).await.len(), 1);
        proxy.plan(" ", 2, busy());
        assert!(is_body(&content(&*client, range(txid, txid)).await));
        proxy.plan(" ", 1, busy());
        client.delete(&[(Level::L0, range(txid, txid))]).await.unwrap();
        assert_eq!(list(&*client, txid).await, []);
    }
}

pub(crate) async fn a_server_that_asks_for_a_pause_gets_it<B: Backend>(backend: B) {
    let proxy = Proxy::start(&backend.address()).await;
    let client = backend.client_through(proxy.address());
    put(&*client, range(1, 1), "x").await.unwrap();
    for status in ["503 Service Unavailable", "429 Too Many Requests"] {
        proxy.plan(" ", 1, Fault::Answer { status, headers: "Retry-After: 2\r\n" });
        let begun = Instant::now();
        assert_eq!(list(&*client, 0).await.len(), 1);
        assert!(begun.elapsed() >= Duration::from_secs(2), "{status}: {:?}", begun.elapsed());
    }
}

/// Patience of a second, so that the cases below need not wait for long.
fn impatient() -> Limits {
    let second = Duration::from_secs(1);
    Limits { silence: second, per_mib: second, slowest: 64 << 10, ..Limits::default() }
}

pub(crate) async fn a_silent_server_is_an_error<B: Backend>(backend: B) {
    let wire = Wire::start(&backend.address()).await;
    let patient = backend.client_through(&wire.address());
    put(&*patient, range(1, 1), "x").await.unwrap();
    let client =
        connect_within(&backend.config(&wire.address(), crate::backends::PATH), &impatient()).unwrap();
    assert_eq!(content(&*client, range(1, 1)).await, b"x");
    client.creates_exclusively().await.unwrap();
    wire.trouble(Some(Trouble::Silence));
    let begun = Instant::now();
    let put = put(&*client, range(2, 2), "x").await.map(drop);
    let read = client.read(Level::L0, range(1, 1), 0..1).await.map(drop);
    let stream = client.read_stream(Level::L0, range(1, 1), 0).await.map(drop);
    let files = client.list(Level::L0, range(1, 1).min(), walstream_storage::TimestampSource::Listing).await;
    let delete = client.delete(&[(Level::L0, range(1, 1))]).await;
    for outcome in [put, read, stream, files.map(drop), delete] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    wire.trouble(None);
    assert_eq!(content(&*client, range(1, 1)).await, b"x", "it is as good as before");
}

pub(crate) async fn a_server_that_drips_is_an_error<B: Backend>(backend: B) {
    let wire = Wire::start(&backend.address()).await;
    backend.client().put(Level::L0, range(1, 1), TIME, body()).await.unwrap();
    let client =
        connect_within(&backend.config(&wire.address(), crate::backends::PATH), &impatient()).unwrap();
    client.init().await.unwrap();
    wire.trouble(Some(Trouble::Drip));
    let begun = Instant::now();
    // The head of the answer drips too, so it may end before there is a stream.
    let outcome = match client.read_stream(Level::L0, range(1, 1), 0).await {
        Ok(stream) => stream.try_for_each(|_| std::future::ready(Ok(()))).await,
        Err(error) => Err(error),
    };
    let error = outcome.expect_err("it must not end as if it were whole");
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

pub(crate) async fn a_server_may_be_restarted<B: Backend>(mut backend: B) {
    let client = backend.client();
    put(&*client, range(1, 1), "before").await.unwrap();
    backend.restart().await;
    assert_eq!(content(&*client, range(1, 1)).await, b"before");
    put(&*client, range(2, 2), "after").await.unwrap();
    backend.restart().await;
    put(&*client, range(3, 3), "again").await.unwrap();
    backend.restart().await;
    assert_eq!(list(&*client, 0).await.len(), 3);
}

/// The first sentence that a user sees: one line that names the place, within five seconds.
async fn first_sentence(config: &ReplicaConfig) -> (StorageError, String) {
    let begun = Instant::now();
    let error = match connect(config) {
        Ok(client) => client.init().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(begun.elapsed() < Duration::from_millis(5500), "{error}: {:?}", begun.elapsed());
    let sentence = error.to_string();
    assert!(!sentence.contains('\n') && sentence.len() < 400, "{sentence}");
    assert!(sentence.contains(config.kind()) || sentence.contains("://"), "{sentence}");
    (error, sentence)
}

pub(crate) async fn wrong_credentials_are_one_sentence<B: Backend>(backend: B) {
    let (error, sentence) = first_sentence(&backend.with_wrong_credentials()).await;
    assert!(matches!(error, StorageError::Denied { .. } | StorageError::Config(_)), "{sentence}");
    assert!(!error.is_transient());
}

pub(crate) async fn a_missing_bucket_is_one_sentence<B: Backend>(backend: B) {
    let (error, sentence) = first_sentence(&backend.in_missing_bucket()).await;
    assert!(matches!(error, StorageError::Config(_)), "{sentence}");
    assert!(sentence.contains("nope") && sentence.contains("does not exist"), "{sentence}");
}

pub(crate) async fn an_unreachable_server_is_one_sentence<B: Backend>(backend: B) {
    let (error, sentence) = first_sentence(&backend.config("127.0.0.1:1", crate::backends::PATH)).await;
    assert!(error.is_transient() && sentence.contains("127.0.0.1:1"), "{sentence}");
}
