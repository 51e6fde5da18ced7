//! A replica in a directory on an SSH server.
//!
//! Invariants: a file gets its name only when its content and its time are on the server; a name that exists is left
//! alone (see [`publish`] for what servers can promise). Nothing is sent to a server whose key is not trusted.
//!
//! The protocol knows times in whole seconds. The millisecond is in the file's own header, which
//! [`TimestampSource::Exact`] reads.

mod connection;
mod download;
mod failure;
mod host_keys;
mod legacy;
mod login;
mod publish;
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
use russh_sftp::protocol::{File, FileAttributes};
use walstream_ltx::{FileName, Header, Level, Timestamp, Txid, TxidRange};

use crate::chunks::Chunks;
use crate::client::{FileInfo, PutBody, PutOutcome, ReplicaClient, TimestampSource};
use crate::config::SftpConfig;
use crate::error::StorageError;
use crate::layout::{Layout, clean_path};
use crate::legacy::LegacyStore;
use crate::tries::Tries;
use connection::Connection;
use failure::Failure;
use publish::Publishing;
use server::Server;
use upload::Upload;

/// How many headers are read, or files deleted, at once.
const FILES_AT_ONCE: usize = 32;
/// How much of a file one step of [`ReplicaClient::read_stream`] brings.
const READ_STEP: u64 = 4 << 20;
/// How long the first check may take.
const INIT_SECONDS: u64 = 5;

/// The store of a directory on an SSH server.
#[derive(Clone)]
pub(crate) struct SftpClient {
    server: Arc<Server>,
    /// Absolute, or relative to the login directory; without a slash at the end.
    root: String,
}

impl SftpClient {
    /// A client for a configured directory. Nothing is asked of the server yet.
    pub(crate) fn new(config: &SftpConfig) -> Result<Self, StorageError> {
        let path = config.path.as_deref().unwrap_or_default();
        // The login directory is the home directory.
        let path = path.strip_prefix("~/").unwrap_or(path);
        let root = match (path.starts_with('/'), clean_path(path)) {
            (true, clean) => format!("/{clean}"),
            (false, clean) => clean,
        };
        if root.is_empty() {
            let message = "an sftp replica needs a directory: set path, or url: sftp://USER@HOST/DIRECTORY";
            return Err(StorageError::Config(message.into()));
        }
        Ok(SftpClient { server: Server::shared(config)?, root })
    }

