//! One bucket: its connections and what is known of its manners. All replicas in it share this.
//!
//! Invariant: no request goes out before [`Bucket::open`]; what has to be asked (the region, whether names are
//! protected) is asked once and only when it is first needed.

use std::time::{SystemTime, UNIX_EPOCH};

use object_store::path::Path;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, HeaderValue, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig,
};
use tokio::sync::OnceCell;

use super::{Cloud, Facts, Opened, Store};
use crate::http::{CONNECT_WITHIN, USER_AGENT};
use crate::tries::{FIRST_PAUSE, LONGEST_PAUSE, RETRY_WITHIN};
use crate::trust::built_in_roots;

/// Retries of a request whose answer is needed at once.
pub(crate) const FIRST_TRY: usize = 1;

/// A bucket that is shared by the replicas in it.
#[derive(Debug)]
pub(crate) struct Bucket {
    pub(crate) facts: Facts,
    cloud: Box<dyn Cloud>,
    opened: OnceCell<Opened>,
    creates_exclusively: OnceCell<bool>,
}

impl Bucket {
    /// A bucket that nothing has been asked of yet.
    pub(crate) fn new(cloud: impl Cloud) -> Self {
        Bucket {
            facts: cloud.facts(),
            cloud: Box::new(cloud),
            opened: OnceCell::new(),
            creates_exclusively: OnceCell::new(),
        }
    }

    /// The connections, made when first asked for.
    pub(crate) async fn open(&self) -> object_store::Result<&Opened> {
        self.opened.get_or_try_init(|| self.cloud.connect()).await
    }

    /// Warns of what is in the way of a replica at the top of the bucket.
    pub(super) async fn survey_top(&self, opened: &Opened) {
        self.cloud.survey_top(opened).await;
    }

    /// Whether the store refuses to write over a name that is taken. Several stores accept the condition and ignore
    /// it, so where it is not known it is tried out with an object below `root` whose name is no LTX name.
    pub(super) async fn creates_exclusively(&self, root: &str) -> object_store::Result<bool> {
        let answer = self.creates_exclusively.get_or_try_init(|| async {
            let opened = self.open().await?;
            let exclusive = match self.facts.creates_exclusively {
                Some(known) => known,
                None => probe(&*opened.store, root, &self.facts.create_mode).await?,
            };
            if !exclusive {
                tracing::warn!(
                    bucket = self.facts.bucket,
                    server = self.facts.server,
                    "this store overwrites existing objects even when asked not to; names are looked up before \
                     each write instead, so make sure that only one process replicates to each path"
                );
            }
            opened.connector.complete_exclusively(exclusive);
            Ok(exclusive)
        });
        answer.await.copied()
    }
}

/// What is the same for the HTTP clients of all clouds.
pub(crate) fn client_options(plain_http: bool) -> ClientOptions {
    let roots = built_in_roots().iter().filter_map(|root| Certificate::from_der(root).ok());
    roots
        .fold(ClientOptions::new(), ClientOptions::with_root_certificate)
        .with_user_agent(HeaderValue::from_static(USER_AGENT))
        .with_allow_http(plain_http)
        .with_connect_timeout(CONNECT_WITHIN)
}

/// The patience of one request.
pub(crate) fn retry(max_retries: usize) -> RetryConfig {
    RetryConfig {
        max_retries,
        retry_timeout: RETRY_WITHIN,
        backoff: BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LONGEST_PAUSE, base: 2. },
    }
}

/// Writes the same new name twice. A store that refuses the condition as such does not honour it either.
async fn probe(store: &dyn Store, root: &str, mode: &PutMode) -> object_store::Result<bool> {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    let name = format!(".walstream-probe-{:x}-{nanos:x}", std::process::id());
    let path = Path::parse(if root.is_empty() { name } else { format!("{root}/{name}") })?;
    let create = || {
        let options = PutOptions { mode: mode.clone(), ..PutOptions::default() };
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
