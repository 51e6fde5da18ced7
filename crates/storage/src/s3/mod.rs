//! A replica in an S3 bucket.
//!
//! Invariants: an object appears whole or not at all. An existing one is never written over where the store can
//! tell (see [`ReplicaClient::creates_exclusively`]); elsewhere its name is looked up first.
//!
//! An upload whose answer was lost may have arrived: the retry then finds the name taken. That is reported as
//! [`PutOutcome::AlreadyExists`], and whoever uploads compares the content.

mod bucket;
mod credentials;
mod failure;
mod legacy;
mod object;
mod profile;
mod settings;
mod transport;
mod upload;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, ObjectMeta, ObjectStore};
use walstream_ltx::{FileName, Level, Timestamp, Txid, TxidRange};

use crate::client::{FileInfo, PutBody, PutOutcome, ReplicaClient, TimestampSource};
use crate::config::S3Config;
use crate::error::StorageError;
use crate::layout::{Layout, clean_path};
use crate::legacy::LegacyStore;
use bucket::{Bucket, Opened};
use failure::{Place, is_already_gone, is_past_end};
use object::Object;
use upload::Parts;

/// How many times of files are asked for at once.
const HEADS_AT_ONCE: usize = 50;
/// Room that is made for an answer before any of it is there.
const LARGEST_READ: usize = 8 << 20;
/// How long the first check may take.
const INIT_SECONDS: u64 = 5;

/// The store of a path in an S3 bucket.
#[derive(Clone, Debug)]
pub struct S3Client {
    bucket: Arc<Bucket>,
    root: String,
}

impl S3Client {
    /// A client for a configured path. Nothing is asked of the server yet.
    pub fn new(config: &S3Config) -> Result<Self, StorageError> {
        let bucket = Bucket::shared(config)?;
        let root = clean_path(config.path.as_deref().unwrap_or_default());
        Path::parse(&root)
            .map_err(|error| StorageError::Config(format!("invalid S3 path {root:?}: {error}")))?;
        Ok(S3Client { bucket, root })
    }

    fn place(&self) -> Place {
        Place::new(&self.bucket, &self.root)
    }

    fn object(&self, level: Level, txids: TxidRange) -> Result<Object, StorageError> {
        Object::new(&self.bucket, &self.root, level, txids)
    }

    async fn open(&self, place: &Place, operation: &'static str) -> Result<&Opened, StorageError> {
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

    async fn read_whole_range(&self, object: Object, range: Range<u64>) -> Result<Bytes, StorageError> {
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

/// The peer's replica at the top of a bucket has keys that begin with `./` or `/` (see [`clean_path`]). They cannot be
/// asked for here, so whoever expects to find them must hear of it.
async fn unreachable_replica(opened: &Opened) -> Option<&'static str> {
    for prefix in ["./000", "/000"] {
        let options = PaginatedListOptions { max_keys: Some(1), ..PaginatedListOptions::default() };
        let found = match opened.impatient.list_paginated(Some(prefix), options).await {
            Ok(page) => !page.result.objects.is_empty(),
            // A key that object_store cannot express makes the listing fail, and is a find as well.
            Err(error) => matches!(error, Error::InvalidPath { .. }),
        };
        if found {
            return Some(prefix);
        }
    }
    None
}

/// What a listing says of an object, if it is an LTX file.
fn info_of(level: Level, folder: &str, meta: ObjectMeta) -> Option<FileInfo> {
    let name = meta.location.as_ref().strip_prefix(folder)?.strip_prefix('/')?;
    let FileName(txids) = name.parse().ok()?;
    let created_at = Timestamp::from_millis(meta.last_modified.timestamp_millis());
    Some(FileInfo { level, txids, size: meta.size, created_at })
}

#[async_trait]
impl ReplicaClient for S3Client {
    fn kind(&self) -> &'static str {
        "s3"
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
            let prefix = Layout::Hex.folder(&self.root, Level::SNAPSHOT) + "/";
            match opened.impatient.list_paginated(Some(&prefix), options).await {
                Ok(_) if self.root.is_empty() => {
                    if let Some(prefix) = unreachable_replica(opened).await {
                        let bucket = &self.bucket.settings.bucket;
                        tracing::warn!(
                            "bucket {bucket} holds a Litestream replica below {prefix}…, which walstream cannot read; \
                             copy its objects to a path of their own and use s3://{bucket}/PATH"
                        );
                    }
                    Ok(())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(place.failed_listing("first contact", error)),
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(INIT_SECONDS), look).await;
        answer.unwrap_or_else(|_| {
            let reason = format!("{} gave no answer within {INIT_SECONDS} s", self.bucket.server());
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
        let folder = Layout::Hex.folder(&self.root, level);
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
        let settings = &self.bucket.settings;
        let mut parts = Parts::open(body, settings.part_size, settings.provider.equal_parts).await?;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use walstream_test_support::{App, Moto, Program};

    #[tokio::test]
    async fn moto_a_peers_replica_at_the_top_of_a_bucket_is_noticed() {
        crate::connect::install_tls();
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path().join("app.db"));
        app.execute("CREATE TABLE t(x)");
        for (path, prefix) in [("?", Some("./000")), ("/?", Some("/000")), ("/db?", None)] {
            let server = Moto::start();
            let url = format!("s3://{}{path}endpoint={}&region=us-east-1", Moto::BUCKET, server.endpoint());
            let database = folder.path().join(format!("{}.db", server.address()));
            std::fs::copy(app.path(), &database).unwrap();
            Program::litestream().replicate_once(&database, &url);

            let Ok(crate::ReplicaConfig::S3(mut config)) = url.parse() else { panic!("{url}") };
            config.access_key_id = Some("id".into());
            config.secret_access_key = Some("secret".to_owned().into());
            let client = S3Client::new(&config).unwrap();
            client.init().await.unwrap();
            let opened = client.bucket.open().await.unwrap();
            assert_eq!(unreachable_replica(opened).await, prefix, "{:?}", server.keys(""));
        }
    }
}
