//! What `object_store` and the server say about a failure, as one sentence.
//!
//! Invariant: the sentence names the place, what was being done and the server's own reason, and never holds a
//! secret (secrets are only ever in headers, which are not part of these texts).

use std::error::Error as StdError;
use std::sync::Arc;

use object_store::Error;
use object_store::client::{HttpError, HttpErrorKind};

use super::Facts;
use super::bucket::Bucket;
use crate::error::StorageError;
use crate::trust::advise;

/// The longest answer of a server that is shown.
const MAX_REASON: usize = 300;
/// What stands before the status in the texts of `object_store`; the tests of failures notice if it changes.
const STATUS: &str = "non-2xx status code: ";

/// A replica or object, as messages speak of it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) bucket: Arc<Bucket>,
    /// A URL without secrets.
    pub(super) location: String,
}

impl Place {
    /// The place below `root` of a bucket.
    pub(super) fn new(bucket: &Arc<Bucket>, key: &str) -> Self {
        let location = format!("{}/{key}", bucket.facts.url).trim_end_matches('/').to_owned();
        Place { bucket: Arc::clone(bucket), location }
    }

    /// Says what failed while `operation` was being done.
    pub(super) fn failed(&self, operation: &'static str, error: Error) -> StorageError {
        let location = self.location.clone();
        match status(&error) {
            _ if misses_bucket(&error) => self.no_bucket(),
            Some(404) => StorageError::NotFound { location },
            Some(401 | 403) => StorageError::Denied { location, reason: self.reason(&error) },
            _ if ["(code: AccessDenied)", "(code: 403)"].iter().any(|code| says(&error, code)) => {
                StorageError::Denied { location, reason: self.reason(&error) }
            }
            _ => self.unavailable(operation, self.reason(&error)),
        }
    }

    /// Says why a listing failed. It has nothing but the bucket that might not be found.
    pub(super) fn failed_listing(&self, operation: &'static str, error: Error) -> StorageError {
        match status(&error) {
            Some(404) => self.no_bucket(),
            _ => self.failed(operation, error),
        }
    }

    fn no_bucket(&self) -> StorageError {
        let Facts { noun, bucket, server, .. } = &self.bucket.facts;
        StorageError::Config(format!(
            "{}: {noun} {bucket:?} does not exist at {server}; create it, or correct the {noun} name or the endpoint",
            self.location,
        ))
    }

    /// Something that may pass.
    pub(super) fn unavailable(&self, operation: &'static str, reason: impl Into<String>) -> StorageError {
        StorageError::Unavailable { location: self.location.clone(), operation, reason: reason.into() }
    }

    fn reason(&self, error: &Error) -> String {
        let server = &self.bucket.facts.server;
        let chain: Vec<String> = causes(error).map(ToString::to_string).collect();
        if let Some(said) = chain.iter().rev().find_map(|text| server_said(text)) {
            return shorten(&said);
        }
        let cause = chain.last().map(String::as_str).unwrap_or_default();
        let transport = causes(error).find_map(|error| error.downcast_ref::<HttpError>());
        shorten(&match transport.map(HttpError::kind) {
            Some(HttpErrorKind::Connect) => {
                format!("cannot connect to {server}: {}", advise(cause.to_owned()))
            }
            Some(HttpErrorKind::Timeout) => format!("{server} fell silent: {cause}"),
            Some(_) => format!("lost the connection to {server}: {cause}"),
            None => cause.to_owned(),
        })
    }
}

/// Whether a range was refused because the object ends before it: by the server, or, where it sends an empty range
/// instead, by `object_store`.
pub(super) fn is_past_end(error: &Error) -> bool {
    status(error) == Some(416) || says(error, "but object was only")
}

/// Whether an object that was to be deleted is not there.
pub(super) fn is_already_gone(error: &Error) -> bool {
    let is_gone = ["(code: NoSuchKey)", "(code: 404)"].iter().any(|words| says(error, words));
    (is_gone || status(error) == Some(404)) && !misses_bucket(error)
}

/// Whether the server does not know something that the request asked for.
pub(super) fn is_not_implemented(error: &Error) -> bool {
    status(error) == Some(501) || says(error, "<Code>NotImplemented<")
}

/// The status of the answer. `object_store` keeps the type that holds it to itself, so it is read from the text.
fn status(error: &Error) -> Option<u16> {
    causes(error).find_map(|error| {
        let text = error.to_string();
        let (_, status) = text.split_once(STATUS)?;
        status.get(..3)?.parse().ok()
    })
}

/// Whether it is the bucket that is not there, in the words of the clouds.
fn misses_bucket(error: &Error) -> bool {
    // Of each blob in a batch to be deleted Azure tells no more than this sentence.
    let words = ["<Code>NoSuchBucket<", "<Code>ContainerNotFound<", "The specified container does not exist"];
    words.iter().any(|words| says(error, words))
}

fn says(error: &Error, words: &str) -> bool {
    causes(error).any(|error| error.to_string().contains(words))
}

/// The error and its causes, outermost first.
fn causes(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(first), |&error| error.source())
}

/// `Code: Message` of an error document, or the status line of an answer without one.
fn server_said(text: &str) -> Option<String> {
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once("</").map(|(value, _)| value.trim())
    };
    // Azure appends the request's number and the time.
    let element =
        |name: &str| element(name).map(|text| text.split("RequestId:").next().unwrap_or(text).trim());
    if let Some(code) = element("Code").filter(|code| !code.is_empty()) {
        return Some(match element("Message").filter(|message| !message.is_empty()) {
            Some(message) => format!("{code}: {message}"),
            None => code.to_owned(),
        });
    }
    let (_, status) = text.split_once(STATUS)?;
    Some(format!("the server answered {}", status.trim_end_matches([':', ' '])))
}

fn shorten(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_words_come_first() {
        let document = "Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?><Error>\
                        <Code>SignatureDoesNotMatch</Code>\n<Message>The key\n is wrong.</Message></Error>";
        assert_eq!(shorten(&server_said(document).unwrap()), "SignatureDoesNotMatch: The key is wrong.");
        let bare = "Server returned non-2xx status code: 503 Service Unavailable: ";
        assert_eq!(server_said(bare).unwrap(), "the server answered 503 Service Unavailable");
        assert_eq!(server_said("connection refused"), None);
    }

    #[test]
    fn an_endless_answer_is_cut() {
        assert_eq!(shorten(&"ä".repeat(1000)).chars().count(), MAX_REASON + 1);
    }
}
