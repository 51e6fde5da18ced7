//! What can go wrong in the engine, said so that a person knows what to do next.

use std::path::{Path, PathBuf};

use walstream_ltx::{Level, PageSize, Txid, TxidRange};
use walstream_storage::StorageError;

/// An error of the engine. Every variant names the file, object or TXID it speaks of.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// SQLite refused.
    #[error("{}: {source}", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// SQLite's own error.
        source: rusqlite::Error,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, such as "read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The file is not a database that can be replicated.
    #[error("{}: {reason}", path.display())]
    NotReplicable {
        /// The database.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The WAL does not hold what its index promises.
    #[error("{}: the WAL does not match its index: {reason}", path.display())]
    Wal {
        /// The database.
        path: PathBuf,
        /// What did not match.
        reason: String,
    },
    /// A stored file is damaged or is not what its name says.
    #[error("level {level} file {txids} is damaged: {reason}")]
    Damaged {
        /// Its level.
        level: Level,
        /// The TXIDs in its name.
        txids: TxidRange,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the shadow WAL is damaged.
    #[error("{}: {reason}", path.display())]
    Shadow {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An LTX file that somebody named is damaged, or does not fit.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process replicates this database from the same metadata folder.
    #[error("{}: another walstream process ({owner}) replicates this database; stop it first", path.display())]
    AlreadyOwned {
        /// The database.
        path: PathBuf,
        /// The process, as it described itself.
        owner: String,
    },
    /// The replica holds a file that this database did not write.
    #[error(
        "replica {location} belongs to another writer: {reason}; replication of this database has stopped and \
         nothing was overwritten. Use a new replica path, or stop the other writer and restart"
    )]
    Fenced {
        /// The replica.
        location: String,
        /// What was found there.
        reason: String,
    },
    /// Nothing to restore.
    #[error("no matching backup files available in {location}")]
    NoBackup {
        /// The replica.
        location: String,
    },
    /// The wanted state cannot be reached from what is stored.
    #[error("{location}: cannot restore to {wanted}: {reason}")]
    Unreachable {
        /// The replica.
        location: String,
        /// "TXID …", "time …" or "the latest state".
        wanted: String,
        /// What the replica can give instead.
        reason: String,
    },
    /// Two states whose pages cannot be compared.
    #[error(
        "the size of a page changed from {before} to {after}, so that every page differs; restore both states, and \
         compare them with sqldiff"
    )]
    PageSizeChanged {
        /// Of the first.
        before: PageSize,
        /// Of the second.
        after: PageSize,
    },
    /// Files between two stored TXIDs are missing.
    #[error(
        "{location}: {}: files reach {have} and go on at {next}; restore an earlier state with -txid {have}",
        missing(*have, *next)
    )]
    Gap {
        /// The replica.
        location: String,
        /// The last TXID that can be reached.
        have: Txid,
        /// The first TXID after the hole.
        next: Txid,
    },
    /// A replica of Litestream 0.3 is damaged or has a hole.
    #[error("{location}: cannot restore this backup of Litestream 0.3: {reason}")]
    Legacy {
        /// The replica.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The restored pages are not those that were captured.
    #[error("{}: restored data fails verification: {reason}", path.display())]
    Verification {
        /// The output file.
        path: PathBuf,
        /// What did not match.
        reason: String,
    },
    /// The output path cannot be used.
    #[error("{0}")]
    Output(String),
    /// A background task ended without an answer; only during shutdown or after a panic.
    #[error("internal task ended early: {0}")]
    TaskLost(String),
}

/// "TXID … is missing" or "TXIDs … to … are missing", of what lies between two TXIDs.
pub(crate) fn missing(have: Txid, next: Txid) -> String {
    let (first, last) = (have.next(), next.prev());
    if first == last {
        format!("TXID {first} is missing")
    } else {
        format!("TXIDs {first} to {last} are missing")
    }
}

impl EngineError {
    /// For `map_err`: an operating-system error with its file and what was being done.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
        let path = path.to_owned();
        move |source| EngineError::Io { action, path, source }
    }

    /// For `map_err`: an error of SQLite with its database.
    pub(crate) fn sqlite(path: &Path) -> impl FnOnce(rusqlite::Error) -> EngineError {
        let path = path.to_owned();
        move |source| EngineError::Sqlite { path, source }
    }

    /// Whether the error means that space ran out on a local disk.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, EngineError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    }
}

impl From<tokio::task::JoinError> for EngineError {
    fn from(error: tokio::task::JoinError) -> Self {
        EngineError::TaskLost(error.to_string())
    }
}
