//! Why a store could not do what it was asked.

use std::path::{Path, PathBuf};

/// An error of a store. `location` is the object or replica it speaks of.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file is not there.
    #[error("{location}: not found")]
    NotFound {
        /// The object.
        location: String,
    },
    /// The file is shorter than whoever asked for a part of it believed.
    #[error("{location}: nothing to read at offset {offset}: the file ends before it")]
    PastEnd {
        /// The object.
        location: String,
        /// Where reading was to start.
        offset: u64,
    },
    /// The store answered that these credentials may not do this.
    #[error("{location}: access denied: {reason}")]
    Denied {
        /// The object or replica.
        location: String,
        /// The store's own words.
        reason: String,
    },
    /// The store could not be reached, or failed in a way that may pass.
    #[error("{location}: {operation} failed: {reason}")]
    Unavailable {
        /// The object or replica.
        location: String,
        /// What was being done.
        operation: &'static str,
        /// The cause.
        reason: String,
    },
    /// The configuration of a replica cannot work.
    #[error("{0}")]
    Config(String),
    /// A local file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done, such as "read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl StorageError {
    /// Whether the same request may succeed later without a change of the configuration.
    pub fn is_transient(&self) -> bool {
        matches!(self, StorageError::Unavailable { .. } | StorageError::Io { .. })
    }

    /// For `map_err`: an operating-system error with its file and what was being done.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StorageError {
        let path = path.to_owned();
        move |source| StorageError::Io { action, path, source }
    }
}
