//! Looking into a replica that is a directory, past every program.

use std::fs;
use std::path::{Path, PathBuf};

/// The LTX files of one level of a directory replica, as (first TXID, last TXID, path), in order.
pub fn ltx_files(replica: &Path, level: u8) -> Vec<(u64, u64, PathBuf)> {
    let folder = replica.join(format!("ltx/{level}"));
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let (min, max) = path.file_name()?.to_str()?.strip_suffix(".ltx")?.split_once('-')?;
            Some((u64::from_str_radix(min, 16).ok()?, u64::from_str_radix(max, 16).ok()?, path.clone()))
        })
        .collect();
    files.sort();
    files
}

/// What the name of an LTX file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredFile {
    /// Its level.
    pub level: u8,
    /// Its first TXID.
    pub first: u64,
    /// Its last TXID.
    pub last: u64,
}

/// The LTX files of all levels of a directory replica.
pub fn files(replica: &Path) -> Vec<StoredFile> {
    let of_level = |level| {
        let files = ltx_files(replica, level).into_iter();
        files.map(move |(first, last, _)| StoredFile { level, first, last })
    };
    (0..=9).flat_map(of_level).collect()
}

/// The last TXID of every file, in order, each once: all that `restore -txid` must be able to give.
pub fn last_txids(files: &[StoredFile]) -> Vec<u64> {
    let mut txids: Vec<u64> = files.iter().map(|file| file.last).collect();
    txids.sort_unstable();
    txids.dedup();
    txids
}

/// [`last_txids`] of a directory replica.
pub fn txids(replica: &Path) -> Vec<u64> {
    last_txids(&files(replica))
}

/// The TXIDs to which a chain of files leads from nothing. Less than [`last_txids`] once retention has deleted finer
/// files whose work a coarser file has taken over.
pub fn reachable_txids(files: &[StoredFile]) -> Vec<u64> {
    let mut spans: Vec<(u64, u64)> = files.iter().map(|file| (file.last, file.first)).collect();
    spans.sort_unstable();
    let mut reached = vec![0];
    for (last, first) in spans {
        let leads_on = reached.iter().any(|&at| first <= at + 1 && at < last);
        if leads_on {
            reached.push(last);
        }
    }
    reached.dedup();
    reached.split_off(1)
}

/// The newest TXID of level 0, or 0 for an empty replica.
pub fn newest_txid(replica: &Path) -> u64 {
    ltx_files(replica, 0).last().map_or(0, |(_, last, _)| *last)
}

/// Every regular file below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The bytes of all regular files below a folder.
pub fn bytes_below(folder: &Path) -> u64 {
    files_below(folder).iter().map(|file| file.metadata().unwrap().len()).sum()
}

/// The `file://` URL of a folder.
pub fn file_url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

/// A directory replica that is out of reach for as long as this lives: a file stands in its place.
pub struct OutOfReach {
    replica: PathBuf,
    aside: PathBuf,
}

impl OutOfReach {
    /// Moves the replica aside.
    pub fn take(replica: &Path) -> OutOfReach {
        let aside = replica.with_extension("aside");
        fs::rename(replica, &aside).unwrap();
        fs::write(replica, "in the way").unwrap();
        OutOfReach { replica: replica.to_owned(), aside }
    }
}

impl Drop for OutOfReach {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.replica);
        let _ = fs::rename(&self.aside, &self.replica);
    }
}
