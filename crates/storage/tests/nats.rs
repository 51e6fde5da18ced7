//! What is special to NATS: logins and certificates, names that are taken, what is left behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{TIME, chunks, content, list, put, range};
use futures::StreamExt;
use walstream_ltx::Level;
use walstream_storage::{NatsConfig, PutBody, PutOutcome, ReplicaClient, ReplicaConfig, Secret, connect};
use walstream_test_support::{Line, NatsAuthority, NatsServer, wait_until};

const NAME: &str = "ltx/0/0000000000000001-0000000000000001.ltx";
const SEED: &str = "SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM";
const KEY: &str = "UAFHG6FUD2UU4SDFVAFUL5LDFO2XM4WYM76UNXTPJYJK7EEMYRBHT2VE";

fn config(server: &NatsServer) -> NatsConfig {
    NatsConfig {
        url: Some(format!("nats://{}", server.address())),
        bucket: Some(NatsServer::BUCKET.into()),
        ..NatsConfig::default()
    }
}

fn client(config: NatsConfig) -> Arc<dyn ReplicaClient> {
    connect(&ReplicaConfig::Nats(config)).unwrap()
}

async fn first_contact(config: NatsConfig) -> Result<(), String> {
    let begun = Instant::now();
    let outcome = match connect(&ReplicaConfig::Nats(config)) {
        Ok(client) => client.init().await,
        Err(error) => Err(error),
    };
    assert!(begun.elapsed() < Duration::from_millis(5500), "{:?}", begun.elapsed());
    outcome.map_err(|error| error.to_string())
}

/// How many messages there are for content.
fn chunks_stored(server: &NatsServer) -> u64 {
    server.subjects(&format!("$O.{}.C.>", NatsServer::BUCKET)).iter().map(|(_, count)| count).sum()
}

#[tokio::test]
async fn nats_an_object_is_described_as_the_peer_does() {
    let server = NatsServer::start();
    let client = client(config(&server));
    client.put(Level::L0, range(1, 1), TIME, PutBody::Bytes("x".into())).await.unwrap();
    let mut info = server.info(NAME).unwrap();
    assert!(info["nuid"].take().as_str().is_some_and(|nuid| nuid.len() == 22));
    assert_eq!(
        info.to_string(),
        "{\"bucket\":\"bkt\",\"chunks\":1,\"digest\":\"SHA-256=LXEWQrcmsEQBYnyp-6wy9chTD7GQPMTbAiWHF5IaSIE=\",\
         \"headers\":{\"Litestream-Timestamp\":[\"2023-11-14T22:13:20.123Z\"]},\
         \"mtime\":\"0001-01-01T00:00:00Z\",\"name\":\"ltx/0/0000000000000001-0000000000000001.ltx\",\
         \"nuid\":null,\"options\":{\"max_chunk_size\":131072},\"size\":1}"
    );
    assert_eq!(client.location(), server.replica_url());
}

#[tokio::test]
async fn nats_what_is_deleted_leaves_nothing_and_its_name_is_free_again() {
    let server = NatsServer::start();
    let client = client(config(&server));
    for content in ["first", "second"] {
        assert_eq!(put(&*client, range(1, 1), content).await.unwrap(), PutOutcome::Created);
        client.delete(&[(Level::L0, range(1, 1))]).await.unwrap();
    }
    assert_eq!((server.files(), chunks_stored(&server), server.info(NAME)), (vec![], 0, None));
}

