//! What is special to SFTP: keys of servers and users, temporary files, one connection for all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use common::{TIME, chunks, content, list, put, range};
use futures::StreamExt;
use walstream_ltx::Level;
use walstream_storage::{
    PutBody, PutOutcome, ReplicaClient, ReplicaConfig, Secret, SftpConfig, StorageError, connect,
};
use walstream_test_support::{Line, Sshd, Stranger, wait_until};

/// What it takes to log in, and the path of a replica.
fn config(server: &Sshd, path: &str) -> SftpConfig {
    SftpConfig {
        host: Some(server.address()),
        user: Some(server.user()),
        key_path: Some(server.key("key")),
        host_key: Some(server.host_key()),
        path: Some(server.files().join(path).display().to_string()),
        ..SftpConfig::default()
    }
}

fn client(config: SftpConfig) -> Arc<dyn ReplicaClient> {
    connect(&ReplicaConfig::Sftp(config)).unwrap()
}

async fn first_contact(config: SftpConfig) -> Result<(), String> {
    let begun = Instant::now();
    let outcome = match connect(&ReplicaConfig::Sftp(config)) {
        Ok(client) => client.init().await,
        Err(error) => Err(error),
    };
    assert!(begun.elapsed() < Duration::from_millis(5500), "{:?}", begun.elapsed());
    outcome.map_err(|error| error.to_string())
}

/// The names in a folder, the hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn sftp_a_file_lies_where_the_peer_puts_it_and_has_the_second_of_its_header() {
    let server = Sshd::start();
    let client = client(config(&server, "a//b/"));
    client.put(Level::SNAPSHOT, range(1, 255), TIME, PutBody::Bytes("x".into())).await.unwrap();

    let folder = server.files().join("a/b");
    let path = folder.join("ltx/9/0000000000000001-00000000000000ff.ltx");
    assert_eq!(fs::metadata(path).unwrap().mtime(), TIME.as_millis() / 1000);
    wait_until("nothing else is left", Duration::from_secs(5), || {
        names(&folder) == ["ltx"]
            && names(&folder.join("ltx")) == ["9"]
            && names(&folder.join("ltx/9")).len() == 1
    });
    let user = server.user();
    let location = format!("sftp://{user}@{}{}", server.address(), folder.display());
    assert_eq!(client.location(), location);
}

#[tokio::test]
async fn sftp_openssh_refuses_taken_names_and_rclone_does_not() {
    let (openssh, rclone) = (Sshd::start(), Sshd::start_rclone());
    assert!(client(config(&openssh, "r")).creates_exclusively().await.unwrap());
    let with_password = SftpConfig {
        key_path: None,
        password: Some(Secret::new(Sshd::PASSWORD)),
        path: Some("r".into()),
        ..config(&rclone, "r")
    };
    assert!(!client(with_password).creates_exclusively().await.unwrap());
    for server in [openssh, rclone] {
        wait_until("the probe is gone", Duration::from_secs(5), || {
            names(&server.files().join("r")).is_empty()
        });
    }
}

#[tokio::test]
async fn sftp_a_server_that_is_not_known_is_refused_and_the_sentence_says_how_to_accept_it() {
    let server = Sshd::start();
    let unknown = || SftpConfig { host_key: None, ..config(&server, "r") };
    let refused = first_contact(unknown()).await.unwrap_err();
    let port = server.address().replace("127.0.0.1:", "");
    assert!(refused.contains(&format!("the key of [127.0.0.1]:{port} is not known")), "{refused}");
    assert!(refused.contains(&format!("ssh-keyscan -p {port} 127.0.0.1 >> ~/.ssh/known_hosts")), "{refused}");
    assert!(refused.contains(&format!("host-key: \"{}", server.host_key())), "{refused}");
    first_contact(SftpConfig { accept_unknown_host_key: Some(true), ..unknown() }).await.unwrap();
}

#[tokio::test]
async fn sftp_a_server_with_another_key_is_always_refused() {
    let server = Sshd::start();
    let changed = SftpConfig {
        host_key: Some(server.other_host_key()),
        accept_unknown_host_key: Some(true),
        ..config(&server, "r")
    };
    let refused = first_contact(changed).await.unwrap_err();
    assert!(refused.contains("is not the one in host-key"), "{refused}");
    assert_eq!(server.logins(), 0);
}

#[tokio::test]
async fn sftp_keys_of_all_kinds_let_in_and_others_are_told_apart() {
    let server = Sshd::start();
    let with_key = |name| SftpConfig { key_path: Some(server.key(name)), ..config(&server, "r") };
    first_contact(with_key("key")).await.unwrap();
    first_contact(with_key("rsa")).await.unwrap();

    let refused = first_contact(with_key("stranger")).await.unwrap_err();
    assert!(refused.contains("access denied") && refused.contains("with the key"), "{refused}");
    let refused = first_contact(with_key("secret")).await.unwrap_err();
    assert!(refused.contains("is protected by a passphrase: add it to the agent (ssh-add "), "{refused}");
    let refused = first_contact(with_key("missing")).await.unwrap_err();
    assert!(refused.contains("cannot read the key"), "{refused}");
    let refused = first_contact(with_key("authorized_keys")).await.unwrap_err();
    assert!(refused.contains("holds no private key that can be used"), "{refused}");
}

