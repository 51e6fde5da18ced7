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

/// The last TXID of every file on any level, in order, each once: all that `restore -txid` must be able to give.
pub fn txids(replica: &Path) -> Vec<u64> {
    let mut txids: Vec<u64> =
        (0..=9).flat_map(|level| ltx_files(replica, level)).map(|(_, last, _)| last).collect();
    txids.sort_unstable();
    txids.dedup();
    txids
}

/// The TXIDs to which a chain of files leads from nothing. Less than [`txids`] once retention has deleted finer files
/// whose work a coarser file has taken over.
pub fn reachable_txids(replica: &Path) -> Vec<u64> {
    let mut files: Vec<(u64, u64)> =
        (0..=9).flat_map(|level| ltx_files(replica, level)).map(|(first, last, _)| (last, first)).collect();
    files.sort_unstable();
    let mut reached = vec![0];
    for (last, first) in files {
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
