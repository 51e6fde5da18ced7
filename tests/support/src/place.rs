//! The kinds of replica that every program must work with.

use std::path::{Path, PathBuf};

use crate::replica::{StoredFile, file_url, files, last_txids};
use crate::{Moto, WebDav};

/// A replica.
pub enum Place {
    /// A directory.
    Directory(PathBuf),
    /// A bucket of a server of its own.
    S3(Moto),
    /// A folder on a WebDAV server of its own.
    WebDav(WebDav),
}

/// Where in the bucket.
const PREFIX: &str = "backup/shop/";

impl Place {
    /// The folder `replica` of a folder.
    pub fn directory(folder: &Path) -> Place {
        Place::Directory(folder.join("replica"))
    }

    /// A path in an empty bucket.
    pub fn s3() -> Place {
        Place::S3(Moto::start())
    }

    /// Its URL.
    pub fn url(&self) -> String {
        match self {
            Place::Directory(folder) => file_url(folder),
            Place::S3(moto) => moto.replica_url(PREFIX.trim_end_matches('/')),
            Place::WebDav(server) => server.replica_url(PREFIX.trim_end_matches('/')),
        }
    }

    /// Every LTX file.
    pub fn files(&self) -> Vec<StoredFile> {
        match self {
            Place::Directory(folder) => files(folder),
            Place::WebDav(server) => files(&server.files().join(PREFIX)),
            // walstream tries out once whether the store honours conditional writes, and removes what it wrote.
            Place::S3(moto) => moto
                .keys(PREFIX)
                .iter()
                .filter(|key| !key.contains("/.walstream-probe-"))
                .map(|key| file_of_key(key).unwrap_or_else(|| panic!("foreign key {key}")))
                .collect(),
        }
    }

    /// The last TXID of every file, in order.
    pub fn txids(&self) -> Vec<u64> {
        last_txids(&self.files())
    }

    /// The newest TXID of any file, or 0.
    pub fn newest_txid(&self) -> u64 {
        self.txids().last().copied().unwrap_or(0)
    }
}

fn file_of_key(key: &str) -> Option<StoredFile> {
    let (level, name) = key.strip_prefix(PREFIX)?.split_once('/')?;
    assert!(level.len() == 4, "S3 levels have four digits: {key}");
    let (first, last) = name.strip_suffix(".ltx")?.split_once('-')?;
    let txid = |text| u64::from_str_radix(text, 16).ok();
    Some(StoredFile { level: level.parse().ok()?, first: txid(first)?, last: txid(last)? })
}
