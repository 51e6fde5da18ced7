//! Why something did not come about on an SSH server, as one sentence.
//!
//! Invariant: the sentence names the place, what was being done and the server's own reason, and never holds a secret.

use russh_sftp::protocol::StatusCode;

use crate::error::StorageError;

/// The longest answer of a server that is shown.
const MAX_REASON: usize = 300;

/// What went wrong.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server's answer to a request.
    Answer {
        /// Its kind.
        code: StatusCode,
        /// The server's own words.
        message: String,
    },
    /// No connection came about, or it broke. It may be tried again at once.
    Lost(String),
    /// The server said nothing for too long.
    Silent(String),
    /// The server lets nobody in who comes like this.
    Denied(String),
    /// What must be changed before it can work.
    Setup(String),
    /// The fault is not the server's.
    Ours(StorageError),
}

impl Failure {
    /// Whether the server says that there is no such file.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Failure::Answer { code: StatusCode::NoSuchFile, .. })
    }

    /// Whether this is what the server says at the end of a file or folder.
    pub(super) fn is_end(&self) -> bool {
        matches!(self, Failure::Answer { code: StatusCode::Eof, .. })
    }

    /// Whether the same may succeed over another connection.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Failure::Lost(_))
    }

    /// Says what failed at `location` while `operation` was being done.
    pub(super) fn into_error(self, location: &str, operation: &'static str) -> StorageError {
        let location = location.to_owned();
        match self {
            Failure::Answer { code: StatusCode::NoSuchFile, .. } => StorageError::NotFound { location },
            Failure::Answer { code: StatusCode::PermissionDenied, message } => {
                StorageError::Denied { location, reason: format!("{operation}: {}", shorten(&message)) }
            }
            Failure::Answer { message, .. } => {
                let reason = format!("the server answered: {}", shorten(&message));
                StorageError::Unavailable { location, operation, reason }
            }
            Failure::Lost(reason) | Failure::Silent(reason) => {
                StorageError::Unavailable { location, operation, reason }
            }
            Failure::Denied(reason) => StorageError::Denied { location, reason },
            Failure::Setup(reason) => StorageError::Config(format!("{location}: {reason}")),
            Failure::Ours(error) => error,
        }
    }
}

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Failure::Lost(match error {
            russh::Error::Disconnect
            | russh::Error::HUP
            | russh::Error::RecvError
            | russh::Error::SendError => "the server ended the connection".to_owned(),
            other => other.to_string(),
        })
    }
}

/// One line of bounded length.
fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
