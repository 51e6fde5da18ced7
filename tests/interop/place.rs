//! The two kinds of replica that every test here runs on.

use std::path::{Path, PathBuf};

use walstream_test_support::Moto;
use walstream_test_support::replica::{file_url, txids};

/// A replica.
pub(crate) enum Place {
    Directory(PathBuf),
    S3(Moto),
}

impl Place {
    pub(crate) fn directory(folder: &Path) -> Place {
        Place::Directory(folder.join("replica"))
    }

    pub(crate) fn s3() -> Place {
        Place::S3(Moto::start())
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Place::Directory(folder) => file_url(folder),
            Place::S3(moto) => moto.replica_url("backup/shop"),
        }
    }

    /// The last TXID of every file, in order.
    pub(crate) fn txids(&self) -> Vec<u64> {
        match self {
            Place::Directory(folder) => txids(folder),
            Place::S3(moto) => txids_of_keys(&moto.keys("backup/shop/")),
        }
    }

    pub(crate) fn newest_txid(&self) -> u64 {
        self.txids().last().copied().unwrap_or(0)
    }
}

fn txids_of_keys(keys: &[String]) -> Vec<u64> {
    // walstream tries out once whether the store honours conditional writes, and removes what it wrote.
    let keys = keys.iter().filter(|key| !key.contains("/.walstream-probe-"));
    let last_txid = |key: &String| {
        let name = key.strip_prefix("backup/shop/")?.strip_suffix(".ltx")?;
        let (level, txids) = name.split_once('/')?;
        assert!(level.len() == 4, "S3 levels have four digits: {key}");
        u64::from_str_radix(txids.split_once('-')?.1, 16).ok()
    };
    let mut txids: Vec<u64> =
        keys.map(|key| last_txid(key).unwrap_or_else(|| panic!("foreign key {key}"))).collect();
    txids.sort_unstable();
    txids.dedup();
    txids
}
