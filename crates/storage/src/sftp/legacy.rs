//! A replica of Litestream 0.3 on an SSH server.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::SftpClient;
use super::download::entries_of;
use super::time_of;
use crate::error::StorageError;
use crate::legacy::{FOLDER, LegacyObject, LegacyStore, is_generation};

#[async_trait]
impl LegacyStore for SftpClient {
    async fn list_legacy(&self) -> Result<Vec<LegacyObject>, StorageError> {
        let mut objects = Vec::new();
        let folders = self.entries(FOLDER).await?.into_iter().map(|entry| entry.filename);
        for generation in folders.filter(|name| is_generation(name)) {
            for kind in ["snapshots", "wal"] {
                let folder = format!("{FOLDER}/{generation}/{kind}");
                let files = self.entries(&folder).await?;
                objects.extend(files.iter().filter_map(|file| {
                    let name = format!("{folder}/{}", file.filename);
                    LegacyObject::parse(&name, file.attrs.size?, time_of(&file.attrs))
                }));
            }
        }
        Ok(objects)
    }

    async fn read_legacy(&self, object: &LegacyObject, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.read_range(&object.name, range).await
    }
}

impl SftpClient {
    /// What lies in a folder below the root.
    async fn entries(&self, name: &str) -> Result<Vec<russh_sftp::protocol::File>, StorageError> {
        let path = &self.path(name);
        let list = |connection| async move { entries_of(&connection, path).await };
        let listed = self.server.ask(list).await;
        listed.map_err(|failure| failure.into_error(&self.location_of(name), "listing"))
    }
}
