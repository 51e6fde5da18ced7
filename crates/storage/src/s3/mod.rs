//! A replica in an S3 bucket.
//!
//! Invariant: what is here is special to S3; the rest is in [`cloud`](crate::cloud).

mod credentials;
mod oss;
mod profile;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use object_store::aws::{
    AmazonS3, AmazonS3Builder, AwsCredentialProvider, S3ConditionalPut, resolve_bucket_region,
};
use object_store::client::HttpRequest;
use object_store::list::PaginatedListOptions;
use object_store::{Certificate, ClientOptions, Error, HeaderValue, PutMode};

use crate::cloud::{
    Bucket, Cloud, CloudClient, Completion, Connector, FIRST_TRY, Facts, Opened, RETRIES, client_options,
    retry,
};
use crate::config::{OssConfig, S3Config};
use crate::error::StorageError;
use crate::in_use::InUse;
use crate::layout::Layout;
use settings::{Encryption, Settings};

/// A client for a configured path. Nothing is asked of the server yet.
pub(crate) fn client(config: &S3Config) -> Result<CloudClient, StorageError> {
    static IN_USE: InUse<S3Config, Bucket> = InUse::none();
    let settings = S3Config { path: None, ..config.clone() };
    let bucket =
        IN_USE.get(settings, || S3::new(config, &|name| std::env::var(name).ok()).map(Bucket::new))?;
    CloudClient::new(bucket, config.path.as_deref())
}

/// A client for a configured path on Alibaba Cloud OSS. Nothing is asked of the server yet.
pub(crate) fn oss_client(config: &OssConfig) -> Result<CloudClient, StorageError> {
    static IN_USE: InUse<OssConfig, Bucket> = InUse::none();
    let settings = OssConfig { path: None, ..config.clone() };
    let bucket =
        IN_USE.get(settings, || oss::bucket(config, &|name| std::env::var(name).ok()).map(Bucket::new))?;
    CloudClient::new(bucket, config.path.as_deref())
}

/// The configuration with every default filled in, as of this environment. Credentials are not looked for.
pub(crate) fn complete(config: &S3Config) -> Result<S3Config, StorageError> {
    Settings::resolve(config, &|name| std::env::var(name).ok()).map(|settings| settings.laid_over(config))
}

/// A bucket of Amazon's or of anyone who speaks its protocol.
#[derive(Debug)]
struct S3 {
    settings: Settings,
    dialect: Dialect,
}

/// What a bucket is called.
#[derive(Clone, Copy, Debug)]
struct Dialect {
    kind: &'static str,
    cloud: &'static str,
}

const S3_DIALECT: Dialect = Dialect { kind: "s3", cloud: "S3" };

impl S3 {
    fn new(config: &S3Config, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, StorageError> {
        Ok(S3 { settings: Settings::resolve(config, env)?, dialect: S3_DIALECT })
    }

    async fn region(&self) -> object_store::Result<String> {
        match &self.settings.region {
            Some(region) => Ok(region.clone()),
            None => resolve_bucket_region(&self.settings.bucket, &self.client_options()).await,
        }
    }

    /// The source of the keys, which all clients share.
    fn keys(&self, builder: AmazonS3Builder) -> object_store::Result<AwsCredentialProvider> {
        let source = self.settings.credentials.configure(builder).build()?;
        Ok(self.settings.credentials.guard(Arc::clone(source.credentials())))
    }

    fn builder(&self, region: &str, connector: Connector) -> AmazonS3Builder {
        let settings = &self.settings;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(region)
            .with_virtual_hosted_style_request(settings.virtual_hosted)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_unsigned_payload(!settings.sign_payload)
            .with_disable_bulk_delete(!settings.bulk_delete)
            .with_request_payer(settings.request_payer)
            .with_retry(retry(RETRIES))
            .with_client_options(self.client_options())
            .with_http_connector(connector);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        match &settings.encryption {
            Encryption::Bucket => builder,
            Encryption::Customer(key) => builder.with_ssec_encryption(key.expose()),
            Encryption::Kms(id) => builder.with_sse_kms_encryption(id),
            Encryption::Managed(key, kind) => builder.with_config(*key, *kind),
        }
    }

    fn client_options(&self) -> ClientOptions {
        let settings = &self.settings;
        let plain_http = settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let roots = settings.roots.iter().filter_map(|root| Certificate::from_der(root).ok());
        roots
            .fold(client_options(plain_http), ClientOptions::with_root_certificate)
            .with_allow_invalid_certificates(settings.skip_verify)
            .with_default_headers(settings.headers.clone())
    }
}

#[async_trait]
impl Cloud for S3 {
    fn facts(&self) -> Facts {
        let settings = &self.settings;
        Facts {
            kind: self.dialect.kind,
            cloud: self.dialect.cloud,
            noun: "bucket",
            bucket: settings.bucket.clone(),
            url: format!("{}://{}", self.dialect.kind, settings.bucket),
            server: settings.endpoint.clone().unwrap_or_else(|| "Amazon S3".to_owned()),
            layout: Layout::Hex,
            time_key: "litestream-timestamp",
            storage_class: settings.storage_class.clone(),
            part_size: settings.part_size,
            concurrency: settings.concurrency,
            equal_parts: settings.provider.equal_parts,
            creates_exclusively: settings.provider.creates_exclusively,
            create_mode: match settings.provider.creates_by_header {
                true => PutMode::Overwrite,
                false => PutMode::Create,
            },
            tags: settings.tags.clone(),
        }
    }

