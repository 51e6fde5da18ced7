//! From the shadow WAL to level 0 of the replica.
//!
//! | step | module |
//! |---|---|
//! | what the replica holds when we come | [`position`] |
//! | the files that wait, in order, one batch per sync interval | [`queue`] |
//! | many that wait go up as one | [`backlog`] |
//! | what is said while uploads fail | [`outage`] |
//! | is what is there ours, or another writer's? | [`fence`] |
//! | snapshots, streamed | [`snapshot`] |

mod backlog;
pub(crate) mod fence;
mod outage;
pub(crate) mod position;
pub(crate) mod queue;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;
