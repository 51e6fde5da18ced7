//! One connection to a cluster: logged in, and ready for requests.
//!
//! Invariants: no request waits for ever; one that was under way when the line broke is known to be lost. The client
//! library connects anew by itself, as the configuration says; until it has, nothing is asked.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_nats::client::RequestErrorKind;
use async_nats::{
    Client, ClientError, ConnectError, ConnectErrorKind, Event, HeaderMap, Message, Request, ServerError,
    Subscriber,
};
use bytes::Bytes;
use futures::StreamExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::failure::{Failure, Refusal};
use super::settings::Settings;
use crate::trust;

/// How long a request waits for a line that is broken at the moment.
const RECONNECT_WITHIN: Duration = Duration::from_secs(4);
/// Nobody gives up earlier because of the server.
const A_WHILE: Duration = Duration::from_millis(500);

/// What is known of the line.
#[derive(Clone, Default)]
struct News {
    down: bool,
    /// How often it broke.
    breaks: u64,
    /// It is given up.
    closed: bool,
    /// The last thing that the server forbade, in its own words.
    forbidden: String,
}

pub(super) struct Connection {
    client: Client,
    settings: Arc<Settings>,
    news: watch::Receiver<News>,
    broken: AtomicBool,
}

impl Connection {
    /// Connects and logs in.
    pub(super) async fn open(settings: &Arc<Settings>) -> Result<Self, Failure> {
        let (sender, news) = watch::channel(News::default());
        let sender = Arc::new(sender);
        let options = settings.options().await?.event_callback(move |event| {
            sender.send_modify(|news| note(news, &event));
            std::future::ready(())
        });
        let client = options.connect(settings.addresses()).await;
        let client = client.map_err(|error| refused(&error, &settings.servers()))?;
        tracing::debug!(server = settings.servers(), "connected");
        Ok(Connection { client, settings: Arc::clone(settings), news, broken: AtomicBool::new(false) })
    }

    /// Whether requests can still be sent, or will be once the library has connected anew.
    pub(super) fn is_usable(&self) -> bool {
        !self.broken.load(Ordering::Relaxed) && !self.news.borrow().closed
    }

    /// Waits until the line is there.
    pub(super) async fn ready(&self) -> Result<(), Failure> {
        let mut news = self.news.clone();
        let ready = tokio::time::timeout(RECONNECT_WITHIN, news.wait_for(|news| !news.down || news.closed));
        match ready.await {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::Silent(format!("{} cannot be reached", self.settings.servers()))),
        }
    }

    /// The largest message that the server takes.
    pub(super) fn max_payload(&self) -> usize {
        self.client.max_payload()
    }

    /// A subject of one's own for answers, and what comes there.
    pub(super) async fn inbox(&self) -> Result<(String, Subscriber), Failure> {
        let inbox = self.client.new_inbox();
        let subscriber = self.client.subscribe(inbox.clone()).await;
        Ok((inbox, subscriber.map_err(|error| self.lost(&error))?))
    }

    /// A request whose answer comes to an inbox. Requests are sent in the order of these calls.
    pub(super) async fn request_to(
        &self,
        inbox: &str,
        breaks: u64,
        subject: String,
        payload: Bytes,
    ) -> Result<(), Failure> {
        let send = self.client.publish_with_reply(subject.clone(), inbox.to_owned(), payload);
        self.answer(&subject, breaks, send).await?.map_err(|error| self.lost(&error))
    }

    /// How often the line broke so far. What was asked for before the last time is lost.
    pub(super) fn breaks(&self) -> u64 {
        self.news.borrow().breaks
    }

    /// A request whose answer nobody waits for.
    pub(super) async fn tell(&self, subject: String) {
        let _ = self.client.publish(subject, Bytes::new()).await;
    }

    /// The next answer in an inbox to a request that was sent after so many breaks.
    pub(super) async fn next(
        &self,
        subject: &str,
        breaks: u64,
        subscriber: &mut Subscriber,
    ) -> Result<Message, Failure> {
        self.answer(subject, breaks, subscriber.next()).await?.ok_or_else(|| self.lost(&"it was closed"))
    }

    /// A request to JetStream and its answer.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<T, Failure> {
        let mut request = Request::new().payload(payload).timeout(None);
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        let answer = self.client.send_request(subject.clone(), request);
        let answer = self.answer(&subject, self.breaks(), answer).await?;
        let answer = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => {
                Failure::Lost(format!("no JetStream answers at {}", self.settings.servers()))
            }
            _ => self.lost(&error),
        })?;
        understand(&answer)
    }

    /// Waits for an answer, for as long as the line carries anything at all.
    async fn answer<T>(
        &self,
        subject: &str,
        breaks: u64,
        answer: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut news = self.news.clone();
        if news.borrow_and_update().breaks != breaks {
            return Err(self.lost(&"it broke"));
        }
        let mut answer = pin!(answer);
        let mut doubt =
            Doubt { connection: self, asked: Instant::now(), heard: self.heard(), answered: false };
        let mut moved = self.moved();
        loop {
            let news_came = tokio::select! {
                biased;
                answer = &mut answer => {
                    doubt.answered = true;
                    return Ok(answer);
                }
                changed = news.changed() => Some(changed),
                () = tokio::time::sleep(self.settings.timeout) => None,
            };
            match news_came {
                Some(changed) => {
                    let news = news.borrow_and_update();
                    if changed.is_err() || news.breaks != breaks || news.closed {
                        doubt.answered = true;
                        return Err(self.lost(&"it broke"));
                    }
                    if news.forbidden.contains(&format!("\"{subject}\"")) {
                        doubt.answered = true;
                        return Err(Failure::Denied(news.forbidden.clone()));
                    }
                }
                None if moved != self.moved() => moved = self.moved(),
                None => {
                    let Settings { timeout, .. } = &*self.settings;
                    let reason =
                        format!("{} was silent for {} s", self.settings.servers(), timeout.as_secs_f32());
                    return Err(Failure::Silent(reason));
                }
            }
        }
    }

    fn lost(&self, cause: &dyn std::fmt::Display) -> Failure {
        tracing::debug!(%cause, "lost a connection");
        Failure::Lost(format!("lost the connection to {}", self.settings.servers()))
    }

    fn heard(&self) -> u64 {
        self.client.statistics().in_bytes.load(Ordering::Relaxed)
    }

    fn moved(&self) -> u64 {
        self.heard().wrapping_add(self.client.statistics().out_bytes.load(Ordering::Relaxed))
    }
}