#[tokio::test]
async fn nats_a_name_that_another_client_deleted_is_free() {
    let server = NatsServer::start();
    server.put(NAME, "theirs");
    server.delete(NAME);
    let client = client(config(&server));
    assert!(list(&*client, 0).await.is_empty());
    assert_eq!(put(&*client, range(1, 1), "ours").await.unwrap(), PutOutcome::Created);
    assert_eq!(content(&*client, range(1, 1)).await, b"ours");
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_an_upload_that_is_refused_or_given_up_leaves_no_chunks() {
    let server = NatsServer::start();
    let client = client(config(&server));
    let writers = (0..8).map(|_| put(&*client, range(1, 1), "x"));
    futures::future::join_all(writers).await;
    wait_until("only those of the winner are left", Duration::from_secs(10), || chunks_stored(&server) == 1);

    let stuck = PutBody::Stream(chunks(5, 1 << 20).chain(futures::stream::pending()).boxed());
    let upload = client.put(Level::L0, range(2, 2), TIME, stuck);
    assert!(tokio::time::timeout(Duration::from_secs(2), upload).await.is_err());
    wait_until("its chunks are gone", Duration::from_secs(10), || chunks_stored(&server) == 1);
}

/// Writers beside each other take turns in the stream, so the chunks of a file do not lie next to each other.
#[tokio::test(flavor = "multi_thread")]
async fn nats_parts_of_files_that_were_written_side_by_side_are_found() {
    let server = NatsServer::start();
    let client = client(config(&server));
    let body = |writer: u64| -> Vec<u8> { (0..3_000_000).map(|at| (at / 1000 * writer) as u8).collect() };
    let writers = (1..=4).map(|writer| {
        let body = futures::stream::iter(
            body(writer).chunks(100_000).map(|part| Ok(part.to_vec().into())).collect::<Vec<_>>(),
        );
        client.put(Level::L0, range(writer, writer), TIME, PutBody::Stream(body.boxed()))
    });
    futures::future::join_all(writers)
        .await
        .into_iter()
        .for_each(|outcome| assert_eq!(outcome.unwrap(), PutOutcome::Created));
    for writer in 1..=4 {
        for part in
            [0..10, 131_071..131_073, 1_000_000..1_500_000, 2_900_000..2_999_999, 2_999_999..3_000_000]
        {
            let read = client.read(Level::L0, range(writer, writer), part.clone()).await.unwrap();
            assert!(read == body(writer)[part.start as usize..part.end as usize], "{writer}: {part:?}");
        }
        assert!(content(&*client, range(writer, writer)).await == body(writer));
    }
}

#[tokio::test]
async fn nats_replicas_on_one_server_share_a_connection() {
    let server = NatsServer::start();
    let before = server.connections();
    let at = |n: usize| client(NatsConfig { path: Some(n.to_string()), ..config(&server) });
    let clients: Vec<_> = (0..20).map(at).collect();
    futures::future::join_all(clients.iter().map(|client| put(&**client, range(1, 1), "x"))).await;
    assert_eq!(server.connections(), before + 1);
}

/// Bytes of which each mebibyte differs from every other.
fn long(seed: u8) -> Bytes {
    (0..3 << 20).map(|at: u32| (at >> 10) as u8 ^ (at >> 18) as u8 ^ seed).collect()
}

#[tokio::test]
async fn nats_chunks_of_any_size_are_found_on_any_server() {
    let server = NatsServer::start();
    let client = client(config(&server));
    let bodies = [long(1), long(2).slice(50_000..)];
    client.put(Level::L0, range(1, 1), TIME, PutBody::Bytes(bodies[0].clone())).await.unwrap();
    // The peer's chunks are as large as what it happens to have; their number may still be what ours would be.
    let (first, rest) = bodies[1].split_at(100_000);
    let chunks: Vec<&[u8]> = std::iter::once(first).chain(rest.chunks(131_072)).collect();
    assert_eq!(chunks.len(), bodies[1].len().div_ceil(131_072));
    server.put_chunks("ltx/0/0000000000000002-0000000000000002.ltx", &chunks);
    for direct in [true, false] {
        if !direct {
            server.forbid_direct_access();
        }
        for (n, body) in (1..).zip(&bodies) {
            assert!(content(&*client, range(n, n)).await == *body, "file {n}, direct: {direct}");
            for part in [0..1, 99_999..131_073, 500_000..2_700_000, 3_000_000..body.len()] {
                let read = client.read(Level::L0, range(n, n), part.start as u64..part.end as u64);
                assert!(read.await.unwrap() == body[part.clone()], "file {n}, {part:?}, direct: {direct}");
            }
        }
    }
}

#[tokio::test]
async fn nats_users_and_keys_let_in_and_others_do_not() {
    let server = NatsServer::start_with(&format!(
        "authorization {{users: [{{user: me, password: secret}}, {{nkey: {KEY}}}]}}"
    ));
    let user = |password: &str| NatsConfig {
        username: Some("me".into()),
        password: Some(Secret::new(password)),
        ..config(&server)
    };
    first_contact(user("secret")).await.unwrap();
    let refused = first_contact(user("wrong")).await.unwrap_err();
    let address = server.address();
    assert_eq!(refused, format!("nats://{address}/bkt: access denied: {address} does not let this login in"));
    let key =
        |seed: &str| NatsConfig { nkey: Some(KEY.into()), seed: Some(Secret::new(seed)), ..config(&server) };
    first_contact(key(SEED)).await.unwrap();
    let refused = first_contact(key("SUAwrong")).await.unwrap_err();
    assert!(refused.contains("access denied: cannot log in at 127.0.0.1:"), "{refused}");

    let missing = NatsConfig { creds: Some(server.path("missing.creds")), ..config(&server) };
    let refused = first_contact(missing).await.unwrap_err();
    assert!(refused.starts_with("creds: ") && refused.contains("No such file"), "{refused}");
}

/// As `nsc` makes them: an operator vouches for an account, and the account for its user.
#[tokio::test]
async fn nats_signed_tokens_let_in_from_a_file_or_from_the_configuration() {
    let authority = NatsAuthority::new();
    let server = NatsServer::start_with(&authority.server_config());
    let creds = authority.credentials_file(&server);
    create_bucket(&server, &creds).await;

    let by_file = NatsConfig { creds: Some(creds), ..config(&server) };
    let first = client(by_file);
    put(&*first, range(1, 1), "x").await.unwrap();
    let login = |seed: String| NatsConfig {
        jwt: Some(Secret::new(authority.user_token())),
        seed: Some(Secret::new(seed)),
        ..config(&server)
    };
    assert_eq!(content(&*client(login(authority.user_seed())), range(1, 1)).await, b"x");

    let refused = first_contact(login(SEED.to_owned())).await.unwrap_err();
    assert!(refused.ends_with("does not let this login in"), "{refused}");
    let refused = first_contact(config(&server)).await.unwrap_err();
    assert!(refused.ends_with("does not let this login in"), "{refused}");
}

/// The object store in the account of these credentials.
async fn create_bucket(server: &NatsServer, creds: &Path) {
    let options = async_nats::ConnectOptions::with_credentials_file(creds).await.unwrap();
    let admin = options.connect(server.address()).await.unwrap();
    let bucket = NatsServer::BUCKET;
    let stream = format!(
        "{{\"name\": \"OBJ_{bucket}\", \"subjects\": [\"$O.{bucket}.C.>\", \"$O.{bucket}.M.>\"], \"retention\": \"limits\", \
         \"discard\": \"new\", \"storage\": \"file\", \"num_replicas\": 1, \"allow_rollup_hdrs\": true, \"allow_direct\": true}}"
    );
    let answer = admin.request(format!("$JS.API.STREAM.CREATE.OBJ_{bucket}"), stream.into()).await.unwrap();
    assert!(!String::from_utf8_lossy(&answer.payload).contains("\"error\""), "{answer:?}");
}

#[tokio::test]
async fn nats_what_a_user_may_not_do_is_denied() {
    let server = NatsServer::start_with(
        "authorization {users: [{user: me, password: secret, permissions: {publish: {deny: \"$O.bkt.C.>\"}}}]}",
    );
    let login =
        NatsConfig { username: Some("me".into()), password: Some(Secret::new("secret")), ..config(&server) };
    let error = put(&*client(login), range(1, 1), "x").await.unwrap_err();
    assert!(error.to_string().contains("access denied: "), "{error}");
}

#[tokio::test]
async fn nats_certificates_are_shown_and_checked() {
    let mut server = NatsServer::start();
    server.make_certificates();
    server.reconfigure(
        "tls {cert_file: \"{folder}/server.pem\", key_file: \"{folder}/server.key\", ca_file: \"{folder}/ca.pem\", verify: true}",
    );
    let unknown = first_contact(config(&server)).await.unwrap_err();
    assert!(unknown.contains("name its file with root-cas"), "{unknown}");
    let trusting = NatsConfig { root_cas: Some(vec![server.path("ca.pem")]), ..config(&server) };
    first_contact(trusting.clone()).await.unwrap_err();
    let known = NatsConfig {
        client_cert: Some(server.path("client.pem")),
        client_key: Some(server.path("client.key")),
        ..trusting
    };
    first_contact(known.clone()).await.unwrap();
    let client = client(known);
    put(&*client, range(1, 1), "x").await.unwrap();
    assert_eq!(content(&*client, range(1, 1)).await, b"x");
}

#[tokio::test]
async fn nats_a_server_that_says_nothing_is_an_error_within_five_seconds() {
    let server = NatsServer::start();
    let line = Line::to(&server.address());
    line.go_dead();
    let dead = NatsConfig { url: Some(format!("nats://{}", line.address())), ..config(&server) };
    let error = first_contact(dead).await.unwrap_err();
    assert!(error.contains("gave no answer within 5 s"), "{error}");
}

#[tokio::test]
async fn nats_an_object_store_that_is_full_says_so() {
    let server = NatsServer::start();
    server.limit(1 << 20);
    let client = client(config(&server));
    let error = client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(chunks(3, 1 << 20)));
    let error = error.await.unwrap_err().to_string();
    assert!(error.contains("the object store \"bkt\" is full"), "{error}");
}