    async fn connect(&self) -> object_store::Result<Opened> {
        let region = self.region().await?;
        let connector = Connector::asking(EndOfMultipart);
        let builder = || self.builder(&region, connector.clone());
        let keys = self.keys(builder())?;
        let build = |retries| -> object_store::Result<Arc<AmazonS3>> {
            Ok(Arc::new(builder().with_credentials(Arc::clone(&keys)).with_retry(retry(retries)).build()?))
        };
        let (store, impatient) = (build(RETRIES)?, build(FIRST_TRY)?);
        Ok(Opened { store, impatient, connector })
    }

    async fn survey_top(&self, opened: &Opened) {
        if let Some(prefix) = unreachable_replica(opened).await {
            let bucket = &self.settings.bucket;
            tracing::warn!(
                "bucket {bucket} holds a Litestream replica below {prefix}…, which walstream cannot read; \
                 copy its objects to a path of their own and use s3://{bucket}/PATH"
            );
        }
    }
}

/// `POST KEY?uploadId=…`
#[derive(Debug)]
struct EndOfMultipart;

impl Completion for EndOfMultipart {
    fn is(&self, request: &HttpRequest) -> bool {
        let query = request.uri().query().unwrap_or_default();
        request.method() == "POST" && query.split('&').any(|pair| pair.starts_with("uploadId="))
    }

    fn ask_for_free_name(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        // Not part of the signature, which S3 allows for headers outside x-amz-*.
        request.headers_mut().insert("if-none-match", HeaderValue::from_static("*"));
        Ok(())
    }
}

/// The peer's replica at the top of a bucket has keys that begin with `./` or `/` (see
/// [`clean_path`](crate::layout::clean_path)). They cannot be asked for here, so whoever expects to find them must hear
/// of it.
async fn unreachable_replica(opened: &Opened) -> Option<&'static str> {
    for prefix in ["./000", "/000"] {
        let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        let found = match opened.impatient.list_paginated(Some(prefix), options).await {
            Ok(page) => !page.result.objects.is_empty(),
            // A key that object_store cannot express makes the listing fail, and is a find as well.
            Err(error) => matches!(error, Error::InvalidPath { .. }),
        };
        if found {
            return Some(prefix);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ReplicaClient as _;
    use crate::cloud::Bucket;
    use std::time::{Duration, Instant};
    use walstream_test_support::{App, Moto, Program};

    /// A bucket on `endpoint` for someone without keys, whose machine has a metadata service at `metadata`.
    fn without_keys(endpoint: &str, metadata: &str) -> S3 {
        crate::connect::install_tls();
        let config = S3Config {
            bucket: Some(Moto::BUCKET.into()),
            endpoint: Some(endpoint.into()),
            ..S3Config::default()
        };
        let env = |name: &str| (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT").then(|| metadata.to_owned());
        S3::new(&config, &env).unwrap()
    }

    #[tokio::test]
    async fn moto_keys_of_the_machines_role_are_used() {
        let server = Moto::start();
        let s3 = without_keys(&server.endpoint(), &server.endpoint());
        let keys = s3.keys(s3.builder("us-east-1", Connector::default())).unwrap();
        assert!(keys.get_credential().await.unwrap().token.is_some(), "keys of a role are temporary");
        CloudClient::new(Arc::new(Bucket::new(s3)), None).unwrap().init().await.unwrap();
    }

    #[tokio::test]
    async fn without_any_keys_the_error_says_how_to_give_them() {
        let nobody = "http://127.0.0.1:1";
        let client = CloudClient::new(Arc::new(Bucket::new(without_keys(nobody, nobody))), None).unwrap();
        let begun = Instant::now();
        let error = client.init().await.unwrap_err().to_string();
        assert!(
            error.starts_with("s3://bkt: first contact failed: no AWS credentials: none are set"),
            "{error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn moto_a_peers_replica_at_the_top_of_a_bucket_is_noticed() {
        crate::connect::install_tls();
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path().join("app.db"));
        app.execute("CREATE TABLE t(x)");
        for (path, prefix) in [("?", Some("./000")), ("/?", Some("/000")), ("/db?", None)] {
            let server = Moto::start();
            let url = format!("s3://{}{path}endpoint={}&region=us-east-1", Moto::BUCKET, server.endpoint());
            let database = folder.path().join(format!("{}.db", server.address()));
            std::fs::copy(app.path(), &database).unwrap();
            Program::litestream().replicate_once(&database, &url);

            let Ok(crate::ReplicaConfig::S3(mut config)) = url.parse() else { panic!("{url}") };
            config.access_key_id = Some("id".into());
            config.secret_access_key = Some("secret".to_owned().into());
            let s3 = S3::new(&config, &|_| None).unwrap();
            let opened = s3.connect().await.unwrap();
            assert_eq!(unreachable_replica(&opened).await, prefix, "{:?}", server.keys(""));
            client(&config).unwrap().init().await.unwrap();
        }
    }
}
