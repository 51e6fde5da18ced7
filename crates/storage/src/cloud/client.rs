//! What is done with the replica in a bucket.
//!
//! Invariant: nothing here knows which cloud it is.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta};
use walstream_ltx::{FileName, Level, Timestamp, Txid, TxidRange};

use super::bucket::Bucket;
use super::failure::{Place, is_already_gone, is_past_end};
use super::object::Object;
use super::upload::Parts;
use super::{Opened, Store};
use crate::client::{FileInfo, PutBody, PutOutcome, ReplicaClient, TimestampSource};
use crate::error::StorageError;
use crate::layout::clean_path;
use crate::legacy::LegacyStore;

/// How many times of files are asked for at once.
const HEADS_AT_ONCE: usize = 50;
/// Room that is made for an answer before any of it is there.
const LARGEST_READ: usize = 8 << 20;
/// How long the first check may take.
const INIT_SECONDS: u64 = 5;

/// The store of a path in a bucket.
#[derive(Clone, Debug)]
pub(crate) struct CloudClient {
    pub(super) bucket: Arc<Bucket>,
    pub(super) root: String,
}

impl CloudClient {
    /// A client for a path in a bucket. Nothing is asked of the server yet.
    pub(crate) fn new(bucket: Arc<Bucket>, path: Option<&str>) -> Result<Self, StorageError> {
        let root = clean_path(path.unwrap_or_default());
        let cloud = bucket.facts.cloud;
        Path::parse(&root)
            .map_err(|error| StorageError::Config(format!("invalid {cloud} path {root:?}: {error}")))?;
        Ok(CloudClient { bucket, root })
    }

    fn place(&self) -> Place {
        Place::new(&self.bucket, &self.root)
    }

    fn object(&self, level: Level, txids: TxidRange) -> Result<Object, StorageError> {
        Object::new(&self.bucket, &self.root, level, txids)
    }

    pub(super) async fn open(&self, place: &Place, operation: &'static str) -> Result<&Opened, StorageError> {
        self.bucket.open().await.map_err(|error| place.failed(operation, error))
    }

    async fn read_range(
        &self,
        object: Object,
        range: GetRange,
        start: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        let Object { path, place } = object;
        let opened = self.open(&place, "reading").await?;
        let range = (range != GetRange::Offset(0)).then_some(range);
        match opened.store.get_opts(&path, GetOptions { range, ..GetOptions::default() }).await {
            Ok(found) => Ok(found.into_stream().map_err(move |error| place.failed("reading", error)).boxed()),
            Err(error) if is_past_end(&error) => {
                Err(StorageError::PastEnd { location: place.location, offset: start })
            }
            Err(error) => Err(place.failed("reading", error)),
        }
    }

    pub(super) async fn read_whole_range(
        &self,
        object: Object,
        range: Range<u64>,
    ) -> Result<Bytes, StorageError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let start = range.start;
        let length = usize::try_from(range.end - start).unwrap_or_default().min(LARGEST_READ);
        let mut chunks = self.read_range(object, GetRange::Bounded(range), start).await?;
        let mut bytes = Vec::with_capacity(length);
        while let Some(chunk) = chunks.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(bytes))
    }

    /// Deletes objects, as many as possible with one request.
    async fn delete_all(
        &self,
        place: &Place,
        store: &Arc<dyn Store>,
        paths: &[Path],
    ) -> Result<(), StorageError> {
        let (store, paths) = (Arc::clone(store), paths.to_vec());
        // In a task of its own, because object_store panics at an answer that names a key it was not asked about.
        let deleting = tokio::spawn(async move {
            let answers = store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
            answers.collect::<Vec<_>>().await
        });
        let answers = deleting.await.map_err(|error| place.unavailable("deleting", error.to_string()))?;
        let failed = answers.into_iter().filter_map(Result::err).map(|error| match is_already_gone(&error) {
            true => Ok(()),
            false => Err(place.failed("deleting", error)),
        });
        failed.collect()
    }

    /// The file with the time of its header; `None` if it was deleted meanwhile.
    async fn with_header_time(
        &self,
        opened: &Opened,
        file: FileInfo,
    ) -> Result<Option<FileInfo>, StorageError> {
        let head = self.object(file.level, file.txids)?.head(opened).await?;
        Ok(head.map(|head| FileInfo { created_at: head.created_at.unwrap_or(file.created_at), ..file }))
    }
}

