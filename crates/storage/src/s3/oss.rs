//! A bucket of Alibaba Cloud OSS, reached by the S3 protocol, which OSS speaks beside its own.
//!
//! Invariant: objects have the names, contents and metadata that a program with OSS's own protocol gives them:
//! `x-amz-meta-…` here is `x-oss-meta-…` there.

use std::net::IpAddr;

use super::settings::Settings;
use super::{Dialect, S3};
use crate::config::{OssConfig, S3Config};
use crate::error::StorageError;
use crate::providers::OSS;

const DIALECT: Dialect = Dialect { kind: "oss", cloud: "OSS" };
const DEFAULT_REGION: &str = "cn-hangzhou";
/// Where OSS's own programs find keys, and the names that such keys have in S3.
const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_ID"),
    ("AWS_SECRET_ACCESS_KEY", "OSS_ACCESS_KEY_SECRET"),
    ("AWS_SESSION_TOKEN", "OSS_SESSION_TOKEN"),
];

/// The bucket of a configuration; `env` looks up an environment variable.
pub(super) fn bucket(config: &OssConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<S3, StorageError> {
    let said = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
    let Some(bucket) = said(&config.bucket) else {
        return Err(StorageError::Config("an OSS replica needs a bucket: use oss://BUCKET/PATH".into()));
    };
    let region = said(&config.region).unwrap_or_else(|| DEFAULT_REGION.to_owned());
    let endpoint = said(&config.endpoint).unwrap_or_else(|| format!("https://oss-{region}.aliyuncs.com"));
    let has_keys =
        said(&config.access_key_id).is_some() || KEYS[..2].iter().all(|(_, name)| env(name).is_some());
    if !has_keys {
        return Err(StorageError::Config(format!(
            "oss://{bucket}: no OSS credentials are set; set access-key-id and secret-access-key, or \
             OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET"
        )));
    }
    let s3 = S3Config {
        bucket: Some(bucket),
        region: Some(region),
        // A bucket cannot be put before an address.
        force_path_style: Some(is_address(&endpoint)),
        endpoint: Some(endpoint),
        access_key_id: config.access_key_id.clone(),
        secret_access_key: config.secret_access_key.clone(),
        part_size: config.part_size,
        concurrency: config.concurrency,
        headers: config.headers.clone(),
        ..S3Config::default()
    };
    let keys = |name: &str| KEYS.iter().find(|(s3, _)| *s3 == name).and_then(|(_, oss)| env(oss));
    Ok(S3 { settings: Settings::of_provider(&s3, OSS, &keys)?, dialect: DIALECT })
}

fn is_address(endpoint: &str) -> bool {
    let (_, server) = endpoint.split_once("://").unwrap_or(("", endpoint));
    let host = server.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn config() -> OssConfig {
        OssConfig {
            bucket: Some("bkt".into()),
            access_key_id: Some("id".into()),
            secret_access_key: Some(Secret::new("secret")),
            ..OssConfig::default()
        }
    }

    #[test]
    fn the_bucket_is_in_the_host_name_unless_that_is_an_address() {
        for (region, endpoint, base) in [
            (None, None, "https://bkt.oss-cn-hangzhou.aliyuncs.com"),
            (Some("eu-central-1"), None, "https://bkt.oss-eu-central-1.aliyuncs.com"),
            (
                None,
                Some("oss-cn-beijing-internal.aliyuncs.com"),
                "https://bkt.oss-cn-beijing-internal.aliyuncs.com",
            ),
            (None, Some("http://127.0.0.1:9000"), "http://127.0.0.1:9000"),
            (None, Some("http://[::1]:9000"), "http://[::1]:9000"),
        ] {
            let config = OssConfig {
                region: region.map(str::to_owned),
                endpoint: endpoint.map(str::to_owned),
                ..config()
            };
            let s3 = bucket(&config, &|_| None).unwrap();
            assert_eq!(s3.settings.endpoint.as_deref(), Some(base));
            assert_eq!((s3.settings.provider.name, s3.settings.concurrency), ("Alibaba Cloud OSS", 3));
        }
    }

    #[test]
    fn keys_are_those_of_oss_and_never_amazons() {
        let without = OssConfig { access_key_id: None, secret_access_key: None, ..config() };
        let amazons = |name: &str| name.starts_with("AWS_").then(|| "x".to_owned());
        let error = bucket(&without, &amazons).unwrap_err().to_string();
        assert!(error.starts_with("oss://bkt: no OSS credentials are set; set access-key-id"), "{error}");
        let alibabas = |name: &str| name.starts_with("OSS_").then(|| name.to_lowercase());
        let found = format!("{:?}", bucket(&without, &alibabas).unwrap().settings.credentials);
        assert!(found.contains("oss_access_key_id") && !found.contains("oss_access_key_secret"), "{found}");
    }
}
