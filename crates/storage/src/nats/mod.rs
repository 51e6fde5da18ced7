//! A replica in an object store of NATS JetStream.
//!
//! Invariants: an object is described only when all of its chunks are stored, and the server itself refuses a second
//! description of one name. Times are stored with the files, so every listing has them exactly.
//!
//! The library's own object store is not used: it writes over what is there, and waits for each chunk.

mod bucket;
mod connection;
mod consumer;
mod download;
mod failure;
mod info;
mod layout;
mod legacy;
mod numbered;
mod server;
mod settings;
mod upload;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use walstream_ltx::{FileName, Level, Timestamp, Txid, TxidRange};

use crate::chunks::Chunks;
use crate::client::{FileInfo, PutBody, PutOutcome, ReplicaClient, TimestampSource};
use crate::config::NatsConfig;
use crate::error::StorageError;
use crate::layout::{Layout, clean_path};
use crate::legacy::LegacyStore;
use crate::tries::Tries;
use bucket::{Bucket, Found};
use connection::Connection;
use download::Reader;
use failure::Failure;
use server::Server;

/// How many files are deleted at once.
const FILES_AT_ONCE: usize = 32;
/// How long the first check may take.
const INIT_SECONDS: u64 = 5;

/// The store of an object store.
#[derive(Clone)]
pub(crate) struct NatsClient {
    server: Arc<Server>,
    bucket: Bucket,
    /// Without a slash at either end; empty for the top.
    root: String,
}

impl NatsClient {
    /// A client for a configured object store. Nothing is asked of the server yet.
    pub(crate) fn new(config: &NatsConfig) -> Result<Self, StorageError> {
        let bucket = config.bucket.clone().filter(|bucket| !bucket.is_empty()).ok_or_else(|| {
            let message = "a nats replica needs an object store: set bucket, or url: nats://HOST/BUCKET";
            StorageError::Config(message.into())
        })?;
        if !bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
            let message = format!(
                "invalid bucket {bucket:?} for nats: expected letters, digits, hyphens and underscores"
            );
            return Err(StorageError::Config(message));
        }
        let root = clean_path(config.path.as_deref().unwrap_or_default());
        Ok(NatsClient { server: Server::shared(config)?, bucket: Bucket(bucket), root })
    }

    fn location_of(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.server.settings.url(), self.bucket.0)
    }

    fn error(&self, name: &str, operation: &'static str) -> impl FnOnce(Failure) -> StorageError {
        let location = if name.is_empty() { self.location() } else { self.location_of(name) };
        let bucket = self.bucket.0.clone();
        move |failure| failure.into_error(&location, &bucket, operation)
    }

    /// What an object is called.
    fn name(&self, level: Level, txids: TxidRange) -> String {
        Layout::Ltx.object(&self.root, level, txids)
    }

    /// The descriptions of all objects of the object store.
    async fn objects(&self) -> Result<Vec<Found>, StorageError> {
        let found = self.server.ask(|connection| download::list(connection, &self.bucket)).await;
        found.map_err(self.error("", "listing"))
    }

    /// A reader of a range, which is cut where the file ends.
    async fn reader(&self, name: &str, range: Range<u64>) -> Result<Reader, StorageError> {
        let find =
            |connection: Arc<Connection>| async move { self.bucket.find_file(&connection, name).await };
        let found = self.server.ask(find).await.map_err(self.error(name, "reading"))?;
        let size = found.info.size;
        if range.start >= size && range.start > 0 {
            return Err(StorageError::PastEnd { location: self.location_of(name), offset: range.start });
        }
        Ok(Reader::new(&self.server, &self.bucket, found, range.start..range.end.min(size)))
    }

    /// A range of bytes of a file, as [`ReplicaClient::read`] gives them.
    async fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let start = range.start;
        let bytes = self.reader(name, range).await?.read().await.map_err(self.error(name, "reading"))?;
        match bytes.is_empty() {
            true => Err(StorageError::PastEnd { location: self.location_of(name), offset: start }),
            false => Ok(bytes),
        }
    }

    /// What a listing of a folder says of an object, if it is an LTX file in it.
    fn info_of(&self, folder: &str, level: Level, from: Txid, found: &Found) -> Option<FileInfo> {
        let FileName(txids) = found.info.name.strip_prefix(folder)?.strip_prefix('/')?.parse().ok()?;
        let wanted = found.info.is_file() && txids.min() >= from;
        wanted.then(|| FileInfo { level, txids, size: found.info.size, created_at: found.created_at() })
    }
}

#[async_trait]
impl ReplicaClient for NatsClient {
    fn kind(&self) -> &'static str {
        "nats"
    }

    fn location(&self) -> String {
        let location = self.location_of(&self.root);
        location.trim_end_matches('/').to_owned()
    }

    fn legacy(&self) -> Option<&dyn LegacyStore> {
        Some(self)
    }

    async fn init(&self) -> Result<(), StorageError> {
        let look = |connection: Arc<Connection>| async move { self.bucket.look(&connection).await };
        let looked = tokio::time::timeout(Duration::from_secs(INIT_SECONDS), self.server.ask(look)).await;
        let looked = looked.unwrap_or_else(|_| {
            let servers = self.server.settings.servers();
            Err(Failure::Silent(format!("{servers} gave no answer within {INIT_SECONDS} s")))
        });
        looked.map_err(self.error("", "first contact"))
    }

    async fn list(
        &self,
        level: Level,
        from: Txid,
        _timestamps: TimestampSource,
    ) -> Result<Vec<FileInfo>, StorageError> {
        let found = self.objects().await?;
        let folder = Layout::Ltx.folder(&self.root, level);
        let mut files: Vec<FileInfo> =
            found.iter().filter_map(|found| self.info_of(&folder, level, from, found)).collect();
        files.sort_unstable_by_key(|file| file.txids);
        Ok(files)
    }

    async fn read(&self, level: Level, txids: TxidRange, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.read_range(&self.name(level, txids), range).await
    }

    async fn read_stream(
        &self,
        level: Level,
        txids: TxidRange,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        let name = self.name(level, txids);
        let reader = self.reader(&name, from..u64::MAX).await?;
        let client = self.clone();
        let steps = stream::try_unfold(reader, move |mut reader| {
            let (client, name) = (client.clone(), name.clone());
            async move {
                let step = reader.next().await.map_err(client.error(&name, "reading"))?;
                Ok(step.map(|bytes| (bytes, reader)))
            }
        });
        Ok(steps.boxed())
    }

    async fn put(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        body: PutBody,
    ) -> Result<PutOutcome, StorageError> {
        let name = self.name(level, txids);
        let (mut body, mut tries) = (Chunks::of(body), Tries::default());
        loop {
            match upload::put(&self.server, &self.bucket, &name, created_at, &mut body).await {
                Err(failure) if failure.may_pass() && body.restart() && tries.again().await => {}
                done => return done.map_err(self.error(&name, "upload")),
            }
        }
    }

    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError> {
        let names: Vec<String> = files.iter().map(|&(level, txids)| self.name(level, txids)).collect();
        let deleted = stream::iter(names).map(|name| async move {
            let delete = |connection: Arc<Connection>| {
                let name = &name;
                async move { self.bucket.delete(&connection, name).await }
            };
            self.server.ask(delete).await.map_err(self.error(&name, "deleting"))
        });
        deleted.buffer_unordered(FILES_AT_ONCE).try_collect().await
    }
}
