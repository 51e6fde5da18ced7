//! A replica in a container of Azure Blob Storage.
//!
//! Invariant: what is here is special to Azure; the rest is in [`cloud`](crate::cloud).

mod credentials;
mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use object_store::azure::{AzureAuthorizer, AzureCredential, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::HttpRequest;
use object_store::{HeaderValue, PutMode, TagSet};

use crate::cloud::{
    Bucket, Cloud, CloudClient, Completion, Connector, DEFAULT_CONCURRENCY, DEFAULT_PART_SIZE, FIRST_TRY,
    Facts, Opened, RETRIES, client_options, retry,
};
use crate::config::AzureConfig;
use crate::error::StorageError;
use crate::in_use::InUse;
use crate::layout::Layout;
use settings::Settings;

/// A client for a configured path. Nothing is asked of the server yet.
pub(crate) fn client(config: &AzureConfig) -> Result<CloudClient, StorageError> {
    static IN_USE: InUse<AzureConfig, Bucket> = InUse::none();
    let settings = AzureConfig { path: None, ..config.clone() };
    let bucket = IN_USE.get(settings, || {
        Ok(Bucket::new(Azure { settings: Settings::resolve(config, &|name| std::env::var(name).ok())? }))
    })?;
    CloudClient::new(bucket, config.path.as_deref())
}

/// A container of Azure's, or of another server that speaks its protocol.
#[derive(Debug)]
struct Azure {
    settings: Settings,
}

impl Azure {
    fn builder(&self, connector: Connector) -> MicrosoftAzureBuilder {
        let Settings { account, container, endpoint, .. } = &self.settings;
        let plain_http = endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let builder = MicrosoftAzureBuilder::new()
            .with_account(account)
            .with_container_name(container)
            .with_retry(retry(RETRIES))
            .with_client_options(client_options(plain_http))
            .with_http_connector(connector);
        match endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint.clone()),
            None => builder,
        }
    }
}

#[async_trait]
impl Cloud for Azure {
    fn facts(&self) -> Facts {
        let Settings { account, container, endpoint, .. } = &self.settings;
        Facts {
            kind: "abs",
            cloud: "Azure",
            noun: "container",
            bucket: container.clone(),
            url: format!("abs://{account}@{container}"),
            server: endpoint.clone().unwrap_or_else(|| format!("https://{account}.blob.core.windows.net")),
            layout: Layout::Ltx,
            time_key: "litestreamtimestamp",
            storage_class: None,
            part_size: DEFAULT_PART_SIZE,
            concurrency: DEFAULT_CONCURRENCY,
            equal_parts: false,
            creates_exclusively: endpoint.is_none().then_some(true),
            create_mode: PutMode::Create,
            tags: TagSet::default(),
        }
    }

    async fn connect(&self) -> object_store::Result<Opened> {
        let Settings { account, credentials, .. } = &self.settings;
        let key = credentials.shared_key()?;
        let connector = Connector::asking(EndOfBlocks { account: account.clone(), key });
        let builder = || self.builder(connector.clone());
        let source = credentials.configure(builder()).build()?;
        let tokens = credentials.guard(Arc::clone(source.credentials()));
        let build = |retries| -> object_store::Result<Arc<MicrosoftAzure>> {
            Ok(Arc::new(builder().with_credentials(Arc::clone(&tokens)).with_retry(retry(retries)).build()?))
        };
        let (store, impatient) = (build(RETRIES)?, build(FIRST_TRY)?);
        Ok(Opened { store, impatient, connector })
    }
}

/// `PUT BLOB?comp=blocklist`
struct EndOfBlocks {
    account: String,
    /// Signatures with a shared key cover the condition, so the request is signed anew.
    key: Option<AzureCredential>,
}

impl std::fmt::Debug for EndOfBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EndOfBlocks").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Completion for EndOfBlocks {
    fn is(&self, request: &HttpRequest) -> bool {
        let query = request.uri().query().unwrap_or_default();
        request.method() == "PUT" && query.split('&').any(|pair| pair == "comp=blocklist")
    }

    fn ask_for_free_name(&self, request: &mut HttpRequest) -> object_store::Result<()> {
        request.headers_mut().insert("if-none-match", HeaderValue::from_static("*"));
        if let Some(key) = &self.key {
            request.headers_mut().remove("authorization");
            AzureAuthorizer::new(key, &self.account).try_authorize(request)?;
        }
        Ok(())
    }
}
