//! Why a store could not do what it was asked.

/// An error of a store. `location` is the object or replica it speaks of.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The file is not there.
    #[error("{location}: not found")]
    NotFound {
        /// The object.
        location: String,
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
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl StorageError {
    /// Whether the same request may succeed later without a change of the configuration.
    pub fn is_transient(&self) -> bool {
        matches!(self, StorageError::Unavailable { .. } | StorageError::Io { .. })
    }
}
