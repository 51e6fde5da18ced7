//! SFTP, on two servers: OpenSSH, and rclone, which knows less of it.

use async_trait::async_trait;
use walstream_storage::{ReplicaConfig, Secret, SftpConfig};
use walstream_test_support::Sshd;

use super::{Backend, PATH};

const NO_HTTP: &str = "it does not speak HTTP";
const NO_BUCKETS: &str = "a directory is made when it is first needed";

async fn plant(server: &Sshd, name: &str, content: &[u8]) {
    let path = server.files().join(PATH).join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

pub(crate) struct OpenSsh(Sshd);

impl OpenSsh {
    fn with_key(&self, address: &str, path: &str, key: &str) -> ReplicaConfig {
        ReplicaConfig::Sftp(SftpConfig {
            host: Some(address.to_owned()),
            user: Some(self.0.user()),
            key_path: Some(self.0.key(key)),
            host_key: Some(self.0.host_key()),
            path: Some(self.0.files().join(path).display().to_string()),
            ..SftpConfig::default()
        })
    }
}

#[async_trait]
impl Backend for OpenSsh {
    const NAME: &'static str = "SFTP (OpenSSH)";
    const NOT_SHOWN: &'static [(&'static str, &'static str)] = &[
        ("a_busy_server_is_asked_again", NO_HTTP),
        ("a_server_that_asks_for_a_pause_gets_it", NO_HTTP),
        ("a_missing_bucket_is_one_sentence", NO_BUCKETS),
    ];

    async fn start() -> Self {
        OpenSsh(Sshd::start())
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn config(&self, address: &str, path: &str) -> ReplicaConfig {
        self.with_key(address, path, "key")
    }

    async fn plant(&self, name: &str, content: &[u8]) {
        plant(&self.0, name, content).await;
    }

    fn with_wrong_credentials(&self) -> ReplicaConfig {
        self.with_key(&self.address(), PATH, "stranger")
    }

    async fn restart(&mut self) {
        self.0.restart();
    }
}

pub(crate) struct SftpRclone(Sshd);

impl SftpRclone {
    fn with_password(&self, address: &str, path: &str, password: &str) -> ReplicaConfig {
        ReplicaConfig::Sftp(SftpConfig {
            host: Some(address.to_owned()),
            user: Some(self.0.user()),
            password: Some(Secret::new(password)),
            host_key: Some(self.0.host_key()),
            path: Some(path.to_owned()),
            ..SftpConfig::default()
        })
    }
}

#[async_trait]
impl Backend for SftpRclone {
    const NAME: &'static str = "SFTP (rclone)";
    const NOT_SHOWN: &'static [(&'static str, &'static str)] = &[
        (
            "of_eight_writers_at_once_one_wins",
            "its renames write over files, so writers at the same moment all win",
        ),
        ("foreign_names_are_not_listed", "it does not see what others put into its folder"),
        ("a_server_may_be_restarted", "it loses what it has not stored yet"),
        ("a_busy_server_is_asked_again", NO_HTTP),
        ("a_server_that_asks_for_a_pause_gets_it", NO_HTTP),
        ("a_missing_bucket_is_one_sentence", NO_BUCKETS),
    ];

    async fn start() -> Self {
        SftpRclone(Sshd::start_rclone())
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn config(&self, address: &str, path: &str) -> ReplicaConfig {
        self.with_password(address, path, Sshd::PASSWORD)
    }

    async fn plant(&self, name: &str, content: &[u8]) {
        plant(&self.0, name, content).await;
    }

    fn with_wrong_credentials(&self) -> ReplicaConfig {
        self.with_password(&self.address(), PATH, "wrong")
    }

    async fn restart(&mut self) {
        self.0.restart();
    }
}
