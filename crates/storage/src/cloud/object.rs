//! Writing one object under a name that is free.
//!
//! Invariant: whatever goes wrong on the way, either the whole object is there or nothing is.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use object_store::{
    Attribute, Attributes, Error, GetOptions, ObjectStore, PutMode, PutMultipartOptions, PutOptions,
    PutPayload,
};
use walstream_ltx::{Level, Timestamp, TxidRange};

use super::Opened;
use super::bucket::Bucket;
use super::failure::Place;
use super::upload::{Multipart, Parts};
use crate::client::PutOutcome;
use crate::error::StorageError;
use crate::timestamp;

/// How often a write is begun again when the store says "conflict" about a name that is free.
const CONFLICT_TRIES: usize = 3;

/// A server that fails may be silent about what it holds, too.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// What the server says about an object without sending it.
pub(super) struct Head {
    /// The time of the file's header, if the object carries it.
    pub(super) created_at: Option<Timestamp>,
}

/// An object, whether it exists or not.
pub(super) struct Object {
    pub(super) path: Path,
    pub(super) place: Place,
}

impl Object {
    pub(super) fn new(
        bucket: &Arc<Bucket>,
        root: &str,
        level: Level,
        txids: TxidRange,
    ) -> Result<Self, StorageError> {
        Object::at(bucket, &bucket.facts.layout.object(root, level, txids))
    }

    /// Any object of a replica, by its key.
    pub(super) fn at(bucket: &Arc<Bucket>, key: &str) -> Result<Self, StorageError> {
        let place = Place::new(bucket, key);
        match Path::parse(key) {
            Ok(path) => Ok(Object { path, place }),
            Err(error) => Err(StorageError::Config(format!("{}: {error}", place.location))),
        }
    }

    /// `None` if there is no such object.
    pub(super) async fn head(&self, opened: &Opened) -> Result<Option<Head>, StorageError> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match opened.store.get_opts(&self.path, options).await {
            Ok(head) => {
                let text = head.attributes.get(&self.time_key());
                Ok(Some(Head { created_at: text.and_then(|text| timestamp::from_text(text)) }))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.place.failed("looking it up", error)),
        }
    }

    async fn exists(&self, opened: &Opened) -> Result<bool, StorageError> {
        Ok(self.head(opened).await?.is_some())
    }

    fn time_key(&self) -> Attribute {
        Attribute::Metadata(self.place.bucket.facts.time_key.into())
    }

    fn attributes(&self, created_at: Timestamp) -> Attributes {
        let mut attributes = Attributes::new();
        if let Some(text) = timestamp::to_text(created_at) {
            attributes.insert(self.time_key(), text.into());
        }
        if let Some(class) = &self.place.bucket.facts.storage_class {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        attributes
    }

    /// Writes a body that fits into one request.
    pub(super) async fn put_single(
        &self,
        opened: &Opened,
        payload: PutPayload,
        created_at: Timestamp,
        exclusive: bool,
    ) -> Result<PutOutcome, StorageError> {
        let facts = &self.place.bucket.facts;
        let mode = if exclusive { facts.create_mode.clone() } else { PutMode::Overwrite };
        for _ in 0..CONFLICT_TRIES {
            if !exclusive && self.exists(opened).await? {
                return Ok(PutOutcome::AlreadyExists);
            }
            let attributes = self.attributes(created_at);
            let (mode, tags) = (mode.clone(), facts.tags.clone());
            let options = PutOptions { mode, attributes, tags, ..PutOptions::default() };
            match opened.store.put_opts(&self.path, payload.clone(), options).await {
                Ok(_) => return Ok(PutOutcome::Created),
                // Also a "conflict", which two writers at once can cause without any object coming of it.
                Err(Error::AlreadyExists { .. }) if !self.exists(opened).await? => {}
                Err(Error::AlreadyExists { .. }) => return Ok(PutOutcome::AlreadyExists),
                Err(error) => return self.outcome_after(self.place.failed("upload", error), opened).await,
            }
        }
        Err(self.conflict())
    }

    /// A server that refuses before it has read the body ends the connection, and its answer is often not heard.
    async fn outcome_after(
        &self,
        failure: StorageError,
        opened: &Opened,
    ) -> Result<PutOutcome, StorageError> {
        let look = tokio::time::timeout(LOOK_WITHIN, self.exists(opened));
        match failure.is_transient() && matches!(look.await, Ok(Ok(true))) {
            true => Ok(PutOutcome::AlreadyExists),
            false => Err(failure),
        }
    }

    /// Writes a large body. Its name is looked up before anything is sent, and once more at the end where the store
    /// cannot protect it there.
    pub(super) async fn put_parts(
        &self,
        opened: &Opened,
        first: PutPayload,
        mut parts: Parts,
        created_at: Timestamp,
    ) -> Result<PutOutcome, StorageError> {
        if self.exists(opened).await? {
            return Ok(PutOutcome::AlreadyExists);
        }
        let attributes = self.attributes(created_at);
        let tags = self.place.bucket.facts.tags.clone();
        let options = PutMultipartOptions { attributes, tags, ..PutMultipartOptions::default() };
        let upload = opened.store.put_multipart_opts(&self.path, options).await;
        let upload = upload.map_err(|error| self.place.failed("upload", error))?;
        let mut upload = Multipart::new(upload, self.place.bucket.facts.concurrency);

        let outcome = self.send_parts(opened, &mut upload, first, &mut parts).await;
        if !matches!(outcome, Ok(PutOutcome::Created)) {
            upload.abort().await;
        }
        outcome
    }

    async fn send_parts(
        &self,
        opened: &Opened,
        upload: &mut Multipart,
        first: PutPayload,
        parts: &mut Parts,
    ) -> Result<PutOutcome, StorageError> {
        upload.send(first).await.map_err(|error| self.place.failed("upload", error))?;
        loop {
            let part = parts.next().await?;
            if part.payload.content_length() > 0 {
                upload.send(part.payload).await.map_err(|error| self.place.failed("upload", error))?;
            }
            if part.is_last {
                break;
            }
        }
        if !opened.connector.completes_exclusively() && self.exists(opened).await? {
            return Ok(PutOutcome::AlreadyExists);
        }
        match upload.complete().await {
            Ok(()) => Ok(PutOutcome::Created),
            // "Not found" is the upload, not the object: the answer to an earlier try was lost.
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotFound { .. })
                if self.exists(opened).await? =>
            {
                Ok(PutOutcome::AlreadyExists)
            }
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => Err(self.conflict()),
            Err(Error::NotFound { .. }) => {
                Err(self.place.unavailable("upload", "the server lost the multipart upload"))
            }
            Err(error) => Err(self.place.failed("upload", error)),
        }
    }

    fn conflict(&self) -> StorageError {
        self.place.unavailable("upload", "the server reports a conflict although there is no such object")
    }
}
