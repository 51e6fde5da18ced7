//! Replicas made to be difficult: for each, what Litestream 0.5.17 makes of it is on record
//! (`expected.json`), and this crate does the same, or something better that is listed here with its reason.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use support::{Database, decode, golden, ltx_files, merge_bytes, sha256, txids};
use walstream_ltx::Txid;

/// Where we differ from Litestream, and why.
const STRICTER: [(&str, &str); 2] = [
    ("bad-index-offset,crc-fixed", "random access would read another page; Litestream never compares"),
    ("bad-index-size,crc-fixed", "random access would read a part of a page; Litestream never compares"),
];
const BETTER: [(&str, &str); 2] = [
    ("tracked-snapshot", "valid, and its checksum proves it; Litestream only fails to write what it read"),
    ("tracked-snap+incr", "valid; Litestream only fails to write what it read"),
];

#[derive(Deserialize)]
struct Expected {
    cases: BTreeMap<String, Case>,
}

#[derive(Deserialize)]
struct Case {
    restore_exit: i32,
    image_sha256: Option<String>,
    txid: Option<String>,
}

#[test]
fn every_case_has_its_verdict() {
    let folder = golden().join("synthetic");
    let expected: Expected =
        serde_json::from_str(&fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
    assert_eq!(expected.cases.len(), 41);
    let listed = |table: &[(&str, &str)], name: &str| table.iter().any(|(case, _)| *case == name);
    for (name, case) in &expected.cases {
        let target = case.txid.as_ref().map(|text| text.parse().unwrap());
        let result = restore(&folder.join(name), target);
        let litestream_restores = case.restore_exit == 0;
        if listed(&STRICTER, name) {
            assert!(litestream_restores && result.is_err(), "{name} is listed as stricter");
        } else if listed(&BETTER, name) {
            assert!(!litestream_restores && result.is_ok(), "{name} is listed as better");
        } else {
            assert_eq!(result.is_ok(), litestream_restores, "{name}: {result:?}");
            assert_eq!(result.ok().map(|image| sha256(&image)), case.image_sha256, "{name}");
        }
    }
}

/// The database at a TXID, or the latest, by the plainest way: plan, merge, lay out.
fn restore(folder: &Path, target: Option<Txid>) -> Result<Vec<u8>, String> {
    let read = |path: PathBuf| fs::read(path).map_err(|error| error.to_string());
    let files = plan(folder, target)?.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let merged = merge_bytes(&files).map_err(|error| error.to_string())?;
    let merged = decode(&merged).map_err(|error| error.to_string())?;
    let mut database = Database::default();
    database.apply(&merged.summary.header, &merged.pages);
    Ok(database.image())
}

/// The newest snapshot, then always the file that reaches furthest.
fn plan(folder: &Path, target: Option<Txid>) -> Result<Vec<PathBuf>, String> {
    let limit = target.unwrap_or(Txid::new(u64::MAX));
    let mut files = if folder.exists() { ltx_files(folder) } else { Vec::new() };
    let highest = files.iter().map(|path| txids(path).1).max();
    files.retain(|path| txids(path).1 <= limit);
    let snapshots = files.iter().filter(|path| path.parent().unwrap().ends_with("9"));
    let mut chosen: Vec<_> = snapshots.max_by_key(|path| txids(path).1).into_iter().cloned().collect();
    let mut reached = chosen.first().map_or(Txid::ZERO, |path| txids(path).1);
    while let Some(next) = files
        .iter()
        .filter(|path| txids(path).0 <= reached.next() && txids(path).1 > reached)
        .max_by_key(|path| txids(path).1)
    {
        reached = txids(next).1;
        chosen.push(next.clone());
    }
    let wanted = target.or(highest).ok_or("no files")?;
    if reached == wanted { Ok(chosen) } else { Err(format!("files reach {reached}, not {wanted}")) }
}
