//! From what the user said to what will be done: every default of an S3 replica, in one place.
//!
//! Invariant: [`Settings::resolve`] is a function of the configuration and the environment alone; whatever cannot work
//! is refused here, before any request.

use std::path::Path;

use ::url::Url;
use object_store::TagSet;
use object_store::aws::AmazonS3ConfigKey as Key;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;

use super::credentials::Credentials;
use crate::cloud::DEFAULT_PART_SIZE;
use crate::config::S3Config;
use crate::error::StorageError;
use crate::providers::{AMAZON, Provider, provider_of};
use crate::secret::Secret;
use crate::trust;
use crate::url::without_secrets;

/// Amazon's least size of a part that is not the last.
const MIN_PART_SIZE: u64 = 5 << 20;
/// Amazon's greatest size of a part.
const MAX_PART_SIZE: u64 = 5 << 30;
/// Headers that belong to the request itself; another value would break it or its signature.
const OWN_HEADERS: [&str; 8] = [
    "authorization",
    "content-length",
    "content-md5",
    "host",
    "if-none-match",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
];
/// Parts wait in memory, so a slip of the finger must not take it all.
const MAX_CONCURRENCY: usize = 64;

/// How the stored objects are encrypted by the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Encryption {
    /// As the bucket has it.
    Bucket,
    /// With this key, in base64, which comes with every request.
    Customer(Secret),
    /// With this key of Amazon's key service.
    Kms(String),
    /// With a key of the store's own, of this kind.
    Managed(Key, &'static str),
}

/// Everything that is the same for all replicas in a bucket.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) bucket: String,
    /// `None`: ask Amazon.
    pub(super) region: Option<String>,
    /// Base of all URLs as `object_store` wants it, with the bucket in the host name if `virtual_hosted`. `None`: Amazon's.
    pub(super) endpoint: Option<String>,
    pub(super) virtual_hosted: bool,
    pub(super) credentials: Credentials,
    pub(super) sign_payload: bool,
    pub(super) bulk_delete: bool,
    pub(super) skip_verify: bool,
    pub(super) storage_class: Option<String>,
    pub(super) part_size: u64,
    pub(super) concurrency: usize,
    pub(super) encryption: Encryption,
    pub(super) headers: HeaderMap,
    pub(super) tags: TagSet,
    pub(super) request_payer: bool,
    /// What `AWS_CA_BUNDLE` holds.
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) provider: Provider,
}

