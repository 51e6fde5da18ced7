//! Google Cloud Storage: an emulator behind a front of ours, which adds what the emulator lacks (see `Gcs` in
//! tests/support).

use async_trait::async_trait;
use walstream_storage::ReplicaConfig;
use walstream_test_support as support;

use super::{Backend, PATH};
use crate::common::gcs_config;

pub(crate) struct Gcs(support::Gcs);

#[async_trait]
impl Backend for Gcs {
    const NAME: &'static str = "GCS (gcp-storage-emulator)";
    const NOT_SHOWN: &'static [(&'static str, &'static str)] = &[
        ("wrong_credentials_are_one_sentence", "it lets everyone in"),
        ("a_server_may_be_restarted", "it forgets everything when it ends"),
    ];

    async fn start() -> Self {
        Gcs(support::Gcs::start())
    }

    fn address(&self) -> String {
        self.0.address().to_owned()
    }

    fn config(&self, address: &str, path: &str) -> ReplicaConfig {
        ReplicaConfig::Gcs(gcs_config(&format!("http://{address}"), support::Gcs::BUCKET, path))
    }

    async fn plant(&self, name: &str, content: &[u8]) {
        self.0.put(&format!("{PATH}/{name}"), content);
    }

    fn in_missing_bucket(&self) -> ReplicaConfig {
        ReplicaConfig::Gcs(gcs_config(&self.0.endpoint(), "nope", PATH))
    }
}
