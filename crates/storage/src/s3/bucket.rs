//! One S3 bucket: its connections, its keys and what is known of its manners. All replicas in it share this.
//!
//! Invariant: no request goes out before [`Bucket::open`]; what has to be asked (the region, whether names are
//! protected) is asked once and only when it is first needed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut, resolve_bucket_region};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, HeaderMap, HeaderValue, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig,
};
use tokio::sync::OnceCell;

use super::settings::{Encryption, Settings};
use super::transport::Connector;
use crate::config::S3Config;
use crate::error::StorageError;

/// Retries of one request: five, within some three seconds of waiting. More patience is the caller's, who can say
/// meanwhile that the store is away.
const RETRIES: usize = 5;
const RETRY_WITHIN: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
const CONNECT_WITHIN: Duration = Duration::from_secs(4);

/// A bucket that is shared by the replicas in it.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) settings: Settings,
    opened: OnceCell<Opened>,
    creates_exclusively: OnceCell<bool>,
}

/// A bucket that requests can be sent to.
#[derive(Debug)]
pub(super) struct Opened {
    /// For the work: with retries.
    pub(super) store: AmazonS3,
    /// For the first check: an answer at once matters more than success.
    pub(super) impatient: AmazonS3,
    complete_exclusively: Arc<AtomicBool>,
}

impl Bucket {
    /// The bucket of a configuration: the one in use already, if another replica has the same settings.
    pub(super) fn shared(config: &S3Config) -> Result<Arc<Self>, StorageError> {
        type InUse = Mutex<Vec<(S3Config, Weak<Bucket>)>>;
        static IN_USE: LazyLock<InUse> = LazyLock::new(InUse::default);

        let key = S3Config { path: None, ..config.clone() };
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|(_, bucket)| bucket.strong_count() > 0);
        if let Some(bucket) =
            in_use.iter().find(|(known, _)| *known == key).and_then(|(_, weak)| weak.upgrade())
        {
            return Ok(bucket);
        }
        let bucket = Arc::new(Bucket::new(Settings::resolve(config, &|name| std::env::var(name).ok())?));
        in_use.push((key, Arc::downgrade(&bucket)));
        Ok(bucket)
    }

    fn new(settings: Settings) -> Self {
        Bucket { settings, opened: OnceCell::new(), creates_exclusively: OnceCell::new() }
    }

    /// The server, as messages name it.
    pub(super) fn server(&self) -> &str {
        self.settings.endpoint.as_deref().unwrap_or("Amazon S3")
    }

    /// The connections, made when first asked for.
    pub(super) async fn open(&self) -> object_store::Result<&Opened> {
        self.opened.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> object_store::Result<Opened> {
        let region = match &self.settings.region {
            Some(region) => region.clone(),
            None => resolve_bucket_region(&self.settings.bucket, &self.client_options()).await?,
        };
        let complete_exclusively = Arc::new(AtomicBool::new(false));
        let builder = || {
            let connector = Connector { complete_exclusively: Arc::clone(&complete_exclusively) };
            self.builder(&region).with_http_connector(connector)
        };
        // Built once to learn the source of the keys, which both clients then share.
        let source = self.settings.credentials.configure(builder()).build()?;
        let keys = self.settings.credentials.guard(Arc::clone(source.credentials()));
        let build =
            |retries| builder().with_credentials(Arc::clone(&keys)).with_retry(retry(retries)).build();
        Ok(Opened { store: build(RETRIES)?, impatient: build(1)?, complete_exclusively })
    }

    fn builder(&self, region: &str) -> AmazonS3Builder {
        let settings = &self.settings;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(region)
            .with_virtual_hosted_style_request(settings.virtual_hosted)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_unsigned_payload(!settings.sign_payload)
            .with_disable_bulk_delete(!settings.bulk_delete)
            .with_retry(retry(RETRIES))
            .with_client_options(self.client_options());
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        match &settings.encryption {
            Encryption::Bucket => builder,
            Encryption::Customer(key) => builder.with_ssec_encryption(key.expose()),
            Encryption::Kms(id) => builder.with_sse_kms_encryption(id),
        }
    }

    fn client_options(&self) -> ClientOptions {
        let settings = &self.settings;
        let plain_http = settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = settings.provider.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        ClientOptions::new()
            .with_user_agent(HeaderValue::from_static(concat!("walstream/", env!("CARGO_PKG_VERSION"))))
            .with_allow_http(plain_http)
            .with_allow_invalid_certificates(settings.skip_verify)
            .with_connect_timeout(CONNECT_WITHIN)
            .with_default_headers(headers)
    }

    /// Whether the store refuses to write over a name that is taken. Several stores accept the condition and ignore
    /// it, so where it is not known it is tried out with an object below `root` whose name is no LTX name.
    pub(super) async fn creates_exclusively(&self, root: &str) -> object_store::Result<bool> {
        let answer = self.creates_exclusively.get_or_try_init(|| async {
            let opened = self.open().await?;
            let exclusive = match self.settings.provider.creates_exclusively {
                Some(known) => known,
                None => probe(&opened.store, root).await?,
            };
            if !exclusive {
                tracing::warn!(
                    bucket = self.settings.bucket,
                    server = self.server(),
                    "this store overwrites existing objects even when asked not to; names are looked up before \
                     each write instead, so make sure that only one process replicates to each path"
                );
            }
            opened.complete_exclusively.store(exclusive, Ordering::Relaxed);
            Ok(exclusive)
        });
        answer.await.copied()
    }
}

