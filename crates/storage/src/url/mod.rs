//! Replica URLs: `file:///backups/app`, `s3://bucket/path?endpoint=…`.
//!
//! Invariant: a URL means the same place to us and to the peer, or it is an error. What the URL leaves open
//! stays `None` (see [`crate::config`]).

mod authority;
mod file;
mod objects;
mod s3;
mod servers;

use std::str::FromStr;

use crate::config::ReplicaConfig;
use crate::error::StorageError;

pub use s3::with_scheme;

/// Whether a text is meant as a URL (`scheme://…`) and not as a path.
pub fn is_url(text: &str) -> bool {
    scheme_and_rest(text).is_some()
}

fn scheme_and_rest(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let word = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    word.then_some((scheme, rest))
}

impl FromStr for ReplicaConfig {
    type Err = StorageError;

    fn from_str(url: &str) -> Result<Self, StorageError> {
        let (scheme, rest) = scheme_and_rest(url)
            .ok_or_else(|| bad(url, "expected SCHEME://…, such as file:///backups/app"))?;
        match scheme.to_ascii_lowercase().as_str() {
            "file" => file::parse(url, rest).map(ReplicaConfig::File),
            "s3" => s3::parse(url, rest).map(ReplicaConfig::S3),
            "gs" => objects::parse_gcs(url, rest).map(ReplicaConfig::Gcs),
            "abs" => objects::parse_azure(url, rest).map(ReplicaConfig::Azure),
            "oss" => objects::parse_oss(url, rest).map(ReplicaConfig::Oss),
            "sftp" => servers::parse_sftp(url, rest).map(ReplicaConfig::Sftp),
            "webdav" => servers::parse_webdav(url, "http", rest).map(ReplicaConfig::WebDav),
            "webdavs" => servers::parse_webdav(url, "https", rest).map(ReplicaConfig::WebDav),
            "nats" => servers::parse_nats(url, rest).map(ReplicaConfig::Nats),
            other => Err(bad(url, &format!("unsupported scheme {other:?}; supported are {SCHEMES}"))),
        }
    }
}

const SCHEMES: &str = "file, s3, gs, abs, sftp, webdav, webdavs, nats and oss";

/// A URL, or a server without a scheme, without its query and without user information, both of which may hold secrets.
/// What cannot be told apart is left out.
pub fn without_secrets(url: &str) -> String {
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = shown.split_once("://").unwrap_or(("", shown));
    match rest.rsplit_once('@') {
        None => shown.to_owned(),
        Some((_, place)) if scheme.is_empty() => format!("***@{place}"),
        Some((_, place)) => format!("{scheme}://***@{place}"),
    }
}

/// What is wrong with a URL, without its secrets.
fn bad(url: &str, reason: &str) -> StorageError {
    StorageError::Config(format!("invalid replica URL {:?}: {reason}", without_secrets(url)))
}

/// Turns `%41` into `A`; `None` if an escape is broken or the result is not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digit = |byte: u8| char::from(byte).to_digit(16);
        bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_queries_are_not_shown() {
        for (url, shown) in [
            ("https://host:9000/a/b", "https://host:9000/a/b"),
            ("https://me:p@ss/word@host/a?sig=x#y", "https://***@host/a"),
            ("me:secret@host:22", "***@host:22"),
            ("https://:secret@host", "https://***@host"),
            ("host?sig=x", "host"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }

    #[test]
    fn a_wrong_url_says_what_is_wrong_without_its_query() {
        for (url, sentence) in [
            ("/backups/app", "expected SCHEME://…"),
            ("ftp://host/x", "unsupported scheme \"ftp\"; supported are file, s3, gs"),
            ("file://", "no directory given"),
            ("file:///a%zz", "a % must be followed"),
            ("s3://b/x?endpont=y", "unknown parameter \"endpont\"; known are endpoint, region"),
            ("s3://b/x?partSize=5MB", "partSize must be a positive whole number, not \"5MB\""),
            ("s3://b/x?skipVerify=maybe", "skipVerify must be true or false"),
            ("s3://b/a#b", "must be written as %23"),
            ("s3://b/%ff", "invalid % escape"),
            ("s3://key:secret@b/x", "credentials do not belong into the URL"),
            ("s3://arn:aws:s3:::accesspoint/", "expected s3://arn:aws:s3:REGION"),
            ("gs://", "no bucket given, expected gs://BUCKET/PATH"),
            ("gs://b/p?x=y", "it takes no parameters"),
            ("abs://a@/p", "no container given"),
            ("oss:///p", "no bucket given"),
            ("sftp://user:secret@host", "no directory given"),
            ("sftp://user:secret@/p", "no host given"),
            ("sftp://user:secret@host:0x1/p", "invalid port \"0x1\""),
            ("webdav://", "no host given"),
        ] {
            let error = url.parse::<ReplicaConfig>().unwrap_err().to_string();
            assert!(error.contains(sentence), "{url}: {error}");
            assert!(!error.contains('?') && !error.contains("secret@"), "{error}");
        }
    }
}