impl Settings {
    /// For whatever provider the endpoint is known to be; `env` looks up an environment variable.
    pub(super) fn resolve(
        config: &S3Config,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, StorageError> {
        let endpoint = said(&config.endpoint).map(|endpoint| parse_endpoint(&endpoint)).transpose()?;
        let provider =
            endpoint.as_ref().map_or(AMAZON, |url| provider_of(url.host_str().unwrap_or_default()));
        Settings::of_provider(config, provider, env)
    }

    /// The same for a provider that is known already.
    pub(super) fn of_provider(
        config: &S3Config,
        provider: Provider,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, StorageError> {
        let bucket = said(&config.bucket).ok_or_else(|| {
            invalid("an S3 replica needs a bucket: use s3://BUCKET/PATH, with ?endpoint=http://HOST:PORT for another server than Amazon's")
        })?;
        let endpoint = said(&config.endpoint).map(|endpoint| parse_endpoint(&endpoint)).transpose()?;
        let region = said(&config.region)
            .or_else(|| env("AWS_REGION"))
            .or_else(|| env("AWS_DEFAULT_REGION"))
            .or_else(|| endpoint.is_some().then(|| "us-east-1".to_owned()));
        let (endpoint, virtual_hosted) =
            place(&bucket, endpoint, region.as_deref(), &provider, config.force_path_style)?;
        Ok(Settings {
            credentials: Credentials::find(config, env)?,
            sign_payload: config.sign_payload.unwrap_or(true),
            bulk_delete: config.require_content_md5.unwrap_or(provider.bulk_delete),
            skip_verify: config.skip_verify.unwrap_or(false),
            storage_class: said(&config.storage_class),
            part_size: part_size(config.part_size)?,
            concurrency: config.concurrency.unwrap_or(provider.concurrency).clamp(1, MAX_CONCURRENCY),
            encryption: encryption(config)?,
            headers: headers(config, &provider)?,
            tags: tags(config),
            request_payer: config.request_payer.unwrap_or(false),
            roots: match env("AWS_CA_BUNDLE").filter(|path| !path.is_empty()) {
                Some(path) => trust::read_bundle("AWS_CA_BUNDLE", path.as_ref())?,
                None => Vec::new(),
            },
            bucket,
            region,
            endpoint,
            virtual_hosted,
            provider,
        })
    }

    /// What the user said, with what these settings make of everything that he left out.
    pub(super) fn laid_over(self, config: &S3Config) -> S3Config {
        S3Config {
            region: self.region,
            force_path_style: Some(!self.virtual_hosted),
            sign_payload: Some(self.sign_payload),
            require_content_md5: Some(self.bulk_delete),
            skip_verify: Some(self.skip_verify),
            part_size: Some(self.part_size),
            concurrency: Some(self.concurrency),
            request_payer: Some(config.request_payer.unwrap_or(false)),
            ..config.clone()
        }
    }
}

fn invalid(reason: impl Into<String>) -> StorageError {
    StorageError::Config(reason.into())
}

/// An empty setting counts as not said.
fn said(value: &Option<String>) -> Option<String> {
    value.clone().filter(|value| !value.is_empty())
}

fn parse_endpoint(endpoint: &str) -> Result<Url, StorageError> {
    let text = if endpoint.contains("://") { endpoint.to_owned() } else { format!("https://{endpoint}") };
    let wrong = |reason: &str| {
        invalid(format!(
            "invalid S3 endpoint {:?}: {reason}; expected something like https://s3.example.com",
            without_secrets(endpoint)
        ))
    };
    let url = Url::parse(&text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("only http and https are possible"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("no host"));
    }
    let has_login = !url.username().is_empty() || url.password().is_some();
    if url.query().is_some() || url.fragment().is_some() || has_login {
        return Err(wrong("only scheme, host, port and path are possible"));
    }
    Ok(url)
}

/// The base of all URLs, and whether the bucket is part of its host name.
fn place(
    bucket: &str,
    endpoint: Option<Url>,
    region: Option<&str>,
    provider: &Provider,
    force_path_style: Option<bool>,
) -> Result<(Option<String>, bool), StorageError> {
    if bucket.starts_with("arn:") {
        return Ok((Some(access_point(bucket)?), true));
    }
    if bucket.contains(['/', ':', '?', '#', '%', ' ']) {
        return Err(invalid(format!("invalid S3 bucket name {bucket:?}")));
    }
    let Some(mut url) = endpoint else {
        // The wildcard certificate covers one label only, so a dot in the bucket rules the host form out.
        let virtual_hosted = !force_path_style.unwrap_or(bucket.contains('.'));
        let china = region.filter(|region| region.starts_with("cn-"));
        let base = china.map(|region| match virtual_hosted {
            true => format!("https://{bucket}.s3.{region}.amazonaws.com.cn"),
            false => format!("https://s3.{region}.amazonaws.com.cn"),
        });
        return Ok((base, virtual_hosted));
    };
    let virtual_hosted = !force_path_style.unwrap_or(!provider.virtual_hosted);
    if virtual_hosted {
        let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
        url.set_host(Some(&host)).map_err(|error| {
            invalid(format!("cannot put bucket {bucket:?} into the host name of {url} ({error}); set force-path-style: true"))
        })?;
    }
    Ok((Some(url.as_str().trim_end_matches('/').to_owned()), virtual_hosted))
}

/// `arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME` has a host name of its own.
fn access_point(arn: &str) -> Result<String, StorageError> {
    let wrong = || {
        invalid(format!(
            "invalid S3 access point {arn:?}: expected arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME"
        ))
    };
    let fields: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "s3", region, account, resource] = fields[..] else { return Err(wrong()) };
    let name = resource.strip_prefix("accesspoint/").ok_or_else(wrong)?;
    let domain = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    if [region, account, name].iter().any(|part| part.is_empty() || part.contains(['/', '.', ':'])) {
        return Err(wrong());
    }
    Ok(format!("https://{name}-{account}.s3-accesspoint.{region}.{domain}"))
}

fn part_size(wanted: Option<u64>) -> Result<u64, StorageError> {
    let size = wanted.unwrap_or(DEFAULT_PART_SIZE);
    match (MIN_PART_SIZE..=MAX_PART_SIZE).contains(&size) {
        true => Ok(size),
        false => Err(invalid(format!("part-size must be between 5 MiB and 5 GiB, not {size} bytes"))),
    }
}

fn encryption(config: &S3Config) -> Result<Encryption, StorageError> {
    if let Some(algorithm) = said(&config.sse_customer_algorithm).filter(|name| name != "AES256") {
        return Err(invalid(format!("sse-customer-algorithm must be AES256, not {algorithm:?}")));
    }
    let customer_key = match &config.sse_customer_key_path {
        Some(path) => Some(read_key(path)?),
        None => config.sse_customer_key.clone().filter(|key| !key.expose().is_empty()),
    };
    match (customer_key, said(&config.sse_kms_key_id), said(&config.sse)) {
        (Some(_), Some(_), _) => Err(invalid("sse-customer-key and sse-kms-key-id exclude each other")),
        (Some(_), None, Some(_)) => Err(invalid("sse-customer-key and sse exclude each other")),
        (Some(key), None, None) if is_base64_of_32_bytes(key.expose()) => Ok(Encryption::Customer(key)),
        (Some(_), None, None) => Err(invalid("sse-customer-key must be 32 bytes in base64")),
        (None, Some(_), Some(kind)) if kind != "aws:kms" => {
            Err(invalid(format!("sse-kms-key-id needs sse: aws:kms, not {kind:?}; leave sse out")))
        }
        (None, Some(id), _) => Ok(Encryption::Kms(id)),
        (None, None, Some(kind)) => managed(&kind),
        (None, None, None) => Ok(Encryption::Bucket),
    }
}

fn managed(kind: &str) -> Result<Encryption, StorageError> {
    // As `object_store` calls them.
    let name = match kind {
        "AES256" => "AES256",
        "aws:kms" => "sse-kms",
        _ => return Err(invalid(format!("sse must be AES256 or aws:kms, not {kind:?}"))),
    };
    let key = "aws_server_side_encryption".parse();
    key.map(|key| Encryption::Managed(key, name)).map_err(|error| invalid(format!("sse: {error}")))
}

/// The headers of every request: what the provider needs, and over it what the user said.
fn headers(config: &S3Config, provider: &Provider) -> Result<HeaderMap, StorageError> {
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = provider.header {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in config.headers.iter().flatten() {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(format!("headers: {name:?} is no name of a header")))?;
        if OWN_HEADERS.contains(&header.as_str()) {
            return Err(invalid(format!("headers: {header} is set by walstream itself")));
        }
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| {
            invalid(format!("headers: the value of {header} has characters that cannot be sent"))
        })?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

fn tags(config: &S3Config) -> TagSet {
    let mut tags = TagSet::default();
    for (name, value) in config.tags.iter().flatten() {
        tags.push(name, value);
    }
    tags
}

fn read_key(path: &Path) -> Result<Secret, StorageError> {
    let text = std::fs::read_to_string(path).map_err(StorageError::io("read sse-customer-key-path", path))?;
    Ok(Secret::new(text.trim()))
}

/// 32 bytes are 43 digits and one `=`.
fn is_base64_of_32_bytes(text: &str) -> bool {
    let digit = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    text.len() == 44 && text.strip_suffix('=').is_some_and(|digits| digits.bytes().all(digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(config: S3Config) -> Result<Settings, StorageError> {
        Settings::resolve(&config, &|_| None)
    }

    fn bucket(name: &str) -> S3Config {
        S3Config { bucket: Some(name.into()), ..S3Config::default() }
    }

    #[test]
    fn urls_are_built_as_each_kind_of_store_wants_them() {
        let rows = [
            ("bkt", None, None, None, None, true),
            ("my.bkt", None, None, None, None, false),
            ("bkt", None, Some("cn-north-1"), None, Some("https://bkt.s3.cn-north-1.amazonaws.com.cn"), true),
            ("bkt", Some("http://minio:9000/"), None, None, Some("http://minio:9000"), false),
            ("bkt", Some("s3.example.com"), None, None, Some("https://s3.example.com"), false),
            (
                "bkt",
                Some("https://s3.example.com"),
                None,
                Some(false),
                Some("https://bkt.s3.example.com"),
                true,
            ),
            (
                "arn:aws:s3:eu-west-1:123:accesspoint/ap",
                None,
                Some("eu-west-1"),
                None,
                Some("https://ap-123.s3-accesspoint.eu-west-1.amazonaws.com"),
                true,
            ),
        ];
        for (name, endpoint, region, force_path_style, base, virtual_hosted) in rows {
            let settings = resolve(S3Config {
                endpoint: endpoint.map(str::to_owned),
                region: region.map(str::to_owned),
                force_path_style,
                ..bucket(name)
            })
            .unwrap();
            assert_eq!(
                (settings.endpoint.as_deref(), settings.virtual_hosted),
                (base, virtual_hosted),
                "{name}"
            );
        }
    }

    #[test]
    fn the_region_is_what_was_said_then_the_environment_then_a_guess() {
        let env = |name: &str| (name == "AWS_REGION").then(|| "from-env".to_owned());
        let said = S3Config { region: Some("said".into()), ..bucket("b") };
        let elsewhere = S3Config { endpoint: Some("http://h".into()), ..bucket("b") };
        let region = |config: &S3Config, env: &dyn Fn(&str) -> Option<String>| {
            Settings::resolve(config, env).unwrap().region
        };
        assert_eq!(region(&said, &env).as_deref(), Some("said"));
        assert_eq!(region(&elsewhere, &env).as_deref(), Some("from-env"));
        assert_eq!(region(&elsewhere, &|_| None).as_deref(), Some("us-east-1"));
        assert_eq!(region(&bucket("b"), &|_| None), None);
    }

    #[test]
    fn what_the_user_says_wins_over_the_provider() {
        let r2 = S3Config { endpoint: Some("https://a.r2.cloudflarestorage.com".into()), ..bucket("b") };
        assert_eq!(resolve(r2.clone()).unwrap().concurrency, 2);
        assert_eq!(resolve(S3Config { concurrency: Some(7), ..r2 }).unwrap().concurrency, 7);
    }

    fn with_header(name: &str, value: &str) -> S3Config {
        let headers = [(name.to_owned(), Secret::new(value))].into();
        S3Config { headers: Some(headers), ..bucket("b") }
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_reason() {
        let key = || Some(Secret::new("MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="));
        let rows = [
            (S3Config::default(), "needs a bucket"),
            (bucket("a/b"), "invalid S3 bucket name"),
            (bucket("arn:aws:s3:r:1:accesspoint/"), "invalid S3 access point"),
            (
                S3Config { part_size: Some(1), ..bucket("b") },
                "part-size must be between 5 MiB and 5 GiB, not 1 bytes",
            ),
            (S3Config { endpoint: Some("ftp://h".into()), ..bucket("b") }, "only http and https"),
            (S3Config { endpoint: Some("https://".into()), ..bucket("b") }, "invalid S3 endpoint"),
            (S3Config { access_key_id: Some("AK".into()), ..bucket("b") }, "secret-access-key is missing"),
            (S3Config { sse_customer_key: Some(Secret::new("short")), ..bucket("b") }, "32 bytes in base64"),
            (
                S3Config { sse_customer_key: key(), sse_kms_key_id: Some("k".into()), ..bucket("b") },
                "exclude each other",
            ),
            (S3Config { sse: Some("AES128".into()), ..bucket("b") }, "sse must be AES256 or aws:kms"),
            (
                S3Config { sse: Some("AES256".into()), sse_kms_key_id: Some("k".into()), ..bucket("b") },
                "needs sse: aws:kms",
            ),
            (with_header("Authorization", "x"), "headers: authorization is set by walstream itself"),
            (with_header("no name", "x"), "headers: \"no name\" is no name of a header"),
            (with_header("x-key", "hunter2\n"), "headers: the value of x-key has characters"),
        ];
        for (config, sentence) in rows {
            let error = resolve(config).unwrap_err().to_string();
            assert!(error.contains(sentence) && !error.contains("hunter2"), "{error}");
        }
        assert!(resolve(S3Config { sse_customer_key: key(), ..bucket("b") }).is_ok());
    }
}