/// The agent is found by an environment variable of the process, which nextest gives to each test alone.
#[tokio::test]
async fn sftp_without_a_key_the_agents_are_tried() {
    let server = Sshd::start();
    let socket = server.key("agent.sock");
    let mut agent = Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).spawn().unwrap();
    wait_until("the agent listens", Duration::from_secs(10), || socket.exists());
    for name in ["stranger", "rsa"] {
        let mut add = Command::new("ssh-add");
        assert!(
            add.arg("-q").arg(server.key(name)).env("SSH_AUTH_SOCK", &socket).status().unwrap().success()
        );
    }
    // SAFETY: no other thread reads the environment yet.
    unsafe { std::env::set_var("SSH_AUTH_SOCK", &socket) };
    let outcome = first_contact(SftpConfig { key_path: None, ..config(&server, "r") }).await;
    agent.kill().unwrap();
    agent.wait().unwrap();
    outcome.unwrap();
}

#[tokio::test]
async fn sftp_replicas_on_one_server_share_a_connection() {
    let server = Sshd::start();
    let clients: Vec<_> = (0..20).map(|n| client(config(&server, &n.to_string()))).collect();
    futures::future::join_all(clients.iter().map(|client| put(&**client, range(1, 1), "x"))).await;
    assert_eq!(server.logins(), 1);
    for client in clients {
        assert_eq!(content(&*client, range(1, 1)).await, b"x");
    }
    assert_eq!(server.logins(), 1);
}

#[tokio::test]
async fn sftp_a_server_that_says_nothing_is_an_error_within_five_seconds() {
    let server = Sshd::start();
    let line = Line::to(&server.address());
    line.go_dead();
    let dead = SftpConfig { host: Some(line.address()), ..config(&server, "r") };
    let error = first_contact(dead).await.unwrap_err();
    assert!(error.contains("gave no answer within 5 s"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_an_upload_that_is_given_up_leaves_nothing() {
    let server = Sshd::start();
    let client = client(config(&server, "r"));
    let stuck = chunks(2, 1 << 20).chain(futures::stream::pending());
    let put = client.put(Level::L0, range(1, 1), TIME, PutBody::Stream(stuck.boxed()));
    assert!(tokio::time::timeout(Duration::from_secs(2), put).await.is_err());
    let folder = server.files().join("r/ltx/0");
    wait_until("it is gone", Duration::from_secs(10), || folder.is_dir() && names(&folder).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_what_an_upload_left_when_the_line_was_cut_is_removed_over_the_next_connection() {
    let server = Sshd::start();
    let line = Line::to(&server.address());
    let client = client(SftpConfig { host: Some(line.address()), ..config(&server, "r") });
    let (ready, go) = tokio::sync::oneshot::channel();
    let held = futures::stream::once(async move {
        let _ = go.await;
        Ok(bytes::Bytes::from(vec![1; 1 << 20]))
    });
    let body = PutBody::Stream(chunks(2, 1 << 20).chain(held).boxed());
    let writer = Arc::clone(&client);
    let upload = tokio::spawn(async move { writer.put(Level::L0, range(1, 1), TIME, body).await });
    let folder = server.files().join("r/ltx/0");
    wait_until("it is under way", Duration::from_secs(10), || {
        names(&folder).iter().any(|name| fs::metadata(folder.join(name)).is_ok_and(|file| file.len() > 0))
    });
    line.cut();
    ready.send(()).unwrap();
    // What was read of a stream cannot be read again.
    let error = upload.await.unwrap().unwrap_err();
    assert!(error.is_transient(), "{error}");

    assert_eq!(put(&*client, range(1, 1), "x").await.unwrap(), PutOutcome::Created);
    wait_until("only the file is left", Duration::from_secs(10), || names(&folder).len() == 1);
}

#[tokio::test]
async fn sftp_temporary_files_are_removed_a_day_after_their_crash() {
    let server = Sshd::start();
    let client = client(config(&server, "r"));
    put(&*client, range(1, 1), "x").await.unwrap();
    let folder = server.files().join("r/ltx/0");
    let name = "0000000000000002-0000000000000002.ltx";
    let (ours, theirs, new) =
        (format!(".{name}.1-2-3.tmp"), format!("{name}.12.34.tmp"), format!(".{name}.4-5-6.tmp"));
    for name in [&ours, &theirs, &new] {
        fs::write(folder.join(name), "half").unwrap();
    }
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 3600);
    for name in [&ours, &theirs] {
        let file = fs::File::options().write(true).open(folder.join(name)).unwrap();
        file.set_times(fs::FileTimes::new().set_accessed(yesterday).set_modified(yesterday)).unwrap();
    }
    assert_eq!(list(&*client, 0).await.len(), 1);
    assert_eq!(names(&folder).len(), 2, "{:?}", names(&folder));
    assert!(folder.join(&new).exists());
}

#[tokio::test]
async fn sftp_what_may_not_be_written_is_denied_and_what_is_no_directory_is_said_at_once() {
    let server = Sshd::start();
    fs::write(server.files().join("file"), "").unwrap();
    let error = first_contact(config(&server, "file")).await.unwrap_err();
    assert!(error.ends_with("/file: this is not a directory"), "{error}");

    if Stranger::meet().is_none() {
        return;
    }
    server.open_to_others();
    let client = client(SftpConfig { user: Some("nobody".into()), ..config(&server, "r") });
    client.init().await.unwrap();
    let error = put(&*client, range(1, 1), "x").await.unwrap_err();
    assert!(matches!(error, StorageError::Denied { .. }), "{error}");
    assert!(error.to_string().contains("access denied: upload: Permission denied"), "{error}");
}
