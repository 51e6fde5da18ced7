//! A replica of Litestream 0.3 in a directory.

use std::fs;
use std::io;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::{FileClient, blocking, entries_of, timestamp_of};
use crate::error::StorageError;
use crate::legacy::{FOLDER, LegacyObject, LegacyStore, is_generation};

#[async_trait]
impl LegacyStore for FileClient {
    async fn list_legacy(&self) -> Result<Vec<LegacyObject>, StorageError> {
        let client = self.clone();
        blocking(&self.root, move || client.find_legacy()).await
    }

    async fn read_legacy(&self, object: &LegacyObject, range: Range<u64>) -> Result<Bytes, StorageError> {
        self.read_range(self.root.join(&object.name), range).await
    }
}

impl FileClient {
    fn find_legacy(&self) -> Result<Vec<LegacyObject>, StorageError> {
        let mut objects = Vec::new();
        for generation in entries_of(&self.root.join(FOLDER))? {
            let name = generation.file_name();
            let Some(generation) = name.to_str().filter(|name| is_generation(name)) else { continue };
            for kind in ["snapshots", "wal"] {
                let folder = format!("{FOLDER}/{generation}/{kind}");
                for entry in entries_of(&self.root.join(&folder))? {
                    objects.extend(legacy_object(&folder, &entry)?);
                }
            }
        }
        Ok(objects)
    }
}

fn legacy_object(folder: &str, entry: &fs::DirEntry) -> Result<Option<LegacyObject>, StorageError> {
    let Some(name) = entry.file_name().to_str().map(|name| format!("{folder}/{name}")) else {
        return Ok(None);
    };
    match entry.metadata() {
        Ok(meta) => {
            let created_at = meta.modified().map(timestamp_of).unwrap_or_default();
            Ok(LegacyObject::parse(&name, meta.len(), created_at))
        }
        // Deleted since the folder was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StorageError::io("read", &entry.path())(source)),
    }
}
