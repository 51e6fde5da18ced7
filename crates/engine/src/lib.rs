//! Capture, shadow WAL, upload, compaction, retention and restore of SQLite databases.
