//! How requests reach the server: deadlines, patience, and the one header that `object_store` cannot send.
//!
//! Invariant: a server that falls silent is an error, never a hang, however large the request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::{ClientOptions, HeaderValue};

/// How long a server may take to begin its answer, and to go on with it.
const SILENCE: Duration = Duration::from_secs(30);
/// Uploads get this much more time for each MiB: enough for 32 KiB a second.
const PER_UPLOADED_MIB: Duration = Duration::from_secs(32);
/// The longest pause that a server may ask for.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Makes the HTTP clients of a bucket.
#[derive(Debug, Default)]
pub(super) struct Connector {
    /// Whether the end of a multipart upload asks for a free name.
    pub(super) complete_exclusively: Arc<AtomicBool>,
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let options = options.clone().with_timeout_disabled();
        let connect = |options: ClientOptions| ReqwestConnector::default().connect(&options);
        Ok(HttpClient::new(Transport {
            watched: connect(options.clone().with_read_timeout(SILENCE))?,
            // Its read timeout would count the time of sending too.
            uploading: connect(options.with_read_timeout_disabled())?,
            complete_exclusively: Arc::clone(&self.complete_exclusively),
        }))
    }
}

#[derive(Debug)]
struct Transport {
    watched: HttpClient,
    uploading: HttpClient,
    complete_exclusively: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
struct NoAnswer(Duration);

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let length = request.body().content_length();
        if is_multipart_completion(&request) && self.complete_exclusively.load(Ordering::Relaxed) {
            // Not part of the signature, which S3 allows for headers outside x-amz-*.
            request.headers_mut().insert("if-none-match", HeaderValue::from_static("*"));
        }
        let response = if length == 0 {
            self.watched.execute(request).await?
        } else {
            let limit = SILENCE + PER_UPLOADED_MIB * u32::try_from(length >> 20).unwrap_or(u32::MAX >> 8);
            let answer = tokio::time::timeout(limit, self.uploading.execute(request)).await;
            answer.map_err(|_| HttpError::new(HttpErrorKind::Timeout, NoAnswer(limit)))??
        };
        if let Some(pause) = wanted_pause(&response) {
            tokio::time::sleep(pause).await;
        }
        Ok(response)
    }
}

fn is_multipart_completion(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method() == "POST" && query.split('&').any(|pair| pair.starts_with("uploadId="))
}

/// What a busy server asks for in `Retry-After`; the retries above wait in their own steps only.
fn wanted_pause(response: &HttpResponse) -> Option<Duration> {
    if !matches!(response.status().as_u16(), 429 | 503) {
        return None;
    }
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_PAUSE))
}
