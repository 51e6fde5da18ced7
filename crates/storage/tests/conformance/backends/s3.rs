//! S3, on two servers: moto, which knows everything but checks no signature, and s3s-fs, which checks them; and behind a
//! front that refuses what other servers refuse, in the manner of S3 and in that of Alibaba Cloud OSS.

use async_trait::async_trait;
use walstream_ltx::{FileName, Level, TxidRange};
use walstream_storage::{OssConfig, ReplicaConfig, S3Config, Secret};
use walstream_test_support as support;

use super::{Backend, PATH};
use crate::common::strict::{Manners, Strict};

fn config(address: &str, bucket: &str, path: &str, secret: &str) -> ReplicaConfig {
    ReplicaConfig::S3(S3Config {
        bucket: Some(bucket.to_owned()),
        path: Some(path.to_owned()),
        endpoint: Some(format!("http://{address}")),
        access_key_id: Some(support::Moto::ACCESS_KEY_ID.to_owned()),
        secret_access_key: Some(Secret::new(secret)),
        part_size: Some(5 << 20),
        ..S3Config::default()
    })
}

fn s3_name(level: Level, txids: TxidRange) -> String {
    format!("{:04x}/{}", level.get(), FileName(txids))
}

pub(crate) struct Moto(support::Moto);

#[async_trait]
impl Backend for Moto {
    const NAME: &'static str = "S3 (moto)";
    const NOT_SHOWN: &'static [(&'static str, &'static str)] = &[
        ("wrong_credentials_are_one_sentence", "it accepts every key"),
        ("a_server_may_be_restarted", "it forgets everything when it ends"),
    ];

    async fn start() -> Self {
        Moto(support::Moto::start())
    }

    fn address(&self) -> String {
        self.0.address().to_owned()
    }

    fn config(&self, address: &str, path: &str) -> ReplicaConfig {
        config(address, support::Moto::BUCKET, path, support::Moto::SECRET_ACCESS_KEY)
    }

    fn name_of(&self, level: Level, txids: TxidRange) -> String {
        s3_name(level, txids)
    }

    async fn plant(&self, name: &str, content: &[u8]) {
        self.0.put(&format!("{PATH}/{name}"), content);
    }

    fn in_missing_bucket(&self) -> ReplicaConfig {
        config(self.0.address(), "nope", PATH, "secret")
    }
}

pub(crate) struct S3sFs(support::S3sFs);

#[async_trait]
impl Backend for S3sFs {
    const NAME: &'static str = "S3 (s3s-fs)";
    const NOT_SHOWN: &'static [(&'static str, &'static str)] = &[(
        "of_eight_writers_at_once_one_wins",
        "it looks for the name and then writes, so writers at the same moment all win",
    )];

    async fn start() -> Self {
        S3sFs(support::S3sFs::start())
    }

    fn address(&self) -> String {
        self.0.address().to_owned()
    }

    fn config(&self, address: &str, path: &str) -> ReplicaConfig {
        config(address, support::Moto::BUCKET, path, support::Moto::SECRET_ACCESS_KEY)
    }

    fn name_of(&self, level: Level, txids: TxidRange) -> String {
        s3_name(level, txids)
    }

    async fn plant(&self, name: &str, content: &[u8]) {
        let path = self.0.bucket().join(PATH).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn with_wrong_credentials(&self) -> ReplicaConfig {
        config(self.0.address(), support::Moto::BUCKET, PATH, "wrong")
    }

    fn in_missing_bucket(&self) -> ReplicaConfig {
        config(self.0.address(), "nope", PATH, support::Moto::SECRET_ACCESS_KEY)
    }

    async fn restart(&mut self) {
        self.0.restart();
    }
}

const FRONT: &str = "the front before the server has whole answers in memory";

/// moto behind the front.
pub(crate) struct Refusing {
    moto: support::Moto,
    front: Strict,
}

impl Refusing {
    async fn start(manners: Manners) -> Self {
        let moto = support::Moto::start();
        let front = Strict::start(moto.address(), manners).await;
        Refusing { moto, front }
    }
}

pub(crate) struct StrictS3(Refusing);

#[async_trait]
impl Backend for StrictS3 {
    const NAME: &'static str = "S3 (strict)";
    const NOT_SHOWN: &'static [(&'static str, &'static str)] = &[
        ("wrong_credentials_are_one_sentence", "it accepts every key"),
        ("a_server_may_be_restarted", "it forgets everything when it ends"),
        ("a_gibibyte_needs_64_mebibytes_of_memory", FRONT),
    ];

    async fn start() -> Self {
        StrictS3(Refusing::start(Manners::Strict).await)
    }

    fn address(&self) -> String {
        self.0.front.address().to_owned()
    }

    fn config(&self, address: &str, path: &str) -> ReplicaConfig {
        config(address, support::Moto::BUCKET, path, support::Moto::SECRET_ACCESS_KEY)
    }

    fn name_of(&self, level: Level, txids: TxidRange) -> String {
        s3_name(level, txids)
    }

    async fn plant(&self, name: &str, content: &[u8]) {
        self.0.moto.put(&format!("{PATH}/{name}"), content);
    }

    fn in_missing_bucket(&self) -> ReplicaConfig {
        config(&self.address(), "nope", PATH, "secret")
    }
}

pub(crate) struct Oss(Refusing);

fn oss_config(address: &str, bucket: &str, path: &str) -> ReplicaConfig {
    ReplicaConfig::Oss(OssConfig {
        bucket: Some(bucket.to_owned()),
        path: Some(path.to_owned()),
        endpoint: Some(format!("http://{address}")),
        access_key_id: Some(support::Moto::ACCESS_KEY_ID.to_owned()),
        secret_access_key: Some(Secret::new(support::Moto::SECRET_ACCESS_KEY)),
        part_size: Some(5 << 20),
        ..OssConfig::default()
    })
}

#[async_trait]
impl Backend for Oss {
    const NAME: &'static str = "OSS (its S3 dialect)";
    const NOT_SHOWN: &'static [(&'static str, &'static str)] = StrictS3::NOT_SHOWN;

    async fn start() -> Self {
        Oss(Refusing::start(Manners::Oss).await)
    }

    fn address(&self) -> String {
        self.0.front.address().to_owned()
    }

    fn config(&self, address: &str, path: &str) -> ReplicaConfig {
        oss_config(address, support::Moto::BUCKET, path)
    }

    fn name_of(&self, level: Level, txids: TxidRange) -> String {
        s3_name(level, txids)
    }

    async fn plant(&self, name: &str, content: &[u8]) {
        self.0.moto.put(&format!("{PATH}/{name}"), content);
    }

    fn in_missing_bucket(&self) -> ReplicaConfig {
        oss_config(&self.address(), "nope", PATH)
    }
}
