//! A replica of Litestream 0.3 that somebody copied into an object store: that version knew none.
//!
//! Invariant: the time of an object is the server's, that of the copy.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;

use super::NatsClient;
use super::bucket::Found;
use crate::error::StorageError;
use crate::legacy::{LegacyObject, LegacyStore};

#[async_trait]
impl LegacyStore for NatsClient {
    async fn list_legacy(&self) -> Result<Vec<LegacyObject>, StorageError> {
        let found = self.objects().await?;
        Ok(found.iter().filter_map(|found| self.legacy_object(found)).collect())
    }

    async fn read_legacy(&self, object: &LegacyObject, range: Range<u64>) -> Result<Bytes, StorageError> {
        let name = match self.root.as_str() {
            "" => object.name.clone(),
            root => format!("{root}/{}", object.name),
        };
        self.read_range(&name, range).await
    }
}

impl NatsClient {
    fn legacy_object(&self, found: &Found) -> Option<LegacyObject> {
        let name = match self.root.as_str() {
            "" => &found.info.name,
            root => found.info.name.strip_prefix(root)?.strip_prefix('/')?,
        };
        LegacyObject::parse(name, found.info.size, found.stored_at).filter(|_| found.info.is_file())
    }
}
