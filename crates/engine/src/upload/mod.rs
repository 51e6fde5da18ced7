//! From the shadow WAL to level 0 of the replica.
//!
//! | step | module |
//! |---|---|
//! | what the replica holds when we come | [`position`] |
//! | the files that wait, in order, one batch per sync interval | [`queue`] |
//! | a name that is taken: our own retry, or another writer? | [`fence`] |
//! | snapshots, streamed | [`snapshot`] |

pub(crate) mod fence;
pub(crate) mod position;
pub(crate) mod queue;
pub(crate) mod snapshot;