fn retry(max_retries: usize) -> RetryConfig {
    RetryConfig {
        max_retries,
        retry_timeout: RETRY_WITHIN,
        backoff: BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LONGEST_PAUSE, base: 2. },
    }
}

/// Writes the same new name twice. A store that refuses the condition as such does not honour it either.
async fn probe(store: &AmazonS3, root: &str) -> object_store::Result<bool> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    let name = format!(".walstream-probe-{:x}-{nanos:x}", std::process::id());
    let path = Path::parse(if root.is_empty() { name } else { format!("{root}/{name}") })?;
    let create = || {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(
            &path,
            PutPayload::from_static(b"walstream looks whether names are protected\n"),
            options,
        )
    };
    let refused = match create().await {
        Ok(_) => matches!(create().await, Err(object_store::Error::AlreadyExists { .. })),
        // The first write landed although its answer was lost, and a retry of it was refused.
        Err(object_store::Error::AlreadyExists { .. }) => true,
        Err(error) if super::failure::is_not_implemented(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    if let Err(error) = store.delete(&path).await {
        tracing::warn!(object = %path, %error, "cannot delete the object that was used to try out the store");
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use walstream_test_support::Moto;

    /// A bucket on `endpoint` for someone without keys, whose machine has a metadata service at `metadata`.
    fn bucket(endpoint: &str, metadata: &str) -> Bucket {
        crate::connect::install_tls();
        let config = S3Config {
            bucket: Some(Moto::BUCKET.into()),
            endpoint: Some(endpoint.into()),
            ..S3Config::default()
        };
        let env = |name: &str| (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| metadata.to_owned());
        Bucket::new(Settings::resolve(&config, &env).unwrap())
    }

    #[tokio::test]
    async fn moto_keys_of_the_machines_role_are_used() {
        let server = Moto::start();
        let bucket = bucket(&server.endpoint(), &server.endpoint());
        let opened = bucket.open().await.unwrap();
        let key = opened.store.credentials().get_credential().await.unwrap();
        assert!(key.token.is_some(), "keys of a role are temporary");
        assert!(opened.store.head(&Path::from("missing")).await.is_err());
    }

    #[tokio::test]
    async fn without_any_keys_the_error_says_how_to_give_them() {
        let nobody = "http://127.0.0.1:1";
        let bucket = Arc::new(bucket(nobody, nobody));
        let begun = Instant::now();
        let error = bucket.open().await.unwrap().store.head(&Path::from("x")).await.unwrap_err();
        let error = super::super::failure::Place::new(&bucket, "").failed("first contact", error).to_string();
        assert!(
            error.starts_with("s3://bkt: first contact failed: no AWS credentials: none are set"),
            "{error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
