//! How requests reach the server: deadlines, patience and retries.
//!
//! Invariant: a server that falls silent is an error, never a hang, however large the request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use super::body::Body;
use super::server::Server;
use crate::http::wanted_pause;
use crate::tries::{RETRIES, Tries};

/// How long a server may take to begin its answer, and to go on with it.
pub(super) const SILENCE: Duration = Duration::from_secs(20);
/// What was handed to the operating system may still be under way: this much time for each MiB, 32 KiB a second.
const PER_BUFFERED_MIB: Duration = Duration::from_secs(32);
/// More is not buffered between us and the server.
const MAX_BUFFERED_MIB: u32 = 8;
/// Some servers copy the whole file when they rename it.
const HEAVY_WORK: Duration = Duration::from_secs(300);
/// The greatest answer that is not the content of a file; a listing of 1000 files has about half a MiB.
const MAX_DOCUMENT: usize = 64 << 20;

/// A request that can be sent as often as needed.
pub(super) struct Request<'a> {
    method: &'static str,
    url: &'a Url,
    headers: Vec<(&'static str, String)>,
    body: Option<&'a Body>,
    retries: usize,
}

/// Why there is no answer, or not the whole of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("cannot connect to {server}: {cause}")]
    Connect { server: String, cause: String },
    #[error("lost the connection to {server}: {cause}")]
    Lost { server: String, cause: String },
    #[error("{server} fell silent: no answer within {} s", .limit.as_secs())]
    Silent { server: String, limit: Duration },
    #[error("the answer of {server} is longer than {MAX_DOCUMENT} bytes")]
    TooLong { server: String },
}

impl<'a> Request<'a> {
    pub(super) fn new(method: &'static str, url: &'a Url) -> Self {
        Request { method, url, headers: Vec::new(), body: None, retries: RETRIES }
    }

    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn body(mut self, body: &'a Body) -> Self {
        self.body = Some(body);
        self
    }

    /// For the first check: an answer at once matters more than success.
    pub(super) fn impatient(mut self) -> Self {
        self.retries = 1;
        self
    }
}

impl Server {
    /// The server's answer, whatever its status. What may pass is tried again, as often and as late as is sensible.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<Response, Trouble> {
        let mut tries = Tries::of_request(request.retries);
        loop {
            let answer = self.send_once(&request).await;
            let wanted = match &answer {
                Ok(response) if may_pass(response.status()) => wanted_pause(response.headers()),
                Err(Trouble::Connect { .. } | Trouble::Lost { .. }) => None,
                _ => return answer,
            };
            if !tries.again_after(wanted).await {
                return answer;
            }
        }
    }

    async fn send_once(&self, request: &Request<'_>) -> Result<Response, Trouble> {
        let method = Method::from_bytes(request.method.as_bytes()).unwrap_or_default();
        let mut builder = self.http.request(method, request.url.clone());
        if let Some(username) = &self.username {
            builder = builder.basic_auth(username, self.password.as_ref().map(|password| password.expose()));
        }
        for (name, value) in &request.headers {
            builder = builder.header(*name, value);
        }
        match request.body {
            Some(body) => self.upload(builder, body).await,
            None => {
                let limit = if request.method == "MOVE" { HEAVY_WORK } else { SILENCE };
                match timeout(limit, builder.send()).await {
                    Ok(answer) => answer.map_err(|error| self.trouble(&error)),
                    Err(_) => Err(self.silent(limit)),
                }
            }
        }
    }

    /// Sends a request with a body for as long as it advances.
    async fn upload(&self, builder: RequestBuilder, body: &Body) -> Result<Response, Trouble> {
        let taken = Arc::new(AtomicU64::new(0));
        let length = body.length();
        let sending = builder.header("content-length", length).body(body.open(&taken)).send();
        tokio::pin!(sending);
        let mut before = taken.load(Ordering::Relaxed);
        loop {
            let limit = if before == length { limit_after(length) } else { SILENCE };
            match timeout(limit, &mut sending).await {
                Ok(answer) => return answer.map_err(|error| self.trouble(&error)),
                Err(_) => match taken.load(Ordering::Relaxed) {
                    now if now == before => return Err(self.silent(limit)),
                    now => before = now,
                },
            }
        }
    }

    /// The whole of an answer that is not the content of a file.
    pub(super) async fn document(&self, mut response: Response) -> Result<Vec<u8>, Trouble> {
        let mut document = Vec::new();
        while let Some(chunk) = self.next_chunk(&mut response).await? {
            if document.len() + chunk.len() > MAX_DOCUMENT {
                return Err(Trouble::TooLong { server: self.name() });
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document)
    }

    /// What comes next of an answer.
    pub(super) async fn next_chunk(&self, response: &mut Response) -> Result<Option<Bytes>, Trouble> {
        match timeout(SILENCE, response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| self.trouble(&error)),
            Err(_) => Err(self.silent(SILENCE)),
        }
    }

    fn silent(&self, limit: Duration) -> Trouble {
        Trouble::Silent { server: self.name(), limit }
    }

    fn trouble(&self, error: &reqwest::Error) -> Trouble {
        let first: &(dyn std::error::Error + 'static) = error;
        let last = std::iter::successors(Some(first), |&error| error.source()).last();
        let (server, cause) = (self.name(), crate::trust::advise(last.unwrap_or(first).to_string()));
        if error.is_connect() { Trouble::Connect { server, cause } } else { Trouble::Lost { server, cause } }
    }
}

/// How long the answer may take once everything was handed to the operating system.
fn limit_after(length: u64) -> Duration {
    let mib = u32::try_from(length >> 20).unwrap_or(u32::MAX).min(MAX_BUFFERED_MIB);
    SILENCE + PER_BUFFERED_MIB * mib
}

/// Whether the same request may succeed in a moment. 423 is a lock, which some servers take for each rename.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 423 | 425 | 429 | 500 | 502 | 503 | 504)
}
