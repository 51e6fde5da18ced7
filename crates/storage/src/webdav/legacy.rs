//! A replica of Litestream 0.3 that somebody copied to a WebDAV server: that version knew none.
//!
//! Invariant: the time of an object is the server's, so it is that of the copy where the copy did not keep times.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::WebDavClient;
use super::folders;
use super::multistatus::Entry;
use crate::error::StorageError;
use crate::legacy::{FOLDER, LegacyObject, LegacyStore, is_generation};

#[async_trait]
impl LegacyStore for WebDavClient {
    async fn list_legacy(&self) -> Result<Vec<LegacyObject>, StorageError> {
        let mut objects = Vec::new();
        let folders = self.entries(FOLDER).await?.into_iter().filter(|entry| entry.is_folder);
        for generation in folders.map(|folder| folder.name).filter(|name| is_generation(name)) {
            for kind in ["snapshots", "wal"] {
                let folder = format!("{FOLDER}/{generation}/{kind}");
                let entries = self.entries(&folder).await?;
                objects.extend(entries.iter().filter_map(|file| {
                    let name = format!("{folder}/{}", file.name);
                    LegacyObject::parse(&name, file.size?, file.modified.unwrap_or_default())
                }));
            }
        }
        Ok(objects)
    }

    async fn read_legacy(&self, object: &LegacyObject, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.read_range(self.target_at(self.path(&object.name)), range).await
    }
}

impl WebDavClient {
    /// The path of a name below the root.
    fn path(&self, name: &str) -> String {
        if self.root.is_empty() { name.to_owned() } else { format!("{}/{name}", self.root) }
    }

    /// What lies in a folder below the root.
    async fn entries(&self, name: &str) -> Result<Vec<Entry>, StorageError> {
        Ok(folders::entries(&self.server, &self.path(name)).await?.unwrap_or_default())
    }
}
