//! A replica by its type and its parts.

use std::collections::BTreeMap;
use std::fmt::Display;

use walstream_storage::{
    AzureConfig, GcsConfig, NatsConfig, OssConfig, ReplicaConfig, S3Config, SftpConfig, WebDavConfig,
    without_secrets,
};

use super::super::duration::GoDuration;
use super::super::yaml::{Map, Yaml};

/// Its keys. What is not said and has no default is left out.
pub(super) fn map(replica: &ReplicaConfig) -> Map {
    let mut keys = Keys(Map::default());
    match replica {
        ReplicaConfig::Nats(nats) => nats_keys(&mut keys, nats),
        other => {
            keys.0.text("type", other.kind());
            keys.of_kind(other);
        }
    }
    keys.0
}

/// A URL without the password of its user.
pub(super) fn without_password(url: &str) -> String {
    let masked = || {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, host) = authority.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}://{name}:***@{host}{}", &rest[authority.len()..]))
    };
    masked().unwrap_or_else(|| url.to_owned())
}

struct Keys(Map);

impl Keys {
    fn of_kind(&mut self, replica: &ReplicaConfig) {
        match replica {
            ReplicaConfig::File(file) => self.text("path", file.path.as_ref().map(|path| path.display())),
            ReplicaConfig::S3(s3) => self.s3(s3),
            ReplicaConfig::Gcs(GcsConfig { bucket, path, endpoint }) => {
                self.text("bucket", bucket.as_ref());
                self.text("path", path.as_ref());
                self.text("endpoint", endpoint.as_deref().map(without_secrets));
            }
            ReplicaConfig::Azure(azure) => self.azure(azure),
            ReplicaConfig::Oss(oss) => self.oss(oss),
            ReplicaConfig::Sftp(sftp) => self.sftp(sftp),
            ReplicaConfig::WebDav(webdav) => self.webdav(webdav),
            ReplicaConfig::Nats(nats) => nats_keys(self, nats),
        }
    }

    fn text(&mut self, key: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.0.text(key, value);
        }
    }

    fn plain(&mut self, key: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.0.plain(key, value);
        }
    }

    fn table(&mut self, key: &str, table: &Option<BTreeMap<String, impl Display>>) {
        if let Some(table) = table {
            let mut map = Map::default();
            table.iter().for_each(|(name, value)| map.text(name, value));
            self.0.add(key, Yaml::Map(map));
        }
    }

    fn s3(&mut self, s3: &S3Config) {
        self.text("bucket", s3.bucket.as_ref());
        self.text("path", s3.path.as_ref());
        self.text("region", s3.region.as_ref());
        self.text("endpoint", s3.endpoint.as_deref().map(without_secrets));
        self.plain("force-path-style", s3.force_path_style);
        self.text("access-key-id", s3.access_key_id.as_ref());
        self.text("secret-access-key", s3.secret_access_key.as_ref());
        self.plain("skip-verify", s3.skip_verify);
        self.plain("part-size", s3.part_size);
        self.plain("concurrency", s3.concurrency);
        self.text("storage-class", s3.storage_class.as_ref());
        self.text("sse", s3.sse.as_ref());
        self.text("sse-kms-key-id", s3.sse_kms_key_id.as_ref());
        self.text("sse-customer-algorithm", s3.sse_customer_algorithm.as_ref());
        self.text("sse-customer-key", s3.sse_customer_key.as_ref());
        self.text("sse-customer-key-path", s3.sse_customer_key_path.as_ref().map(|path| path.display()));
        self.plain("sign-payload", s3.sign_payload);
        self.plain("require-content-md5", s3.require_content_md5);
        self.table("headers", &s3.headers);
        self.table("tags", &s3.tags);
        self.plain("request-payer", s3.request_payer);
    }

    fn azure(&mut self, azure: &AzureConfig) {
        self.text("bucket", azure.bucket.as_ref());
        self.text("path", azure.path.as_ref());
        self.text("account-name", azure.account_name.as_ref());
        self.text("account-key", azure.account_key.as_ref());
        self.text("sas-token", azure.sas_token.as_ref());
        self.text("endpoint", azure.endpoint.as_deref().map(without_secrets));
    }

    fn oss(&mut self, oss: &OssConfig) {
        self.text("bucket", oss.bucket.as_ref());
        self.text("path", oss.path.as_ref());
        self.text("region", oss.region.as_ref());
        self.text("endpoint", oss.endpoint.as_deref().map(without_secrets));
        self.text("access-key-id", oss.access_key_id.as_ref());
        self.text("secret-access-key", oss.secret_access_key.as_ref());
        self.plain("part-size", oss.part_size);
        self.plain("concurrency", oss.concurrency);
        self.table("headers", &oss.headers);
    }

    fn sftp(&mut self, sftp: &SftpConfig) {
        self.text("host", sftp.host.as_ref());
        self.text("path", sftp.path.as_ref());
        self.text("user", sftp.user.as_ref());
        self.text("password", sftp.password.as_ref());
        self.text("key-path", sftp.key_path.as_ref().map(|path| path.display()));
        self.text("host-key", sftp.host_key.as_ref());
        self.plain("accept-unknown-host-key", sftp.accept_unknown_host_key);
        self.plain("concurrent-writes", sftp.concurrent_writes);
    }

    fn webdav(&mut self, webdav: &WebDavConfig) {
        self.text("webdav-url", webdav.url.as_deref().map(without_password));
        self.text("path", webdav.path.as_ref());
        self.text("webdav-username", webdav.username.as_ref());
        self.text("webdav-password", webdav.password.as_ref());
    }
}

/// Which server it is can be said in a URL only.
fn nats_keys(keys: &mut Keys, nats: &NatsConfig) {
    let parts = [&nats.url, &nats.bucket, &nats.path];
    let parts = parts.into_iter().flatten().map(|part| part.trim_matches('/'));
    let url: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    keys.text("url", Some(without_password(&url.join("/"))));
    keys.text("username", nats.username.as_ref());
    keys.text("password", nats.password.as_ref());
    keys.text("token", nats.token.as_ref());
    keys.text("creds", nats.creds.as_ref().map(|path| path.display()));
    keys.text("jwt", nats.jwt.as_ref());
    keys.text("seed", nats.seed.as_ref());
    keys.text("nkey", nats.nkey.as_ref());
    keys.plain("tls", nats.tls);
    if let Some(files) = &nats.root_cas {
        let files = files.iter().map(|path| Yaml::Text(path.display().to_string()));
        keys.0.add("root-cas", Yaml::List(files.collect()));
    }
    keys.text("client-cert", nats.client_cert.as_ref().map(|path| path.display()));
    keys.text("client-key", nats.client_key.as_ref().map(|path| path.display()));
    keys.plain("max-reconnects", nats.max_reconnects);
    keys.plain("reconnect-wait", nats.reconnect_wait.map(GoDuration::from));
    keys.plain("timeout", nats.timeout.map(GoDuration::from));
}
