//! What becomes of level-0 files over time: compacted level by level, and deleted once nothing needs them.

pub mod levels;
pub mod sources;
