//! NATS JetStream, on its own server.

use async_trait::async_trait;
use walstream_storage::{NatsConfig, ReplicaConfig, Secret};
use walstream_test_support::NatsServer;

use super::{Backend, PATH};

const NO_HTTP: &str = "it does not speak HTTP";

pub(crate) struct Nats(NatsServer);

fn at(address: &str, bucket: &str, path: &str) -> NatsConfig {
    NatsConfig {
        url: Some(format!("nats://{address}")),
        bucket: Some(bucket.to_owned()),
        path: Some(path.to_owned()),
        token: Some(Secret::new(NatsServer::TOKEN)),
        ..NatsConfig::default()
    }
}

#[async_trait]
impl Backend for Nats {
    const NAME: &'static str = "NATS JetStream";
    const NOT_SHOWN: &'static [(&'static str, &'static str)] =
        &[("a_busy_server_is_asked_again", NO_HTTP), ("a_server_that_asks_for_a_pause_gets_it", NO_HTTP)];

    async fn start() -> Self {
        Nats(NatsServer::start_with(&format!("authorization {{token: {:?}}}", NatsServer::TOKEN)))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn config(&self, address: &str, path: &str) -> ReplicaConfig {
        ReplicaConfig::Nats(at(address, NatsServer::BUCKET, path))
    }

    async fn plant(&self, name: &str, content: &[u8]) {
        self.0.put(&format!("{PATH}/{name}"), std::str::from_utf8(content).unwrap());
    }

    fn with_wrong_credentials(&self) -> ReplicaConfig {
        let wrong = Some(Secret::new("wrong"));
        ReplicaConfig::Nats(NatsConfig { token: wrong, ..at(&self.address(), NatsServer::BUCKET, PATH) })
    }

    fn in_missing_bucket(&self) -> ReplicaConfig {
        ReplicaConfig::Nats(at(&self.address(), "nope", PATH))
    }

    async fn restart(&mut self) {
        self.0.restart();
    }
}