/// What a listing says of an object, if it is an LTX file.
fn info_of(level: Level, folder: &str, meta: ObjectMeta) -> Option<FileInfo> {
    let name = meta.location.as_ref().strip_prefix(folder)?.strip_prefix('/')?;
    let FileName(txids) = name.parse().ok()?;
    let created_at = Timestamp::from_millis(meta.last_modified.timestamp_millis());
    Some(FileInfo { level, txids, size: meta.size, created_at })
}

#[async_trait]
impl ReplicaClient for CloudClient {
    fn kind(&self) -> &'static str {
        self.bucket.facts.kind
    }

    fn location(&self) -> String {
        self.place().location
    }

    fn legacy(&self) -> Option<&dyn LegacyStore> {
        Some(self)
    }

    async fn init(&self) -> Result<(), StorageError> {
        let place = self.place();
        let look = async {
            let opened = self.open(&place, "first contact").await?;
            let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
            let prefix = self.bucket.facts.layout.folder(&self.root, Level::SNAPSHOT) + "/";
            match opened.impatient.list_paginated(Some(&prefix), options).await {
                Ok(_) if self.root.is_empty() => {
                    self.bucket.survey_top(opened).await;
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(place.failed_listing("first contact", error)),
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(INIT_SECONDS), look).await;
        answer.unwrap_or_else(|_| {
            let reason = format!("{} gave no answer within {INIT_SECONDS} s", self.bucket.facts.server);
            Err(place.unavailable("first contact", reason))
        })
    }

    async fn creates_exclusively(&self) -> Result<bool, StorageError> {
        let answer = self.bucket.creates_exclusively(&self.root).await;
        answer.map_err(|error| self.place().failed("trying out the store", error))
    }

    async fn list(
        &self,
        level: Level,
        from: Txid,
        timestamps: TimestampSource,
    ) -> Result<Vec<FileInfo>, StorageError> {
        let folder = self.bucket.facts.layout.folder(&self.root, level);
        let place = Place::new(&self.bucket, &folder);
        let opened = self.open(&place, "listing").await?;
        let path = |text: &str| Path::parse(text).map_err(|error| place.failed("listing", error.into()));
        // The name of every file from `from` on is longer than this, and so comes after it.
        let before = path(&format!("{folder}/{from}"))?;
        let found = opened.store.list_with_offset(Some(&path(&folder)?), &before);
        let files = found.try_filter_map(|meta| std::future::ready(Ok(info_of(level, &folder, meta))));
        // Not every store knows where to begin.
        let files = files.try_filter(|file| std::future::ready(file.txids.min() >= from));
        let files = files.try_collect::<Vec<FileInfo>>().await;
        let mut files = files.map_err(|error| place.failed_listing("listing", error))?;
        if timestamps == TimestampSource::Exact {
            let asked = stream::iter(files).map(|file| self.with_header_time(opened, file));
            let answers = asked.buffer_unordered(HEADS_AT_ONCE);
            files = answers.try_filter_map(|file| std::future::ready(Ok(file))).try_collect().await?;
        }
        files.sort_unstable_by_key(|file| file.txids);
        Ok(files)
    }

    async fn read(&self, level: Level, txids: TxidRange, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.read_whole_range(self.object(level, txids)?, range).await
    }

    async fn read_stream(
        &self,
        level: Level,
        txids: TxidRange,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        self.read_range(self.object(level, txids)?, GetRange::Offset(from), from).await
    }

    async fn put(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        body: PutBody,
    ) -> Result<PutOutcome, StorageError> {
        let object = self.object(level, txids)?;
        let exclusive = self.creates_exclusively().await?;
        let opened = self.open(&object.place, "upload").await?;
        let facts = &self.bucket.facts;
        let mut parts = Parts::open(body, facts.part_size, facts.equal_parts).await?;
        let first = parts.next().await?;
        if first.is_last {
            object.put_single(opened, first.payload, created_at, exclusive).await
        } else {
            object.put_parts(opened, first.payload, parts, created_at).await
        }
    }

    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError> {
        let place = self.place();
        let store = self.open(&place, "deleting").await?.store.clone();
        let objects = files.iter().map(|&(level, txids)| self.object(level, txids));
        let paths: Vec<Path> =
            objects.map(|object| object.map(|object| object.path)).collect::<Result<_, _>>()?;
        let mut answer = self.delete_all(&place, &store, &paths).await;
        // Deleting many at once is not a request that object_store sends again when its connection is lost.
        if answer.as_ref().is_err_and(StorageError::is_transient) {
            answer = self.delete_all(&place, &store, &paths).await;
        }
        answer
    }
}
