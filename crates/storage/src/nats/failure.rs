//! Why something did not come about on a NATS server, as one sentence.
//!
//! Invariant: the sentence names the place, what was being done and the server's own reason, and never holds a secret.

use serde::Deserialize;

use crate::error::StorageError;

/// No message has this subject.
const NO_MESSAGE: u32 = 10037;
/// The subject has moved on since it was looked at.
const WRONG_LAST_SEQUENCE: [u32; 2] = [10071, 10164];
/// There is no such stream, which is what a bucket is.
const NO_STREAM: u32 = 10059;
/// JetStream is not there for this account.
const NO_JETSTREAM: [u32; 2] = [10039, 10076];
/// The bucket holds as much as it may.
const FULL: [u32; 4] = [10023, 10028, 10047, 10077];

/// What JetStream answers to a request that it refuses.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Refusal {
    /// Its kind.
    #[serde(default)]
    err_code: u32,
    /// The server's own words.
    #[serde(default)]
    description: String,
}

/// What went wrong.
#[derive(Debug)]
pub(super) enum Failure {
    /// JetStream's answer to a request.
    Refused(Refusal),
    /// There is no such file.
    NotFound,
    /// The connection broke, or what is asked for is not there at the moment. It may be tried again at once.
    Lost(String),
    /// The server said nothing for too long, or cannot be reached.
    Silent(String),
    /// The server does not let this login do this.
    Denied(String),
    /// What must be changed before it can work.
    Setup(String),
    /// A file is not what it says that it is.
    Damaged(String),
    /// The fault is not the server's.
    Ours(StorageError),
}

impl Failure {
    /// Whether there is no message with a subject.
    pub(super) fn is_no_message(&self) -> bool {
        matches!(self, Failure::Refused(refusal) if refusal.err_code == NO_MESSAGE)
    }

    /// Whether somebody else wrote to a subject first.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Failure::Refused(refusal) if WRONG_LAST_SEQUENCE.contains(&refusal.err_code))
    }

    /// Whether the same may succeed over another connection.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Failure::Lost(_))
    }

    /// Whether nobody knows if the server did what it was asked.
    pub(super) fn leaves_doubt(&self) -> bool {
        matches!(self, Failure::Lost(_) | Failure::Silent(_))
    }

    /// Says what failed at `location` while `operation` was being done in `bucket`.
    pub(super) fn into_error(self, location: &str, bucket: &str, operation: &'static str) -> StorageError {
        let location = location.to_owned();
        match self {
            Failure::Refused(refusal) => refusal.into_error(location, bucket, operation),
            Failure::NotFound => StorageError::NotFound { location },
            Failure::Lost(reason) | Failure::Silent(reason) | Failure::Damaged(reason) => {
                StorageError::Unavailable { location, operation, reason }
            }
            Failure::Denied(reason) => StorageError::Denied { location, reason },
            Failure::Setup(reason) => StorageError::Config(format!("{location}: {reason}")),
            Failure::Ours(error) => error,
        }
    }
}

impl Refusal {
    fn into_error(self, location: String, bucket: &str, operation: &'static str) -> StorageError {
        let Refusal { err_code, description } = self;
        let reason = match err_code {
            NO_STREAM => {
                return StorageError::Config(format!(
                    "{location}: the object store {bucket:?} does not exist: create it with \"nats object add {bucket}\""
                ));
            }
            code if NO_JETSTREAM.contains(&code) => {
                return StorageError::Config(format!(
                    "{location}: JetStream is not enabled for this account: {description}"
                ));
            }
            code if FULL.contains(&code) => format!("the object store {bucket:?} is full: {description}"),
            _ => format!("the server answered: {description}"),
        };
        StorageError::Unavailable { location, operation, reason }
    }
}
