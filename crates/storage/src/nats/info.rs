//! What an object store keeps of each object beside its content, as JSON
//! (<https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md>).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use walstream_ltx::Timestamp;

use crate::timestamp;

/// The header with the time of a file, as the peer writes it.
const TIMESTAMP: &str = "Litestream-Timestamp";
/// Chunks are so large unless an object says otherwise.
pub(super) const CHUNK: usize = 128 << 10;
/// What stands for the time of modification, which the store itself knows.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// The description of one object.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Info {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headers: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<Options>,
    bucket: String,
    /// What the chunks' subject ends in.
    #[serde(default)]
    pub(super) nuid: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    mtime: String,
    #[serde(default)]
    pub(super) chunks: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) deleted: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Options {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_chunk_size: Option<u64>,
}

impl Info {
    /// The description of a new object without content.
    pub(super) fn new(bucket: &str, name: &str, created_at: Timestamp, chunk_size: usize) -> Self {
        let headers =
            timestamp::to_text(created_at).map(|time| BTreeMap::from([(TIMESTAMP.to_owned(), vec![time])]));
        Info {
            name: name.to_owned(),
            headers,
            options: Some(Options { link: None, max_chunk_size: Some(chunk_size as u64) }),
            bucket: bucket.to_owned(),
            nuid: unique(),
            size: 0,
            mtime: NO_TIME.to_owned(),
            chunks: 0,
            digest: None,
            deleted: false,
        }
    }

    /// What is left of an object when it is deleted.
    pub(super) fn tombstone(mut self) -> Self {
        (self.size, self.chunks, self.digest, self.deleted) = (0, 0, None, true);
        self
    }

    /// The time of the file, if it was stored with it.
    pub(super) fn created_at(&self) -> Option<Timestamp> {
        let times = self.headers.as_ref()?.get(TIMESTAMP)?;
        timestamp::from_text(times.first()?)
    }

    /// Whether this is a file with content of its own.
    pub(super) fn is_file(&self) -> bool {
        !self.deleted && self.options.as_ref().is_none_or(|options| options.link.is_none())
    }
}

/// A name for chunks that nobody else has: 22 letters and digits, as everybody makes them.
fn unique() -> String {
    use ring::rand::SecureRandom;
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut random = [0; 22];
    // Without random numbers TLS would not have worked either; the time of the process tells names apart then.
    if ring::rand::SystemRandom::new().fill(&mut random).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        random[..16].copy_from_slice(&now.as_nanos().to_le_bytes());
    }
    random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_the_peers() {
        let time = Timestamp::from_millis(1_795_296_774_269);
        let info = Info { nuid: "N".into(), ..Info::new("b", "ltx/0/x", time, CHUNK) };
        assert_eq!(
            serde_json::to_string(&info).unwrap(),
            "{\"name\":\"ltx/0/x\",\"headers\":{\"Litestream-Timestamp\":[\"2026-11-21T21:32:54.269Z\"]},\
             \"options\":{\"max_chunk_size\":131072},\"bucket\":\"b\",\"nuid\":\"N\",\"size\":0,\
             \"mtime\":\"0001-01-01T00:00:00Z\",\"chunks\":0}"
        );
        assert_eq!(info.created_at(), Some(time));
        assert!(info.is_file() && !info.tombstone().is_file());
    }

    #[test]
    fn names_of_chunks_differ() {
        let (one, other) = (unique(), unique());
        assert!(one != other && one.len() == 22 && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
