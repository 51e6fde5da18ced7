//! From a replica back to a database.