    /// The path on the server of a name below the root.
    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.root.trim_end_matches('/'))
    }

    fn location_of(&self, name: &str) -> String {
        format!("{}/{name}", self.location().trim_end_matches('/'))
    }

    async fn read_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, StorageError> {
        let (path, start) = (&self.path(name), range.start);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let read = |connection| {
            let range = range.clone();
            async move { download::read(&connection, path, range).await }
        };
        match self.server.ask(read).await {
            Ok(bytes) if bytes.is_empty() => {
                Err(StorageError::PastEnd { location: self.location_of(name), offset: start })
            }
            Ok(bytes) => Ok(bytes.into()),
            Err(failure) => Err(failure.into_error(&self.location_of(name), "reading")),
        }
    }

    /// The file with the time of its header; `None` if it was deleted meanwhile. What is no LTX file keeps its time.
    async fn with_header_time(&self, file: FileInfo) -> Result<Option<FileInfo>, StorageError> {
        let name = Layout::Ltx.object("", file.level, file.txids);
        match self.read_range(&name, 0..Header::SIZE as u64).await {
            Ok(bytes) => {
                let created_at = Header::parse(&bytes).map_or(file.created_at, |header| header.timestamp);
                Ok(Some(FileInfo { created_at, ..file }))
            }
            Err(StorageError::NotFound { .. }) => Ok(None),
            Err(StorageError::PastEnd { .. }) => Ok(Some(file)),
            Err(error) => Err(error),
        }
    }

    /// How files get their names here; tried out in `folder` if nobody knows yet.
    async fn publishing(&self, connection: &Arc<Connection>, folder: &str) -> Result<Publishing, Failure> {
        let find_out = || async {
            let found = Publishing::find_out(connection, folder).await?;
            if !found.is_exclusive() {
                tracing::warn!(
                    server = self.server.settings.server(),
                    "this server overwrites existing files even when asked not to; names are looked up before each \
                     write instead, so make sure that only one process replicates to each path"
                );
            }
            Ok(found)
        };
        self.server.publishing.get_or_try_init(find_out).await.copied()
    }

    async fn put_once(
        &self,
        target: &str,
        created_at: Timestamp,
        body: &mut Chunks,
    ) -> Result<PutOutcome, Failure> {
        let connection = self.server.connection().await?;
        let Some(upload) = Upload::begin(&self.server, &connection, target).await? else {
            return Ok(PutOutcome::AlreadyExists);
        };
        upload.write(body, created_at).await?;
        let folder = target.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let way = self.publishing(&connection, folder).await?;
        upload.publish(way).await
    }

    /// Removes what crashed uploads left, as far as that may be.
    async fn remove_abandoned(&self, connection: &Connection, folder: &str, entries: &[File]) {
        for entry in entries.iter().filter(|entry| upload::is_abandoned(&entry.filename, &entry.attrs)) {
            let path = format!("{folder}/{}", entry.filename);
            match connection.ask(connection.sftp.remove(&path)).await {
                Ok(_) => tracing::info!(path, "removed an abandoned temporary file"),
                Err(failure) => tracing::debug!(path, ?failure, "cannot remove an abandoned temporary file"),
            }
        }
    }

    async fn look_at_root(&self) -> Result<(), Failure> {
        let connection = self.server.connection().await?;
        let Some(found) = connection.ask_if_there(connection.sftp.stat(&self.root)).await? else {
            // It is made with the first file.
            return Ok(());
        };
        if found.attrs.permissions.is_some() && !found.attrs.is_dir() {
            return Err(Failure::Setup("this is not a directory".into()));
        }
        let opened = connection.ask(connection.sftp.opendir(&self.root)).await?;
        drop(connection::Opened::new(&connection, opened.handle));
        Ok(())
    }
}

/// What a listing says of a file, if it is an LTX file.
fn info_of(level: Level, from: Txid, file: &File) -> Option<FileInfo> {
    let FileName(txids) = file.filename.parse().ok()?;
    let is_file = file.attrs.permissions.is_none() || file.attrs.is_regular();
    let size = file.attrs.size.filter(|_| is_file && txids.min() >= from)?;
    Some(FileInfo { level, txids, size, created_at: time_of(&file.attrs) })
}

/// The time of a file, in whole seconds.
fn time_of(attributes: &FileAttributes) -> Timestamp {
    Timestamp::from_millis(i64::from(attributes.mtime.unwrap_or_default()) * 1000)
}

