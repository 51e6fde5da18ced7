//! What a replica will be, with everything that the user left out.

use std::time::Duration;

use crate::cloud::DEFAULT_PART_SIZE;
use crate::config::{NatsConfig, OssConfig, ReplicaConfig, SftpConfig};
use crate::error::StorageError;
use crate::s3;

/// Fills in every default that is known without asking the store or looking for credentials.
pub fn complete(replica: &ReplicaConfig) -> Result<ReplicaConfig, StorageError> {
    Ok(match replica {
        ReplicaConfig::S3(s3) => ReplicaConfig::S3(s3::complete(s3)?),
        ReplicaConfig::Oss(oss) => ReplicaConfig::Oss(complete_oss(oss)),
        ReplicaConfig::Sftp(sftp) => ReplicaConfig::Sftp(complete_sftp(sftp)),
        ReplicaConfig::Nats(nats) => ReplicaConfig::Nats(complete_nats(nats)),
        other => other.clone(),
    })
}

fn complete_oss(oss: &OssConfig) -> OssConfig {
    OssConfig {
        region: oss.region.clone().or_else(|| Some("cn-hangzhou".to_owned())),
        part_size: oss.part_size.or(Some(DEFAULT_PART_SIZE)),
        concurrency: oss.concurrency.or(Some(3)),
        ..oss.clone()
    }
}

fn complete_sftp(sftp: &SftpConfig) -> SftpConfig {
    SftpConfig {
        accept_unknown_host_key: sftp.accept_unknown_host_key.or(Some(false)),
        concurrent_writes: sftp.concurrent_writes.or(Some(true)),
        ..sftp.clone()
    }
}

fn complete_nats(nats: &NatsConfig) -> NatsConfig {
    NatsConfig {
        max_reconnects: nats.max_reconnects.or(Some(-1)),
        reconnect_wait: nats.reconnect_wait.or(Some(Duration::from_secs(2))),
        timeout: nats.timeout.or(Some(Duration::from_secs(10))),
        ..nats.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_stays_and_the_rest_is_filled_in() {
        let url = "s3://bucket/app?endpoint=http://localhost:9000&concurrency=2";
        let ReplicaConfig::S3(s3) = complete(&url.parse().unwrap()).unwrap() else { panic!() };
        assert_eq!((s3.concurrency, s3.part_size), (Some(2), Some(8 << 20)));
        assert_eq!((s3.force_path_style, s3.skip_verify), (Some(true), Some(false)));
        assert_eq!(s3.access_key_id, None, "credentials are not looked for");
        let again = complete(&ReplicaConfig::S3(s3.clone())).unwrap();
        assert_eq!(again, ReplicaConfig::S3(s3));
        let ReplicaConfig::Nats(nats) = complete(&"nats://host/bucket".parse().unwrap()).unwrap() else {
            panic!()
        };
        assert_eq!((nats.max_reconnects, nats.timeout), (Some(-1), Some(Duration::from_secs(10))));
    }
}
