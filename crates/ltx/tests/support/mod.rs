//! What the tests of this crate share: the golden files, and a database built from LTX files.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use walstream_ltx::{
    Checksum, Commit, Decoder, FileName, Header, MergeError, Pgno, Summary, Txid, merge, page_checksum,
    page_digest,
};

/// Replicas made by real Litestream binaries; see the README there.
pub fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

/// Every LTX file below a folder, ordered by level and name.
pub fn ltx_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.unwrap().path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "ltx" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// The TXIDs that a file's name promises.
pub fn txids(path: &Path) -> (Txid, Txid) {
    let FileName(range) = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    (range.min(), range.max())
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file decoded: what is known of it, and its pages.
#[derive(Debug, PartialEq)]
pub struct Contents {
    pub summary: Summary,
    pub pages: BTreeMap<u32, Vec<u8>>,
}

/// Reads a file to its end.
pub fn decode(bytes: &[u8]) -> Result<Contents, walstream_ltx::DecodeError> {
    let mut decoder = Decoder::new(bytes)?;
    let mut pages = BTreeMap::new();
    while let Some(page) = decoder.next_page()? {
        pages.insert(page.pgno.get(), page.data.to_vec());
    }
    Ok(Contents { summary: decoder.finish()?, pages })
}

/// Merges files, oldest first, and gives the result as bytes.
pub fn merge_bytes(files: &[Vec<u8>]) -> Result<Vec<u8>, MergeError> {
    let inputs = files.iter().map(|bytes| Decoder::new(&bytes[..]).map_err(in_merge));
    Ok(merge(inputs.collect::<Result<_, _>>()?, Vec::new())?.0)
}

fn in_merge(source: walstream_ltx::DecodeError) -> MergeError {
    let first = walstream_ltx::TxidRange::single(Txid::FIRST).unwrap();
    MergeError::Input { txids: first, source }
}

/// A database in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Database {
    pub page_size: usize,
    pub commit: Commit,
    pub pages: BTreeMap<u32, Vec<u8>>,
}

impl Database {
    /// Applies a file: its pages, then its size.
    pub fn apply(&mut self, header: &Header, pages: &BTreeMap<u32, Vec<u8>>) {
        self.page_size = header.page_size.bytes();
        self.commit = header.commit;
        self.pages.extend(pages.iter().map(|(pgno, page)| (*pgno, page.clone())));
        self.pages.retain(|pgno, _| *pgno <= header.commit.get());
    }

    /// The database file, pages that were never written as zeros.
    pub fn image(&self) -> Vec<u8> {
        let mut image = vec![0; self.page_size * self.commit.get() as usize];
        for (pgno, page) in &self.pages {
            let start = (*pgno as usize - 1) * self.page_size;
            image[start..start + self.page_size].copy_from_slice(page);
        }
        image
    }

    /// LTX's own rolling checksum.
    pub fn rolling(&self) -> Checksum {
        self.sum(page_checksum)
    }

    /// walstream's.
    pub fn digest(&self) -> Checksum {
        self.sum(page_digest)
    }

    fn sum(&self, one: fn(Pgno, &[u8]) -> Checksum) -> Checksum {
        let sum =
            |sum: Checksum, (pgno, page): (&u32, &Vec<u8>)| sum.toggle(one(Pgno::new(*pgno).unwrap(), page));
        self.pages.iter().fold(Checksum::EMPTY, sum)
    }
}
