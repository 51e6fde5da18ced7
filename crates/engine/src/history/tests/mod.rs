//! Compaction and retention with real files in a replica in memory.

mod compact;
mod model;
mod retained;
mod run;