#[async_trait]
impl ReplicaClient for SftpClient {
    fn kind(&self) -> &'static str {
        "sftp"
    }

    fn location(&self) -> String {
        let separator = if self.root.starts_with('/') { "" } else { "/~/" };
        format!("{}{separator}{}", self.server.settings.url(), self.root)
    }

    fn legacy(&self) -> Option<&dyn LegacyStore> {
        Some(self)
    }

    async fn init(&self) -> Result<(), StorageError> {
        let answer = tokio::time::timeout(Duration::from_secs(INIT_SECONDS), self.look_at_root()).await;
        let answer = answer.unwrap_or_else(|_| {
            let server = self.server.settings.server();
            Err(Failure::Silent(format!("{server} gave no answer within {INIT_SECONDS} s")))
        });
        answer.map_err(|failure| failure.into_error(&self.location(), "first contact"))
    }

    async fn creates_exclusively(&self) -> Result<bool, StorageError> {
        let root = &self.root;
        let find_out = |connection: Arc<Connection>| async move {
            if !connection.exists(root).await? {
                upload::make_folders(&connection, root).await?;
            }
            self.publishing(&connection, root).await
        };
        let way = self.server.ask(find_out).await;
        way.map(Publishing::is_exclusive)
            .map_err(|failure| failure.into_error(&self.location(), "trying out the server"))
    }

    async fn list(
        &self,
        level: Level,
        from: Txid,
        timestamps: TimestampSource,
    ) -> Result<Vec<FileInfo>, StorageError> {
        let name = Layout::Ltx.folder("", level);
        let path = &self.path(&name);
        let list = |connection: Arc<Connection>| async move {
            let entries = download::entries_of(&connection, path).await?;
            self.remove_abandoned(&connection, path, &entries).await;
            Ok(entries)
        };
        let entries = self.server.ask(list).await;
        let entries = entries.map_err(|failure| failure.into_error(&self.location_of(&name), "listing"))?;
        let mut files: Vec<FileInfo> =
            entries.iter().filter_map(|entry| info_of(level, from, entry)).collect();
        if timestamps == TimestampSource::Exact {
            let read = stream::iter(files).map(|file| self.with_header_time(file));
            let read = read.buffer_unordered(FILES_AT_ONCE);
            files = read.try_filter_map(|file| std::future::ready(Ok(file))).try_collect().await?;
        }
        files.sort_unstable_by_key(|file| file.txids);
        Ok(files)
    }

    async fn read(&self, level: Level, txids: TxidRange, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.read_range(&Layout::Ltx.object("", level, txids), range).await
    }

    async fn read_stream(
        &self,
        level: Level,
        txids: TxidRange,
        from: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        let name = Layout::Ltx.object("", level, txids);
        let first = match self.read_range(&name, from..from.saturating_add(READ_STEP)).await {
            Err(StorageError::PastEnd { .. }) if from == 0 => Bytes::new(),
            first => first?,
        };
        let client = self.clone();
        let steps = stream::try_unfold((from, Some(first)), move |(at, ready)| {
            let (client, name) = (client.clone(), name.clone());
            async move {
                let step = match ready {
                    Some(first) => first,
                    None => match client.read_range(&name, at..at.saturating_add(READ_STEP)).await {
                        Err(StorageError::PastEnd { .. }) => return Ok(None),
                        step => step?,
                    },
                };
                let end = at + step.len() as u64;
                Ok((!step.is_empty()).then_some((step, (end, None))))
            }
        });
        Ok(steps.boxed())
    }

    /// Crash points: before the rename there is only a temporary file, which no listing shows; after it the file is
    /// whole and has its time, and only the name may be lost with the server's power.
    async fn put(
        &self,
        level: Level,
        txids: TxidRange,
        created_at: Timestamp,
        body: PutBody,
    ) -> Result<PutOutcome, StorageError> {
        let name = Layout::Ltx.object("", level, txids);
        let path = self.path(&name);
        let (mut body, mut tries) = (Chunks::of(body), Tries::default());
        loop {
            match self.put_once(&path, created_at, &mut body).await {
                Err(failure) if failure.may_pass() && body.restart() && tries.again().await => {}
                done => {
                    return done.map_err(|failure| failure.into_error(&self.location_of(&name), "upload"));
                }
            }
        }
    }

    async fn delete(&self, files: &[(Level, TxidRange)]) -> Result<(), StorageError> {
        let names: Vec<String> =
            files.iter().map(|&(level, txids)| Layout::Ltx.object("", level, txids)).collect();
        let deleted = stream::iter(names).map(|name| async move {
            let path = &self.path(&name);
            let remove = |connection: Arc<Connection>| async move {
                connection.ask_if_there(connection.sftp.remove(path)).await
            };
            let removed = self.server.ask(remove).await;
            removed.map(drop).map_err(|failure| failure.into_error(&self.location_of(&name), "deleting"))
        });
        deleted.buffer_unordered(FILES_AT_ONCE).try_collect().await
    }
}
