//! The engine: how a page travels from the WAL of a live database to a replica, and back.
//!
//! ```text
//! application ──► app.db-wal ──► capture ──► shadow ──► upload ──► replica, level 0
//!                                                                     │ history (compact, snapshot, retain)
//!                                                  restore ◄── plan ◄─┴── levels 1…n, snapshots
//! ```
//!
//! Read the folders in that order. Each stage has one entry point, and nothing flows back but a position.
//! `database` is the only place that ties the stages of one database together, `fleet` runs many. `verify` reads what all of
//! them have left on a replica. `metrics` is what can be known of it all while it runs.

mod background;
mod capture;
pub mod clock;
mod database;
pub mod error;
pub mod fleet;
pub mod follow;
mod fs;
pub mod history;
pub mod metrics;
pub mod options;
pub mod restore;
mod shadow;
#[cfg(test)]
mod simulation;
mod stream;
#[cfg(test)]
mod testing;
mod trouble;
mod upload;
pub mod verify;
mod watch;

pub use capture::admit::is_database;
pub use capture::session::Position;
pub use database::once::{OnceOptions, sync_once};
pub use database::run::Unshipped;
pub use database::waiters::Shipped;
pub use error::EngineError;
pub use fleet::{Fleet, Pulse, Released, ShutdownOptions};
pub use metrics::Metrics;
pub use options::{DatabaseOptions, HistoryOptions, default_meta_path};
pub use shadow::outside::LocalState;
pub use watch::{FolderNews, FolderWatch};
