//! How requests reach the server: deadlines, patience, and the one condition that `object_store` cannot ask for.
//!
//! Invariant: a server that falls silent is an error, never a hang, however large the request.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use super::crowd::Crowd;
use crate::http::wanted_pause;

/// How long a server may take to begin its answer, and to go on with it.
const SILENCE: Duration = Duration::from_secs(20);
/// Uploads get this much more time for each MiB: enough for 32 KiB a second.
const PER_UPLOADED_MIB: Duration = Duration::from_secs(32);
/// Some servers put a large upload together, or delete a thousand objects, before they answer.
const HEAVY_WORK: Duration = Duration::from_secs(300);
/// The greatest answer that is not the content of an object; a list of 1000 names has about one MiB.
const MAX_DOCUMENT: u64 = 64 << 20;

/// The request that makes an object out of the parts of an upload.
pub(crate) trait Completion: Debug + Send + Sync + 'static {
    /// Whether this is such a request.
    fn is(&self, request: &HttpRequest) -> bool;

    /// Adds to such a request the condition that no object has the name.
    fn ask_for_free_name(&self, request: &mut HttpRequest) -> object_store::Result<()>;
}

/// Makes the HTTP clients of a bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connector {
    /// `None`: the cloud takes no condition at the end of an upload.
    completion: Option<Arc<dyn Completion>>,
    /// Whether the condition is asked for.
    exclusively: Arc<AtomicBool>,
    /// The parts that are under way.
    crowd: Arc<Crowd>,
}

impl Connector {
    /// Clients that can ask for a free name at the end of an upload.
    pub(crate) fn asking(completion: impl Completion) -> Self {
        Connector { completion: Some(Arc::new(completion)), ..Connector::default() }
    }

    /// From now on the end of an upload asks for a free name, or does not.
    pub(super) fn complete_exclusively(&self, wanted: bool) {
        self.exclusively.store(wanted && self.completion.is_some(), Ordering::Relaxed);
    }

    /// Whether the end of an upload asks for a free name.
    pub(super) fn completes_exclusively(&self) -> bool {
        self.exclusively.load(Ordering::Relaxed)
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let options = options.clone().with_timeout_disabled();
        let connect = |options: ClientOptions| ReqwestConnector::default().connect(&options);
        Ok(HttpClient::new(Transport {
            watched: connect(options.clone().with_read_timeout(SILENCE))?,
            // Its read timeout would count the time of sending too.
            uploading: connect(options.with_read_timeout_disabled())?,
            connector: self.clone(),
        }))
    }
}

#[derive(Debug)]
struct Transport {
    watched: HttpClient,
    uploading: HttpClient,
    connector: Connector,
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
struct NoAnswer(Duration);

#[derive(Debug, thiserror::Error)]
#[error("the server announced an answer of {0} bytes")]
struct TooLong(u64);

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let completion = self.connector.completion.as_ref().filter(|completion| completion.is(&request));
        let exclusively = completion.filter(|_| self.connector.completes_exclusively());
        if let Some(completion) = exclusively {
            completion
                .ask_for_free_name(&mut request)
                .map_err(|error| HttpError::new(HttpErrorKind::Request, error))?;
        }
        let part = match is_part(&request) {
            true => Some(self.connector.crowd.enter().await),
            false => None,
        };
        let announces_object = request.method() == "HEAD";
        let wants_object = request.method() == "GET" && names_object(request.uri().query());
        let response = match request.body().content_length() as u64 {
            0 => self.watched.execute(request).await?,
            _ if request.method() == "POST" || completion.is_some() => {
                self.upload(request, HEAVY_WORK).await?
            }
            length => self.upload(request, upload_limit(length)).await?,
        };
        let is_document = !(announces_object || wants_object && response.status().is_success());
        if is_document {
            refuse_if_too_long(&response)?;
        }
        if exclusively.is_some() && response.status().as_u16() == 501 {
            // It knows the condition for single writes only. The retries above ask again, now without it.
            self.connector.complete_exclusively(false);
        }
        if part.is_some() && matches!(response.status().as_u16(), 429 | 503) {
            self.connector.crowd.refused();
        }
        drop(part);
        // The retries above wait in their own steps only.
        if matches!(response.status().as_u16(), 429 | 503)
            && let Some(pause) = wanted_pause(response.headers())
        {
            tokio::time::sleep(pause).await;
        }
        Ok(response)
    }
}

impl Transport {
    /// Sends a request with a body and takes in the answer, which is short, all within `limit`.
    async fn upload(&self, request: HttpRequest, limit: Duration) -> Result<HttpResponse, HttpError> {
        let exchange = async {
            let response = self.uploading.execute(request).await?;
            refuse_if_too_long(&response)?;
            let (head, body) = response.into_parts();
            Ok(HttpResponse::from_parts(head, body.bytes().await?.into()))
        };
        let answer = tokio::time::timeout(limit, exchange).await;
        answer.unwrap_or_else(|_| Err(HttpError::new(HttpErrorKind::Timeout, NoAnswer(limit))))
    }
}

fn upload_limit(length: u64) -> Duration {
    let mib = u32::try_from(length >> 20).unwrap_or(u32::MAX);
    SILENCE.saturating_add(PER_UPLOADED_MIB.saturating_mul(mib))
}

/// `object_store` sets memory aside for as much as a server announces.
fn refuse_if_too_long(response: &HttpResponse) -> Result<(), HttpError> {
    let announced =
        response.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    match announced {
        Some(length) if length > MAX_DOCUMENT => Err(HttpError::new(HttpErrorKind::Decode, TooLong(length))),
        _ => Ok(()),
    }
}

/// Whether an address with this query is that of an object. Azure's shared access signatures are part of every address.
fn names_object(query: Option<&str>) -> bool {
    let has = |query: &str, key: &str| query.split('&').any(|pair| pair.starts_with(key));
    query.is_none_or(|query| has(query, "sig=") && !has(query, "comp="))
}

/// Whether it sends a part of a large object, as S3 (and Google) or Azure calls it.
fn is_part(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    let is_part = |pair: &str| pair.starts_with("partNumber=") || pair == "comp=block";
    request.method() == "PUT" && query.split('&').any(is_part)
}
