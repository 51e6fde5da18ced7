//! A replica in a bucket of Google Cloud Storage.
//!
//! Invariant: what is here is special to Google; the rest is in [`cloud`](crate::cloud).
//!
//! `object_store` speaks the XML interface. It refuses conditions at the end of a multipart upload, so the name of a
//! large file is looked up before its upload and once more at its end.

mod credentials;

use std::sync::Arc;

use ::url::Url;
use async_trait::async_trait;
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorage, GoogleCloudStorageBuilder};
use object_store::{PutMode, TagSet};

use crate::cloud::{
    Bucket, Cloud, CloudClient, Connector, DEFAULT_CONCURRENCY, DEFAULT_PART_SIZE, FIRST_TRY, Facts, Opened,
    RETRIES, client_options, retry,
};
use crate::config::GcsConfig;
use crate::error::StorageError;
use crate::in_use::InUse;
use crate::layout::Layout;
use crate::url::without_secrets;
use credentials::Credentials;

/// Where an emulator listens, as Google's own libraries know it.
const EMULATOR: &str = "STORAGE_EMULATOR_HOST";

/// A client for a configured path. Nothing is asked of the server yet.
pub(crate) fn client(config: &GcsConfig) -> Result<CloudClient, StorageError> {
    static IN_USE: InUse<GcsConfig, Bucket> = InUse::none();
    let settings = GcsConfig { path: None, ..config.clone() };
    let bucket =
        IN_USE.get(settings, || Gcs::new(config, &|name| std::env::var(name).ok()).map(Bucket::new))?;
    CloudClient::new(bucket, config.path.as_deref())
}

/// A bucket of Google's, or of another server that speaks its protocol.
#[derive(Debug)]
struct Gcs {
    bucket: String,
    /// Scheme, host and port. `None`: Google itself.
    endpoint: Option<String>,
    credentials: Credentials,
}

impl Gcs {
    fn new(config: &GcsConfig, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, StorageError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let bucket = config.bucket.clone().filter(|bucket| !bucket.is_empty()).ok_or_else(|| {
            StorageError::Config("a GCS replica needs a bucket: use gs://BUCKET/PATH".to_owned())
        })?;
        if bucket.contains(['/', ':', '?', '#', '%', ' ']) {
            return Err(StorageError::Config(format!("invalid GCS bucket name {bucket:?}")));
        }
        let said = config.endpoint.clone().filter(|endpoint| !endpoint.is_empty());
        let endpoint = match (said, env(EMULATOR)) {
            (Some(endpoint), _) => Some(server_at("endpoint", &endpoint, "https")?),
            (None, Some(host)) => Some(server_at(EMULATOR, &host, "http")?),
            (None, None) => None,
        };
        let is_plain = endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let credentials = if is_plain { Credentials::None } else { Credentials::find(&env)? };
        Ok(Gcs { bucket, endpoint, credentials })
    }

    fn builder(&self, connector: Connector) -> GoogleCloudStorageBuilder {
        let builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&self.bucket)
            .with_retry(retry(RETRIES))
            .with_client_options(client_options(self.credentials == Credentials::None))
            .with_http_connector(connector);
        match &self.endpoint {
            Some(base) => builder.with_base_url(base),
            None => builder,
        }
    }

    /// The source of the tokens, which all clients share.
    fn tokens(&self, builder: GoogleCloudStorageBuilder) -> object_store::Result<GcpCredentialProvider> {
        let source = self.credentials.configure(builder).build()?;
        Ok(self.credentials.guard(Arc::clone(source.credentials())))
    }
}

/// `HOST:PORT` or a URL, of which Google's libraries use no more than scheme, host and port.
fn server_at(setting: &str, host: &str, scheme: &str) -> Result<String, StorageError> {
    let text = if host.contains("://") { host.to_owned() } else { format!("{scheme}://{host}") };
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let url = url.ok_or_else(|| {
        StorageError::Config(format!(
            "invalid {setting} {:?} of a GCS replica; expected something like {scheme}://HOST:PORT",
            without_secrets(host)
        ))
    })?;
    Ok(url.origin().ascii_serialization())
}

#[async_trait]
impl Cloud for Gcs {
    fn facts(&self) -> Facts {
        Facts {
            kind: "gs",
            cloud: "GCS",
            noun: "bucket",
            bucket: self.bucket.clone(),
            url: format!("gs://{}", self.bucket),
            server: self.endpoint.clone().unwrap_or_else(|| "Google Cloud Storage".to_owned()),
            layout: Layout::Ltx,
            time_key: "litestream-timestamp",
            storage_class: None,
            part_size: DEFAULT_PART_SIZE,
            concurrency: DEFAULT_CONCURRENCY,
            equal_parts: false,
            creates_exclusively: self.endpoint.is_none().then_some(true),
            create_mode: PutMode::Create,
            tags: TagSet::default(),
        }
    }

