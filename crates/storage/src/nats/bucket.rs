//! One object store, which is a stream: what is asked of it, and where its messages are.
//!
//! An object is one message on the subject of its name, its description, and chunks on a subject of their own.

use async_nats::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use walstream_ltx::Timestamp;

use super::connection::Connection;
use super::failure::Failure;
use super::info::Info;
use crate::timestamp;

/// An object store by name.
#[derive(Clone, Debug)]
pub(super) struct Bucket(pub(super) String);

/// The description of an object, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) info: Info,
    /// The number of its message in the stream.
    pub(super) sequence: u64,
    /// When it was stored.
    pub(super) stored_at: Timestamp,
}

impl Found {
    /// The time of the file, or else that of the object.
    pub(super) fn created_at(&self) -> Timestamp {
        self.info.created_at().unwrap_or(self.stored_at)
    }
}

/// A message as the stream has it.
#[derive(Deserialize)]
struct Stored {
    seq: u64,
    #[serde(default)]
    data: String,
    time: String,
}

impl Bucket {
    pub(super) fn stream(&self) -> String {
        format!("OBJ_{}", self.0)
    }

    /// The subject of an object's description.
    pub(super) fn meta(&self, name: &str) -> String {
        format!("$O.{}.M.{}", self.0, URL_SAFE.encode(name))
    }

    /// The subjects of all descriptions.
    pub(super) fn metas(&self) -> String {
        format!("$O.{}.M.>", self.0)
    }

    /// The subject of an object's chunks.
    pub(super) fn chunks(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.0)
    }

    /// A request to JetStream about this stream.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        connection: &Connection,
        what: &str,
        request: &Value,
    ) -> Result<T, Failure> {
        let subject = format!("$JS.API.{what}.{}", self.stream());
        connection.ask(subject, HeaderMap::new(), request.to_string().into()).await
    }

    /// Makes sure that it is there.
    pub(super) async fn look(&self, connection: &Connection) -> Result<(), Failure> {
        self.ask(connection, "STREAM.INFO", &json!({})).await.map(|IgnoredAny| ())
    }

    /// The description of an object, be it deleted.
    pub(super) async fn find(&self, connection: &Connection, name: &str) -> Result<Option<Found>, Failure> {
        let Some(stored) = self.last(connection, &self.meta(name)).await? else { return Ok(None) };
        let info = serde_json::from_slice(&decode(&stored)?)
            .map_err(|error| Failure::Damaged(format!("its description cannot be read: {error}")))?;
        let stored_at = timestamp::from_text(&stored.time).unwrap_or(Timestamp::from_millis(0));
        Ok(Some(Found { info, sequence: stored.seq, stored_at }))
    }

    /// The description of a file.
    pub(super) async fn find_file(&self, connection: &Connection, name: &str) -> Result<Found, Failure> {
        let found = self.find(connection, name).await?;
        found.filter(|found| found.info.is_file()).ok_or(Failure::NotFound)
    }

    /// The content of an object that has one chunk.
    pub(super) async fn only_chunk(&self, connection: &Connection, nuid: &str) -> Result<Bytes, Failure> {
        let stored = self.last(connection, &self.chunks(nuid)).await?;
        let stored = stored.ok_or_else(|| Failure::Damaged("its content is missing".into()))?;
        decode(&stored).map(Bytes::from)
    }

    /// The newest message of a subject, as the leader of a cluster knows it.
    async fn last(&self, connection: &Connection, subject: &str) -> Result<Option<Stored>, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            message: Stored,
        }
        match self.ask::<Answer>(connection, "STREAM.MSG.GET", &json!({ "last_by_subj": subject })).await {
            Ok(answer) => Ok(Some(answer.message)),
            Err(failure) if failure.is_no_message() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Publishes a description if the newest message of its subject is `after`, 0 for none. Gives its number.
    pub(super) async fn publish(
        &self,
        connection: &Connection,
        info: &Info,
        after: u64,
    ) -> Result<u64, Failure> {
        #[derive(Deserialize)]
        struct Ack {
            seq: u64,
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Rollup", "sub");
        headers.insert("Nats-Expected-Last-Subject-Sequence", after.to_string());
        let text = serde_json::to_vec(info)
            .map_err(|error| Failure::Damaged(format!("its description cannot be written: {error}")))?;
        let ack: Ack = connection.ask(self.meta(&info.name), headers, text.into()).await?;
        Ok(ack.seq)
    }

    /// Removes the messages of a subject, those before a number if there is one.
    pub(super) async fn purge(
        &self,
        connection: &Connection,
        subject: &str,
        before: Option<u64>,
    ) -> Result<(), Failure> {
        let mut request = json!({ "filter": subject });
        if let Some(before) = before {
            request["seq"] = before.into();
        }
        self.ask(connection, "STREAM.PURGE", &request).await.map(|IgnoredAny| ())
    }

    /// Deletes an object, as an object store does: the description says so first, then the chunks go. The description
    /// goes last, since nobody would ever remove it, and each would lengthen every listing.
    ///
    /// Crash points: between any two steps there is a description that says "deleted", which no listing shows, and
    /// deleting it again goes on from there.
    pub(super) async fn delete(&self, connection: &Connection, name: &str) -> Result<(), Failure> {
        let Some(Found { info, mut sequence, .. }) = self.find(connection, name).await? else {
            return Ok(());
        };
        let chunks = self.chunks(&info.nuid);
        if !info.deleted {
            sequence = match self.publish(connection, &info.tombstone(), sequence).await {
                // Somebody else deleted it, and may have put something in its place.
                Err(failure) if failure.is_conflict() => return Ok(()),
                stored => stored?,
            };
        }
        self.purge(connection, &chunks, None).await?;
        self.purge(connection, &self.meta(name), Some(sequence + 1)).await
    }
}

fn decode(stored: &Stored) -> Result<Vec<u8>, Failure> {
    let decoded = STANDARD.decode(&stored.data);
    decoded.map_err(|error| Failure::Damaged(format!("the server's answer is not understood: {error}")))
}
