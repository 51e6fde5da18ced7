//! Azure Blob Storage: Azurite, Microsoft's own emulator.

use async_trait::async_trait;
use walstream_storage::{AzureConfig, ReplicaConfig, Secret};
use walstream_test_support as support;

use super::{Backend, PATH};
use crate::common::azure_config;

pub(crate) struct Azurite(support::Azurite);

impl Azurite {
    fn usual(&self) -> AzureConfig {
        azure_config(&self.0.endpoint(), PATH)
    }
}

#[async_trait]
impl Backend for Azurite {
    const NAME: &'static str = "Azure (Azurite)";

    async fn start() -> Self {
        Azurite(support::Azurite::start())
    }

    fn address(&self) -> String {
        self.0.address().to_owned()
    }

    fn config(&self, address: &str, path: &str) -> ReplicaConfig {
        let account = support::Azurite::ACCOUNT;
        ReplicaConfig::Azure(azure_config(&format!("http://{address}/{account}"), path))
    }

    async fn plant(&self, name: &str, content: &[u8]) {
        self.0.put(&format!("{PATH}/{name}"), content);
    }

    fn with_wrong_credentials(&self) -> ReplicaConfig {
        ReplicaConfig::Azure(AzureConfig { account_key: Some(Secret::new("d3Jvbmc=")), ..self.usual() })
    }

    fn in_missing_bucket(&self) -> ReplicaConfig {
        ReplicaConfig::Azure(AzureConfig { bucket: Some("nope".to_owned()), ..self.usual() })
    }

    async fn restart(&mut self) {
        self.0.restart();
    }
}
