//! From a configuration to a store.

use std::sync::{Arc, Once};

use crate::client::ReplicaClient;
use crate::config::ReplicaConfig;
use crate::error::StorageError;
use crate::file::FileClient;
use crate::limits::{Limited, Limits};
use crate::nats::NatsClient;
use crate::sftp::SftpClient;
use crate::webdav::WebDavClient;
use crate::{azure, gcs, s3};

/// A client for a configured replica. Nothing is asked of the store yet; [`ReplicaClient::init`] does that.
pub fn connect(config: &ReplicaConfig) -> Result<Arc<dyn ReplicaClient>, StorageError> {
    connect_within(config, &Limits::default())
}

/// The same, within limits of one's own.
pub fn connect_within(
    config: &ReplicaConfig,
    limits: &Limits,
) -> Result<Arc<dyn ReplicaClient>, StorageError> {
    Ok(Arc::new(Limited::new(store(config)?, limits.clone())))
}

fn store(config: &ReplicaConfig) -> Result<Arc<dyn ReplicaClient>, StorageError> {
    install_tls();
    Ok(match config {
        ReplicaConfig::File(config) => Arc::new(FileClient::new(config)?),
        ReplicaConfig::S3(config) => Arc::new(s3::client(config)?),
        ReplicaConfig::Gcs(config) => Arc::new(gcs::client(config)?),
        ReplicaConfig::Azure(config) => Arc::new(azure::client(config)?),
        ReplicaConfig::Oss(config) => Arc::new(s3::oss_client(config)?),
        ReplicaConfig::WebDav(config) => Arc::new(WebDavClient::new(config)?),
        ReplicaConfig::Nats(config) => Arc::new(NatsClient::new(config)?),
        ReplicaConfig::Sftp(config) => Arc::new(SftpClient::new(config)?),
    })
}

/// The HTTP client is built without a default, so that only one cryptography library is linked.
pub(crate) fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error only means that the program chose a provider itself.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
