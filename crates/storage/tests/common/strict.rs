//! A front of a real S3 server that refuses what one or the other S3 server of the world refuses.
//!
//! Each request goes over a connection of its own to the real server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::proxy::{content_length, forward};

/// What kind of server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    /// Every refusal that is known of servers that speak S3, at once, but for those below. ETags are weak.
    Strict,
    /// The same, and nobody may delete.
    NoDeletes,
    /// The same in the way of Alibaba Cloud OSS: names are protected by a header of its own.
    Oss,
}

#[derive(Default)]
struct State {
    parts: AtomicUsize,
    /// Held from the look at a name to its write.
    names: Mutex<()>,
}

/// The front; it ends when dropped.
pub struct Strict {
    address: String,
    task: JoinHandle<()>,
}

impl Strict {
    /// A front of `server` (`127.0.0.1:PORT`).
    pub async fn start(server: &str, manners: Manners) -> Strict {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (state, server) = (Arc::<State>::default(), server.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (state, server) = (Arc::clone(&state), server.clone());
                tokio::spawn(async move { serve(client, &server, manners, &state).await });
            }
        });
        Strict { address, task }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The head of a request, in lower case.
struct Head<'a> {
    text: &'a str,
    line: &'a str,
}

impl Head<'_> {
    fn is(&self, method: &str) -> bool {
        self.line.starts_with(method)
    }

    fn asks(&self, parameter: &str) -> bool {
        let url = self.line.split(' ').nth(1).unwrap_or_default();
        let query = url.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|pair| pair.split('=').next() == Some(parameter))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.text.lines().skip(1).find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    }

    fn is_single_put(&self) -> bool {
        self.is("put") && !self.asks("partnumber")
    }

    fn is_completion(&self) -> bool {
        self.is("post") && self.asks("uploadid")
    }
}

type Refusal = (&'static str, &'static str);

/// What such servers say to such a request.
fn refusal(head: &Head<'_>, manners: Manners) -> Option<Refusal> {
    let sha256 = head.header("x-amz-content-sha256").unwrap_or_default();
    let has = |name| head.header(name).is_some();
    let is_chunked = head.header("content-encoding").is_some_and(|encoding| encoding.contains("aws-chunked"));
    if sha256.starts_with("streaming-") || is_chunked {
        return Some(("501 Not Implemented", "NotImplemented"));
    }
    if sha256 == "unsigned-payload" {
        return Some(("403 Forbidden", "SignatureDoesNotMatch"));
    }
    if has("x-amz-trailer") || has("x-amz-sdk-checksum-algorithm") {
        return Some(("400 Bad Request", "InvalidArgument"));
    }
    if (head.is("put") || head.is("post")) && !has("content-length") {
        return Some(("411 Length Required", "MissingContentLength"));
    }
    if head.is("post") && head.asks("delete") && !has("content-md5") {
        return Some(("400 Bad Request", "MissingContentMD5"));
    }
    if manners == Manners::NoDeletes && (head.is("delete") && !head.asks("uploadid") || head.asks("delete")) {
        return Some(("403 Forbidden", "AccessDenied"));
    }
    if manners == Manners::Oss && has("if-none-match") {
        return Some(("501 Not Implemented", "NotImplemented"));
    }
    None
}

async fn serve(mut client: TcpStream, server: &str, manners: Manners, state: &State) -> Option<()> {
    let mut request = Vec::new();
    let head_end = loop {
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        (client.read_buf(&mut request).await.ok()? > 0).then_some(())?;
    };
    let original = String::from_utf8_lossy(&request[..head_end]).into_owned();
    while request.len() < head_end + content_length(&original) {
        (client.read_buf(&mut request).await.ok()? > 0).then_some(())?;
    }
    let lower = original.to_ascii_lowercase();
    let head = Head { text: &lower, line: lower.lines().next().unwrap_or_default() };
    let answer = answer(&head, &original, &request[head_end..], server, manners, state).await?;
    client.write_all(&answer).await.ok()?;
    client.shutdown().await.ok()
}

async fn answer(
    head: &Head<'_>,
    original: &str,
    body: &[u8],
    server: &str,
    manners: Manners,
    state: &State,
) -> Option<Vec<u8>> {
    if let Some(refusal) = refusal(head, manners) {
        return Some(refused(refusal));
    }
    if head.asks("partnumber") {
        // More than two at once is too much for it.
        let under_way = state.parts.fetch_add(1, Ordering::SeqCst);
        let answer = if under_way < 2 { forward(server, original, body).await } else { None };
        state.parts.fetch_sub(1, Ordering::SeqCst);
        return Some(answer.unwrap_or_else(|| refused(("503 Service Unavailable", "SlowDown"))));
    }
    let protects = head.header("x-oss-forbid-overwrite") == Some("true");
    if manners == Manners::Oss && protects && (head.is_single_put() || head.is_completion()) {
        let _one_at_a_time = state.names.lock().await;
        let path = original.split(' ').nth(1)?.split('?').next()?;
        let keys = original.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization:"))?;
        let look = format!("HEAD {path} HTTP/1.1\r\nHost: {server}\r\n{keys}\r\n\r\n");
        if forward(server, &look, b"").await?.starts_with(b"HTTP/1.1 200") {
            return Some(refused(("409 Conflict", "FileAlreadyExists")));
        }
        return forward(server, original, body).await;
    }
    let answer = forward(server, original, body).await?;
    Some(if head.is("get") || head.is("head") { with_weak_etag(answer) } else { answer })
}

fn refused((status, code): Refusal) -> Vec<u8> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>refused</Message></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}

fn with_weak_etag(answer: Vec<u8>) -> Vec<u8> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_default();
    let head = String::from_utf8_lossy(&answer[..end]).replace("ETag: \"", "ETag: W/\"");
    [head.as_bytes(), &answer[end..]].concat()
}