/// What JetStream answered.
pub(super) fn understand<T: DeserializeOwned>(answer: &Message) -> Result<T, Failure> {
    #[derive(Deserialize)]
    struct Outcome {
        error: Option<Refusal>,
    }
    let strange = |error| Failure::Damaged(format!("the server's answer is not understood: {error}"));
    match serde_json::from_slice(&answer.payload).map_err(strange)? {
        Outcome { error: Some(refusal) } => Err(Failure::Refused(refusal)),
        Outcome { error: None } => serde_json::from_slice(&answer.payload).map_err(strange),
    }
}

/// A request that is given up without a word from the server puts an end to the connection: the next request should
/// not wait on a dead line.
struct Doubt<'a> {
    connection: &'a Connection,
    asked: Instant,
    heard: u64,
    answered: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if !self.answered && self.asked.elapsed() >= A_WHILE && self.heard == self.connection.heard() {
            self.connection.broken.store(true, Ordering::Relaxed);
        }
    }
}

fn note(news: &mut News, event: &Event) {
    match event {
        Event::Connected => news.down = false,
        Event::Disconnected => {
            news.down = true;
            news.breaks += 1;
        }
        Event::Closed | Event::ClientError(ClientError::MaxReconnects) => news.closed = true,
        Event::ServerError(ServerError::Other(text)) => news.forbidden.clone_from(text),
        _ => {}
    }
}

/// Why no connection came about.
fn refused(error: &ConnectError, servers: &str) -> Failure {
    let mut cause = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        let text = error.to_string();
        if !cause.contains(&text) {
            cause = format!("{cause}: {text}");
        }
        source = error.source();
    }
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => {
            Failure::Denied(format!("{servers} does not let this login in"))
        }
        ConnectErrorKind::Authentication => Failure::Denied(format!("cannot log in at {servers}: {cause}")),
        ConnectErrorKind::TimedOut => Failure::Silent(format!("{servers} does not answer")),
        ConnectErrorKind::ServerParse => Failure::Setup(format!("{servers} is no server: {cause}")),
        // A certificate that was refused stays so.
        _ if cause.contains("certificate") => {
            Failure::Setup(format!("no secure connection to {servers}: {}", advise(cause)))
        }
        _ => Failure::Lost(format!("cannot connect to {servers}: {cause}")),
    }
}

fn advise(cause: String) -> String {
    match cause.contains("UnknownIssuer") {
        true => format!("{cause}; if the server has an authority of its own, name its file with root-cas"),
        false => trust::advise(cause),
    }
}
