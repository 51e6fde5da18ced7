//! What the server says about a failure, as one sentence.
//!
//! Invariant: the sentence names the place, what was being done and the server's own reason, and holds no secret.

use std::sync::Arc;

use reqwest::Response;

use super::exchange::Trouble;
use super::server::Server;
use crate::error::StorageError;

/// The longest answer of a server that is shown.
const MAX_REASON: usize = 300;

/// A file or folder, as messages speak of it.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) server: Arc<Server>,
    /// A URL without secrets.
    pub(super) location: String,
}

impl Place {
    /// The place of a path below the server's base.
    pub(super) fn new(server: &Arc<Server>, path: &str) -> Self {
        Place { server: Arc::clone(server), location: server.location(path) }
    }

    /// There was no answer while `operation` was being done.
    pub(super) fn failed(&self, operation: &'static str, trouble: &Trouble) -> StorageError {
        self.unavailable(operation, trouble.to_string())
    }

    /// Something that may pass.
    pub(super) fn unavailable(&self, operation: &'static str, reason: impl Into<String>) -> StorageError {
        StorageError::Unavailable { location: self.location.clone(), operation, reason: reason.into() }
    }

    /// What an answer means that is no success.
    pub(super) async fn refused(&self, operation: &'static str, response: Response) -> StorageError {
        let (status, location) = (response.status().as_u16(), self.location.clone());
        match status {
            404 | 410 => StorageError::NotFound { location },
            401 if wants_digest_only(&response) => {
                let reason = "the server asks for Digest authentication, which is not supported; let it take Basic \
                              authentication over https";
                StorageError::Denied { location, reason: reason.into() }
            }
            401 | 403 => StorageError::Denied { location, reason: self.reason(response).await },
            300..=399 => StorageError::Config(format!(
                "{location}: the server answers with a redirect to {}; set webdav-url to where the files are",
                header(&response, "location").unwrap_or("nowhere")
            )),
            405 | 501 => StorageError::Config(format!(
                "{location}: {} does not take WebDAV requests there (it answered {}); correct webdav-url",
                self.server.name(),
                response.status()
            )),
            _ => self.unavailable(operation, self.reason(response).await),
        }
    }

    /// The server's own words, else its status.
    async fn reason(&self, response: Response) -> String {
        let status = response.status();
        let document = self.server.document(response).await.unwrap_or_default();
        match said(&String::from_utf8_lossy(&document)) {
            Some(words) => format!("the server answered {status}: {words}"),
            None => format!("the server answered {status}"),
        }
    }
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn wants_digest_only(response: &Response) -> bool {
    let offers = response.headers().get_all("www-authenticate");
    let mut schemes = offers.iter().filter_map(|offer| offer.to_str().ok()?.split(' ').next()).peekable();
    schemes.peek().is_some() && schemes.all(|scheme| scheme.eq_ignore_ascii_case("digest"))
}

/// The message of an error document as Nextcloud and its relatives send it.
fn said(document: &str) -> Option<String> {
    let (_, rest) = document.split_once("message>")?;
    let (words, _) = rest.split_once("</")?;
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(words.chars().take(MAX_REASON).collect()).filter(|words: &String| !words.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_own_words_are_found() {
        let document = "<d:error xmlns:d=\"DAV:\"><s:exception>X</s:exception><s:message>Quota\n exceeded</s:message></d:error>";
        assert_eq!(said(document).as_deref(), Some("Quota exceeded"));
        assert_eq!(said("<html>Not allowed</html>"), None);
        assert_eq!(
            said(&format!("<message>{}</message>", "ä".repeat(999))).unwrap().chars().count(),
            MAX_REASON
        );
    }
}
