//! Reading chunks by their numbers in the stream, which costs the server far less than a consumer.
//!
//! Invariant: memory is bounded by the chunks that are asked for at once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use async_nats::{Message, Subscriber};
use bytes::Bytes;
use serde_json::json;

use super::bucket::Bucket;
use super::connection::Connection;
use super::download::CHUNKS_AT_ONCE;
use super::failure::Failure;
use super::layout::Chunk;

/// Some chunks of an object, in their order.
pub(super) struct Numbered {
    connection: Arc<Connection>,
    get: String,
    subject: String,
    breaks: u64,
    inbox: String,
    answers: Subscriber,
    /// What is to be asked for yet.
    unasked: VecDeque<u64>,
    /// What was asked for, in the order in which it is wanted.
    awaited: VecDeque<u64>,
    /// What came before its turn, as it may from a cluster.
    early: BTreeMap<u64, Bytes>,
}

impl Numbered {
    /// These chunks.
    pub(super) async fn open(
        connection: &Arc<Connection>,
        bucket: &Bucket,
        nuid: &str,
        chunks: &[Chunk],
    ) -> Result<Self, Failure> {
        let breaks = connection.breaks();
        let (inbox, answers) = connection.inbox().await?;
        Ok(Numbered {
            connection: Arc::clone(connection),
            get: format!("$JS.API.DIRECT.GET.{}", bucket.stream()),
            subject: bucket.chunks(nuid),
            breaks,
            inbox,
            answers,
            unasked: chunks.iter().map(|chunk| chunk.number).collect(),
            awaited: VecDeque::new(),
            early: BTreeMap::new(),
        })
    }

    /// The next chunk; none if this server or this login does not give messages by number, or not this one.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.ask_for_more().await?;
        while let Some(wanted) = self.awaited.front() {
            if let Some(chunk) = self.early.remove(wanted) {
                self.awaited.pop_front();
                return Ok(Some(chunk));
            }
            let message = match self.connection.next(&self.get, self.breaks, &mut self.answers).await {
                Err(Failure::Denied(_)) => return Ok(None),
                answer => answer?,
            };
            let Some(number) = self.number_of(&message) else { return Ok(None) };
            self.early.insert(number, message.payload);
        }
        Ok(None)
    }

    async fn ask_for_more(&mut self) -> Result<(), Failure> {
        while self.awaited.len() < CHUNKS_AT_ONCE
            && let Some(number) = self.unasked.pop_front()
        {
            let request = json!({ "seq": number }).to_string();
            self.connection.request_to(&self.inbox, self.breaks, self.get.clone(), request.into()).await?;
            self.awaited.push_back(number);
        }
        Ok(())
    }

    /// The number of a message, if it is a chunk of the object.
    fn number_of(&self, message: &Message) -> Option<u64> {
        let headers = message.headers.as_ref().filter(|_| message.status.is_none())?;
        let is_chunk = headers.get("Nats-Subject")?.as_str() == self.subject;
        headers.get("Nats-Sequence")?.as_str().parse().ok().filter(|_| is_chunk)
    }
}