    async fn connect(&self) -> object_store::Result<Opened> {
        let connector = Connector::default();
        let builder = || self.builder(connector.clone());
        let tokens = self.tokens(builder())?;
        let build = |retries| -> object_store::Result<Arc<GoogleCloudStorage>> {
            Ok(Arc::new(builder().with_credentials(Arc::clone(&tokens)).with_retry(retry(retries)).build()?))
        };
        let (store, impatient) = (build(RETRIES)?, build(FIRST_TRY)?);
        Ok(Opened { store, impatient, connector })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use walstream_test_support::Answers;

    #[test]
    fn an_emulator_is_found_in_every_spelling() {
        for (host, base) in [
            ("localhost:9023", "http://localhost:9023"),
            ("http://127.0.0.1:9023", "http://127.0.0.1:9023"),
            ("https://gcs.test/storage/v1/", "https://gcs.test"),
        ] {
            assert_eq!(server_at(EMULATOR, host, "http").unwrap(), base);
        }
        let error = server_at("endpoint", "ftp://host", "https").unwrap_err().to_string();
        assert!(error.starts_with("invalid endpoint \"ftp://host\" of a GCS replica; expected"), "{error}");
    }

    #[test]
    fn credentials_never_go_over_plain_http() {
        let env = |name: &str| (name == EMULATOR).then(|| "localhost:9023".to_owned());
        for (endpoint, server, has_credentials) in [
            (None, "http://localhost:9023", false),
            (Some("http://proxy"), "http://proxy", false),
            (
                Some("storage.europe-west3.rep.googleapis.com"),
                "https://storage.europe-west3.rep.googleapis.com",
                true,
            ),
        ] {
            let config =
                GcsConfig { bucket: Some("b".into()), endpoint: endpoint.map(str::to_owned), path: None };
            let gcs = Gcs::new(&config, &env).unwrap();
            assert_eq!(gcs.facts().server, server);
            assert_eq!(gcs.credentials != Credentials::None, has_credentials);
        }
    }

    #[tokio::test]
    async fn the_key_of_a_service_account_signs_tokens() {
        crate::connect::install_tls();
        let folder = tempfile::tempdir().unwrap();
        let (pem, file) = (folder.path().join("key"), folder.path().join("key.json"));
        let make = ["-q", "-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", "", "-f"];
        let made = std::process::Command::new("ssh-keygen").args(make).arg(&pem).status().unwrap();
        assert!(made.success());
        let key = std::fs::read_to_string(&pem).unwrap();
        let account = serde_json::json!({
            "type": "service_account", "client_email": "a@b", "private_key_id": "1", "private_key": key,
        });
        std::fs::write(&file, account.to_string()).unwrap();

        let env = |name: &str| (name == "GOOGLE_APPLICATION_CREDENTIALS").then(|| file.display().to_string());
        let config = GcsConfig { bucket: Some("b".into()), ..GcsConfig::default() };
        let gcs = Gcs::new(&config, &env).unwrap();
        let tokens = gcs.tokens(gcs.builder(Connector::default())).unwrap();
        let token = tokens.get_credential().await.unwrap();
        assert_eq!(token.bearer.split('.').count(), 3, "header, claims, signature");
    }

    /// As on a virtual machine, or in a pod with a workload identity.
    #[tokio::test]
    async fn the_metadata_server_gives_tokens() {
        crate::connect::install_tls();
        let server = Answers::start(&[(
            "/computeMetadata/v1/instance/service-accounts/default/token",
            r#"{"access_token": "t0ken", "expires_in": 3600, "token_type": "Bearer"}"#,
        )]);
        // SAFETY: nobody else in this process reads or writes the environment meanwhile.
        unsafe { std::env::set_var("GCE_METADATA_HOST", server.address()) };
        let config = GcsConfig { bucket: Some("b".into()), ..GcsConfig::default() };
        let gcs = Gcs::new(&config, &|_| None).unwrap();
        let tokens = gcs.tokens(gcs.builder(Connector::default())).unwrap();
        assert_eq!(tokens.get_credential().await.unwrap().bearer, "t0ken");
        assert!(server.asked("token").iter().all(|head| head.contains("metadata-flavor: google")));
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_reason() {
        for (bucket, sentence) in [(None, "needs a bucket"), (Some("a b"), "invalid GCS bucket name \"a b\"")]
        {
            let config = GcsConfig { bucket: bucket.map(str::to_owned), ..GcsConfig::default() };
            let error = Gcs::new(&config, &|_| None).unwrap_err().to_string();
            assert!(error.contains(sentence), "{error}");
        }
    }
}
