//! What replicas share: connections, by the settings that lead to them.
//!
//! Invariant: as long as somebody uses it there is one for the same settings, and nobody else keeps it alive.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::error::StorageError;

/// Those of one kind that are in use.
pub(crate) struct InUse<K, V>(Mutex<Vec<(K, Weak<V>)>>);

impl<K: PartialEq, V> InUse<K, V> {
    /// None yet.
    pub(crate) const fn none() -> Self {
        InUse(Mutex::new(Vec::new()))
    }

    /// The one with these settings: the one in use already, if another replica has the same.
    pub(crate) fn get(
        &self,
        settings: K,
        make: impl FnOnce() -> Result<V, StorageError>,
    ) -> Result<Arc<V>, StorageError> {
        let mut in_use = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|(_, shared)| shared.strong_count() > 0);
        let known = in_use.iter().find(|(known, _)| *known == settings);
        if let Some(shared) = known.and_then(|(_, shared)| shared.upgrade()) {
            return Ok(shared);
        }
        let shared = Arc::new(make()?);
        in_use.push((settings, Arc::downgrade(&shared)));
        Ok(shared)
    }
}
