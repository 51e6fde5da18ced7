//! A replica in a folder on a WebDAV server.
//!
//! Invariants: a file appears whole or not at all. It is written under a temporary name and then renamed, and the rename
//! leaves an existing file alone. The server keeps a time of its own only, so where exact times are wanted each file's
//! header is read.

mod body;
mod download;
mod exchange;
mod failure;
mod folders;
mod legacy;
mod multistatus;
mod server;
mod upload;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use reqwest::StatusCode;
use tokio::sync::OnceCell;
use walstream_ltx::header::Header;
use walstream_ltx::{FileName, Level, Timestamp, Txid, TxidRange};

use crate::client::{FileInfo, PutBody, PutOutcome, ReplicaClient, TimestampSource};
use crate::config::WebDavConfig;
use crate::error::StorageError;
use crate::layout::{Layout, clean_path};
use crate::legacy::LegacyStore;
use body::Body;
use download::Download;
use exchange::Request;
use failure::Place;
use multistatus::Entry;
use server::Server;
use upload::Target;

/// Requests of one kind that are under way at once; home servers answer few at a time.
const AT_ONCE: usize = 8;
/// For a longer body it pays to look whether its name is free before anything is sent.
const WORTH_A_LOOK: u64 = 1 << 20;
/// Room that is made for an answer before any of it is there.
const LARGEST_READ: usize = 8 << 20;
/// How long the first check may take.
const INIT_SECONDS: u64 = 5;
/// Levels 0 to 9.
const LEVELS: usize = Level::SNAPSHOT.get() as usize + 1;

/// The store of a folder on a WebDAV server.
#[derive(Clone, Debug)]
pub struct WebDavClient {
    server: Arc<Server>,
    root: String,
    /// Which levels' folders were looked at by this client, before it wrote the first file into each.
    prepared: Arc<[OnceCell<()>; LEVELS]>,
}

impl WebDavClient {
    /// A client for a configured folder. Nothing is asked of the server yet.
    pub fn new(config: &WebDavConfig) -> Result<Self, StorageError> {
        let root = clean_path(config.path.as_deref().unwrap_or_default());
        Ok(WebDavClient { server: Server::shared(config)?, root, prepared: Arc::default() })
    }

    fn folder(&self, level: Level) -> String {
        Layout::Ltx.folder(&self.root, level)
    }

    fn target(&self, level: Level, txids: TxidRange) -> Target {
        self.target_at(Layout::Ltx.object(&self.root, level, txids))
    }

    fn target_at(&self, path: String) -> Target {
        let (place, url) = (Place::new(&self.server, &path), self.server.url(&path));
        Target { server: Arc::clone(&self.server), place, url, path }
    }

    /// A range of bytes of a file, as [`ReplicaClient::read`] gives them.
    async fn read_range(&self, target: Target, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let (offset, length) = (range.start, usize::try_from(range.end - range.start).unwrap_or(usize::MAX));
        let location = target.place.location.clone();
        let mut download = Download::open(target.place, target.url, range).await?;
        let mut bytes = Vec::with_capacity(length.min(LARGEST_READ));
        while let Some(chunk) = download.next().await? {
            bytes.extend_from_slice(&chunk);
        }
        match bytes.is_empty() {
            true => Err(StorageError::PastEnd { location, offset }),
            false => Ok(bytes.into()),
        }
    }

    /// Once, before the first file of a level is written: makes the folder, and clears it of what others abandoned.
    async fn prepare(&self, level: Level) -> Result<(), StorageError> {
        let look = async || {
            let folder = self.folder(level);
            let Some(entries) = folders::entries(&self.server, &folder).await? else {
                return folders::make(&self.server, &folder).await;
            };
            let now = SystemTime::now();
            for entry in entries.iter().filter(|entry| upload::is_abandoned(&entry.name, now)) {
                tracing::info!(
                    file = entry.name,
                    replica = self.location(),
                    "removing an abandoned temporary file"
                );
                upload::remove(&self.server, &self.server.url(&format!("{folder}/{}", entry.name))).await;
            }
            Ok(())
        };
        self.prepared[usize::from(level.get())].get_or_try_init(look).await.map(|_| ())
    }

    /// Whether somebody has removed a level's folder.
    async fn is_folder_missing(&self, level: Level) -> Result<bool, StorageError> {
        let folder = self.folder(level);
        let place = Place::new(&self.server, &folder);
        let answer = folders::look(&self.server, &folder, "0", false).await;
        let response = answer.map_err(|trouble| place.failed("upload", &trouble))?;
        Ok(response.status() == StatusCode::NOT_FOUND)
    }

