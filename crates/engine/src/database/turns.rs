//! How many databases send a snapshot to one store at the same time.
//!
//! Invariant: so many thousands of databases that need one at the same moment, at their first start or at midnight, neither flood
//! their store nor take threads and memory for all of them. A store that hangs keeps nobody waiting but the databases on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

/// So many snapshots go to one store at the same time.
const AT_ONCE: usize = 8;

/// The turns at each store. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct SnapshotTurns(Arc<Mutex<HashMap<String, Weak<Semaphore>>>>);

impl SnapshotTurns {
    /// Those at the store of a replica, for as long as any of its databases keeps them.
    pub(crate) fn at(&self, location: &str) -> Arc<Semaphore> {
        // Whatever panicked, what is there is whole.
        let mut stores = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let store = store(location);
        if let Some(turns) = stores.get(store).and_then(Weak::upgrade) {
            return turns;
        }
        stores.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        stores.insert(store.to_owned(), Arc::downgrade(&turns));
        turns
    }
}

/// The scheme and the server or bucket of a URL.
fn store(location: &str) -> &str {
    location.match_indices('/').nth(2).map_or(location, |(end, _)| &location[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_share_the_turns_at_their_store_and_no_other() {
        let turns = SnapshotTurns::default();
        let (a, b, other) = (turns.at("s3://bkt/a"), turns.at("s3://bkt/b/c"), turns.at("s3://other/a"));
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &other));
        assert!(Arc::ptr_eq(&turns.at("file:///a"), &turns.at("file:///b/c")));
        drop((a, b));
        turns.at("s3://third");
        assert_eq!(turns.0.lock().unwrap().len(), 2, "those that nobody needs are forgotten");
    }
}
