//! Reading messages of a stream in their order.
//!
//! Invariant: memory is bounded by one batch, which is asked for when the one before it was taken.

use std::sync::Arc;

use async_nats::{Message, Subscriber};
use serde::Deserialize;
use serde_json::{Value, json};
use walstream_ltx::Timestamp;

use super::bucket::Bucket;
use super::connection::Connection;
use super::failure::Failure;

/// How long the server keeps a consumer that nobody asks.
const FORGOTTEN_AFTER_SECONDS: u64 = 60;
/// Messages without content in one batch.
const SIZES_AT_ONCE: u64 = 1024;

/// A place in the messages of some subject. The server forgets it when this value is dropped.
pub(super) struct Consumer {
    connection: Arc<Connection>,
    bucket: Bucket,
    name: String,
    /// As often had the line broken when it was made.
    breaks: u64,
    inbox: String,
    answers: Subscriber,
    batch: u64,
    under_way: u64,
    /// How many messages there are from here on.
    pending: u64,
}

/// A message of the stream.
pub(super) struct Delivered {
    pub(super) message: Message,
    /// Its number in the stream.
    pub(super) sequence: u64,
    /// When it was stored.
    pub(super) stored_at: Timestamp,
}

impl Delivered {
    /// How large the message is, if its content was not asked for.
    pub(super) fn size(&self) -> Option<u64> {
        self.message.headers.as_ref()?.get("Nats-Msg-Size")?.as_str().parse().ok()
    }
}

impl Consumer {
    /// All messages of the subjects from a number on.
    pub(super) async fn from(
        connection: &Arc<Connection>,
        bucket: &Bucket,
        subject: &str,
        sequence: u64,
        batch: u64,
    ) -> Result<Self, Failure> {
        let policy = json!({ "deliver_policy": "by_start_sequence", "opt_start_seq": sequence.max(1) });
        Consumer::create(connection, bucket, subject, policy, batch).await
    }

    /// How large all messages of a subject are, without their content.
    pub(super) async fn sizes(
        connection: &Arc<Connection>,
        bucket: &Bucket,
        subject: &str,
    ) -> Result<Self, Failure> {
        let policy = json!({ "deliver_policy": "all", "headers_only": true });
        Consumer::create(connection, bucket, subject, policy, SIZES_AT_ONCE).await
    }

    /// The newest message of each of the subjects.
    pub(super) async fn newest(
        connection: &Arc<Connection>,
        bucket: &Bucket,
        subjects: &str,
        batch: u64,
    ) -> Result<Self, Failure> {
        let policy = json!({ "deliver_policy": "last_per_subject" });
        Consumer::create(connection, bucket, subjects, policy, batch).await
    }

    async fn create(
        connection: &Arc<Connection>,
        bucket: &Bucket,
        subjects: &str,
        mut config: Value,
        batch: u64,
    ) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Created {
            name: String,
            num_pending: u64,
        }
        config["ack_policy"] = "none".into();
        config["filter_subject"] = subjects.into();
        config["mem_storage"] = true.into();
        config["num_replicas"] = 1.into();
        config["inactive_threshold"] = (FORGOTTEN_AFTER_SECONDS * 1_000_000_000).into();
        let request = json!({ "stream_name": bucket.stream(), "config": config });
        let breaks = connection.breaks();
        let (inbox, answers) = connection.inbox().await?;
        let created: Created = bucket.ask(connection, "CONSUMER.CREATE", &request).await?;
        Ok(Consumer {
            connection: Arc::clone(connection),
            bucket: bucket.clone(),
            name: created.name,
            breaks,
            inbox,
            answers,
            batch,
            under_way: 0,
            pending: created.num_pending,
        })
    }

    /// The next message; none after the last that was there at the beginning, or is still there.
    pub(super) async fn next(&mut self) -> Result<Option<Delivered>, Failure> {
        if self.pending == 0 {
            return Ok(None);
        }
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.bucket.stream(), self.name);
        if self.under_way == 0 {
            self.under_way = self.pending.min(self.batch);
            let request = json!({ "batch": self.under_way, "no_wait": true });
            self.connection
                .request_to(&self.inbox, self.breaks, subject.clone(), request.to_string().into())
                .await?;
        }
        let message = self.connection.next(&subject, self.breaks, &mut self.answers).await?;
        match message.status.map(|status| status.as_u16()) {
            None => {}
            // Nothing is left: the rest was removed meanwhile.
            Some(404 | 408) => {
                self.pending = 0;
                return Ok(None);
            }
            Some(code) => {
                return Err(Failure::Lost(format!("the server stopped a download (status {code})")));
            }
        }
        let told = message.reply.as_ref().and_then(|reply| told(reply));
        let Some((sequence, stored_at, pending)) = told else {
            return Err(Failure::Damaged("the server's answer is not understood".into()));
        };
        self.under_way -= 1;
        self.pending = pending.min(self.pending - 1);
        Ok(Some(Delivered { message, sequence, stored_at }))
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let subject = format!("CONSUMER.DELETE.{}", self.bucket.stream());
        let subject = format!("$JS.API.{subject}.{}", self.name);
        let connection = Arc::clone(&self.connection);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // If it is lost, the server forgets by itself.
            runtime.spawn(async move { connection.tell(subject).await });
        }
    }
}

/// What the reply subject of a message tells: its number, when it was stored, and how many come after it.
fn told(reply: &str) -> Option<(u64, Timestamp, u64)> {
    let words: Vec<&str> = reply.split('.').collect();
    // $JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.DELIVERED.NUMBER.NUMBER.TIME.PENDING[.TOKEN]
    let first = if words.len() == 9 { 2 } else { 4 };
    let number = |at: usize| words.get(first + at)?.parse::<u64>().ok();
    let millis = i64::try_from(number(5)? / 1_000_000).ok()?;
    Some((number(3)?, Timestamp::from_millis(millis), number(6)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_message_is_read_in_both_forms() {
        let expected = Some((12, Timestamp::from_millis(1_763_707_212_610), 7));
        for reply in [
            "$JS.ACK.OBJ_b.c.1.12.3.1763707212610999999.7",
            "$JS.ACK.hub.ACCOUNT.OBJ_b.c.1.12.3.1763707212610999999.7.x",
        ] {
            assert_eq!(told(reply), expected, "{reply}");
        }
        assert_eq!(told("_INBOX.x"), None);
    }
}