    /// The file with the time of its header; `None` if it was deleted meanwhile.
    async fn with_header_time(&self, file: FileInfo) -> Result<Option<FileInfo>, StorageError> {
        let header = match self.read(file.level, file.txids, 0..Header::SIZE as u64).await {
            Ok(bytes) => Header::parse(&bytes).ok(),
            Err(StorageError::NotFound { .. }) => return Ok(None),
            // An empty file.
            Err(StorageError::PastEnd { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(Some(FileInfo { created_at: header.map_or(file.created_at, |header| header.timestamp), ..file }))
    }

    /// Deletes one file; one that is gone is no error.
    async fn delete_one(&self, target: Target) -> Result<(), StorageError> {
        let answer = self.server.send(Request::new("DELETE", &target.url)).await;
        let response = answer.map_err(|trouble| target.place.failed("deleting", &trouble))?;
        match response.status().as_u16() {
            200 | 202 | 204 | 404 | 410 => Ok(()),
            _ => Err(target.place.refused("deleting", response).await),
        }
    }
}

/// What a listing says of an LTX file, and whether its time is known.
fn info_of(
    level: Level,
    txids: TxidRange,
    entry: &Entry,
    place: &Place,
) -> Result<(FileInfo, bool), StorageError> {
    let no_size =
        || place.unavailable("listing", format!("the server does not say how long {} is", entry.name));
    let size = entry.size.ok_or_else(no_size)?;
    let created_at = entry.modified.unwrap_or_default();
    Ok((FileInfo { level, txids, size, created_at }, entry.modified.is_some()))
}

#[async_trait]
impl ReplicaClient for WebDavClient {
    fn kind(&self) -> &'static str {
        "webdav"
    }

    fn location(&self) -> String {
        self.server.location(&self.root)
    }

    fn legacy(&self) -> Option<&dyn LegacyStore> {
        Some(self)
    }

    async fn init(&self) -> Result<(), StorageError> {
        let place = Place::new(&self.server, &self.root);
        let operation = "first contact";
        let look = async {
            let answer = folders::look(&self.server, &self.root, "0", true).await;
            let response = answer.map_err(|trouble| place.failed(operation, &trouble))?;
            match response.status() {
                // It is made with the first file.
                StatusCode::MULTI_STATUS | StatusCode::NOT_FOUND => Ok(()),
                status if status.is_success() => Err(StorageError::Config(format!(
                    "{}: {} is no WebDAV server there; correct webdav-url",
                    place.location,
                    self.server.name()
                ))),
                _ => Err(place.refused(operation, response).await),
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(INIT_SECONDS), look).await;
        answer.unwrap_or_else(|_| {
            let reason = format!("{} gave no answer within {INIT_SECONDS} s", self.server.name());
            Err(place.unavailable(operation, reason))
        })
    }

    /// The rename refuses a name that is taken, but many servers look and rename in two steps.
    async fn creates_exclusively(&self) -> Result<bool, StorageError> {
        Ok(false)
    }

    async fn list(
        &self,
        level: Level,
        from: Txid,
        timestamps: TimestampSource,
    ) -> Result<Vec<FileInfo>, StorageError> {
        let folder = self.folder(level);
        let place = Place::new(&self.server, &folder);
        let entries = folders::entries(&self.server, &folder).await?.unwrap_or_default();
        let found = entries.iter().filter(|entry| !entry.is_folder).filter_map(|entry| {
            let FileName(txids) = entry.name.parse().ok()?;
            (txids.min() >= from).then(|| info_of(level, txids, entry, &place))
        });
        let found: Vec<(FileInfo, bool)> = found.collect::<Result<_, _>>()?;
        let asked = stream::iter(found).map(|(file, is_time_known)| async move {
            let wants_header = timestamps == TimestampSource::Exact || !is_time_known;
            if wants_header { self.with_header_time(file).await } else { Ok(Some(file)) }
        });
        let answers = asked.buffer_unordered(AT_ONCE);
        let files = answers.try_filter_map(|file| std::future::ready(Ok(file)));
        let mut files: Vec<FileInfo> = files.try_collect().await?;
        files.sort_unstable_by_key(|file| file.txids);
        Ok(files)
    }

    async fn read(&self, level: Level, txids: TxidRange, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.read_range(self.target(level, txids), range).await
    }

    async fn read_stream(
        &self,
        level: Level,
        txids: TxidRange,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        let Target { place, url, .. } = self.target(level, txids);
        Ok(Download::open(place, url, from..u64::MAX).await?.into_stream())
    }

    async fn put(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        body: PutBody,
    ) -> Result<PutOutcome, StorageError> {
        let target = self.target(level, txids);
        self.prepare(level).await?;
        let is_stream = matches!(body, PutBody::Stream(_));
        if is_stream && target.exists().await? {
            return Ok(PutOutcome::AlreadyExists);
        }
        let body = Body::of(body).await?;
        if !is_stream && body.length() > WORTH_A_LOOK && target.exists().await? {
            return Ok(PutOutcome::AlreadyExists);
        }
        let temp = target.temp();
        if let Some(mut refusal) = temp.write(&body, created_at).await? {
            // Each server has its own answer to that; nginx takes it for an error of its own.
            if self.is_folder_missing(level).await? {
                folders::make(&self.server, &self.folder(level)).await?;
                match temp.write(&body, created_at).await? {
                    Some(again) => refusal = again,
                    None => return temp.publish().await,
                }
            }
            return Err(match refusal.status() {
                StatusCode::NOT_FOUND => {
                    target.place.unavailable("upload", "the server answered 404 Not Found")
                }
                _ => target.place.refused("upload", refusal).await,
            });
        }
        temp.publish().await
    }

    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError> {
        let targets: Vec<Target> = files.iter().map(|&(level, txids)| self.target(level, txids)).collect();
        let deleting = stream::iter(targets).map(|target| self.delete_one(target));
        deleting.buffer_unordered(AT_ONCE).try_collect().await
    }
}
