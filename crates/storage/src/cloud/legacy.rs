//! A replica of Litestream 0.3 in a bucket.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore};
use walstream_ltx::Timestamp;

use super::CloudClient;
use super::object::Object;
use crate::error::StorageError;
use crate::legacy::{FOLDER, LegacyObject, LegacyStore};

#[async_trait]
impl LegacyStore for CloudClient {
    async fn list_legacy(&self) -> Result<Vec<LegacyObject>, StorageError> {
        let Object { path, place } = Object::at(&self.bucket, &self.legacy_key(FOLDER))?;
        let opened = self.open(&place, "listing").await?;
        let found = opened.store.list(Some(&path));
        let objects = found.try_filter_map(|meta| std::future::ready(Ok(self.legacy_object(&meta))));
        objects.try_collect().await.map_err(|error| place.failed_listing("listing", error))
    }

    async fn read_legacy(&self, object: &LegacyObject, range: Range<u64>) -> Result<Bytes, StorageError> {
        let object = Object::at(&self.bucket, &self.legacy_key(&object.name))?;
        self.read_whole_range(object, range).await
    }
}

impl CloudClient {
    fn legacy_key(&self, name: &str) -> String {
        if self.root.is_empty() { name.to_owned() } else { format!("{}/{name}", self.root) }
    }

    fn legacy_object(&self, meta: &ObjectMeta) -> Option<LegacyObject> {
        let key = meta.location.as_ref();
        let name = match self.root.as_str() {
            "" => key,
            root => key.strip_prefix(root)?.strip_prefix('/')?,
        };
        let created_at = Timestamp::from_millis(meta.last_modified.timestamp_millis());
        LegacyObject::parse(name, meta.size, created_at)
    }
}
