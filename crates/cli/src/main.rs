//! `walstream`: streaming replication for SQLite.

fn main() {}
