//! What must be known to reach a replica.
//!
//! Invariant: `None` means "not said". Defaults are filled in when a client is made, never before, so that the
//! caller can lay a configuration file over a URL over defaults.

mod file;
mod objects;
mod s3;
mod servers;

use std::path::Path;

use crate::url::without_secrets;

pub use file::{FileAccess, FileConfig};
pub use objects::{AzureConfig, GcsConfig, OssConfig};
pub use s3::S3Config;
pub use servers::{NatsConfig, SftpConfig, WebDavConfig};

/// The configuration of a replica, by kind of store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "there is one per replica, and it is not moved about")]
pub enum ReplicaConfig {
    /// A directory.
    File(FileConfig),
    /// An S3 bucket, of Amazon or of anyone who speaks its protocol.
    S3(S3Config),
    /// A bucket of Google Cloud Storage.
    Gcs(GcsConfig),
    /// A container of Azure Blob Storage.
    Azure(AzureConfig),
    /// A directory on an SSH server.
    Sftp(SftpConfig),
    /// A folder on a WebDAV server.
    WebDav(WebDavConfig),
    /// An object store of NATS JetStream.
    Nats(NatsConfig),
    /// A bucket of Alibaba Cloud OSS.
    Oss(OssConfig),
}

/// Where a replica is. Two replicas with the same place would write over each other's files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// The kind of store.
    pub kind: &'static str,
    /// Which server, account or region, as far as it was said, without secrets.
    pub server: String,
    /// The bucket or container, where the store has them.
    pub bucket: String,
    /// The path in it.
    pub path: String,
}

/// Every kind of store, as configuration files call it.
pub const KINDS: [&str; 8] = ["file", "s3", "gs", "abs", "sftp", "webdav", "nats", "oss"];

impl ReplicaConfig {
    /// The kind of store, as configuration files, logs and tables call it: one of [`KINDS`].
    pub fn kind(&self) -> &'static str {
        match self {
            ReplicaConfig::File(_) => "file",
            ReplicaConfig::S3(_) => "s3",
            ReplicaConfig::Gcs(_) => "gs",
            ReplicaConfig::Azure(_) => "abs",
            ReplicaConfig::Sftp(_) => "sftp",
            ReplicaConfig::WebDav(_) => "webdav",
            ReplicaConfig::Nats(_) => "nats",
            ReplicaConfig::Oss(_) => "oss",
        }
    }

    /// Where it is.
    pub fn place(&self) -> Place {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (server, bucket, path) = match self {
            ReplicaConfig::File(file) => {
                let path = file.path.as_deref().map(|path| path.to_string_lossy().into_owned());
                (String::new(), String::new(), path.unwrap_or_default())
            }
            ReplicaConfig::S3(s3) => (text(&s3.endpoint), text(&s3.bucket), text(&s3.path)),
            ReplicaConfig::Gcs(gcs) => (text(&gcs.endpoint), text(&gcs.bucket), text(&gcs.path)),
            ReplicaConfig::Azure(azure) => {
                let server = azure.endpoint.as_ref().or(azure.account_name.as_ref());
                (server.cloned().unwrap_or_default(), text(&azure.bucket), text(&azure.path))
            }
            ReplicaConfig::Sftp(sftp) => (text(&sftp.host), String::new(), text(&sftp.path)),
            ReplicaConfig::WebDav(webdav) => (text(&webdav.url), String::new(), text(&webdav.path)),
            ReplicaConfig::Nats(nats) => (text(&nats.url), text(&nats.bucket), text(&nats.path)),
            ReplicaConfig::Oss(oss) => (text(&oss.endpoint), text(&oss.bucket), text(&oss.path)),
        };
        Place { kind: self.kind(), server: without_secrets(&server), bucket, path }
    }

    /// The replica of a database that lies at `relative` below what this replica is for.
    #[must_use]
    pub fn below(mut self, relative: &Path) -> ReplicaConfig {
        let path = match &mut self {
            ReplicaConfig::File(file) => {
                file.path = file.path.take().map(|path| path.join(relative));
                return self;
            }
            ReplicaConfig::S3(s3) => &mut s3.path,
            ReplicaConfig::Gcs(gcs) => &mut gcs.path,
            ReplicaConfig::Azure(azure) => &mut azure.path,
            ReplicaConfig::Sftp(sftp) => &mut sftp.path,
            ReplicaConfig::WebDav(webdav) => &mut webdav.path,
            ReplicaConfig::Nats(nats) => &mut nats.path,
            ReplicaConfig::Oss(oss) => &mut oss.path,
        };
        let relative = relative.to_string_lossy();
        *path = Some(match path.as_deref().unwrap_or_default() {
            "" => relative.into_owned(),
            prefix => format!("{}/{relative}", prefix.trim_end_matches('/')),
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_below_a_directory_has_a_replica_below() {
        for (url, path) in [
            ("file:///backup", "/backup/x/app.db"),
            ("s3://b/p", "p/x/app.db"),
            ("s3://b", "x/app.db"),
            ("gs://b/p/", "p/x/app.db"),
            ("abs://b/p", "p/x/app.db"),
            ("sftp://host/p", "/p/x/app.db"),
            ("sftp://host/", "/x/app.db"),
            ("webdav://host/p", "/p/x/app.db"),
            ("nats://host/b", "x/app.db"),
            ("oss://b/p", "p/x/app.db"),
        ] {
            let replica: ReplicaConfig = url.parse().unwrap();
            assert_eq!(replica.below(Path::new("x/app.db")).place().path, path, "{url}");
        }
    }

    #[test]
    fn replicas_in_different_places_are_told_apart() {
        let urls = [
            "file:///b",
            "s3://b",
            "gs://b",
            "abs://b",
            "abs://account@b",
            "sftp://b/b",
            "webdav://b/b",
            "nats://b/b",
            "oss://b",
            "s3://b?endpoint=h",
            "s3://b/p",
        ];
        let places = urls.map(|url| url.parse::<ReplicaConfig>().unwrap().place());
        let different: std::collections::HashSet<_> = places.iter().collect();
        assert_eq!(different.len(), urls.len(), "{places:?}");
    }
}
