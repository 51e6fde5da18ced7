//! One database's life: the only place that ties the stages together.
//!
//! ```text
//! open ──► run: capture, checkpoint ──(captured TXID)──► ship: upload level 0
//!            ▲                      ──(snapshot)───────► snapshots: upload level 9
//!            └────(commands)───────────────────────────  history: compact, retain
//! ```
//!
//! Invariant: the task in [`running`] owns the capture. Everybody else sends it commands or reads what it publishes.

pub(crate) mod command;
pub(crate) mod keep;
pub(crate) mod once;
pub(crate) mod open;
pub(crate) mod run;
pub(crate) mod running;
pub(crate) mod ship;
pub(crate) mod snapshots;
pub(crate) mod trouble;
pub(crate) mod turns;
pub(crate) mod validate;
pub(crate) mod waiters;
pub(crate) mod worker;
