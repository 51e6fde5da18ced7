//! Replicas made by hand, whole and broken, with the real Litestream's verdict on each in `expected.json`.
//!
//! walstream restores what Litestream restores, to the same bytes, and refuses what it refuses, but for the cases in
//! [`DIFFERENT`], each with its reason. Whatever the verdict, a restore that succeeds never gives a wrong database.

use std::fs;
use std::path::Path;

use serde_json::Value;
use walstream_test_support::golden::{golden_folder, read_json, sha256};
use walstream_test_support::replica::file_url;

use crate::walstream;

/// Where walstream may decide otherwise, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("tracked-snapshot", "LTX allows database checksums; Litestream cannot write its own stream for them"),
    ("tracked-snap+incr", "LTX allows database checksums; Litestream cannot write its own stream for them"),
    ("pagesize-mismatch", "its second file is a whole database, as after a VACUUM to another page size"),
    ("bad-index-offset,crc-fixed", "a page index that lies is a damaged file; Litestream ignores it"),
    ("bad-index-size,crc-fixed", "a page index that lies is a damaged file; Litestream ignores it"),
];

#[test]
fn verdicts_are_those_of_litestream_or_listed_with_their_reason() {
    let folder = golden_folder().join("synthetic");
    let expected = read_json(&folder.join("expected.json"));
    let scratch = tempfile::tempdir().unwrap();
    for (name, case) in expected["cases"].as_object().unwrap() {
        let replica = folder.join(name);
        // Git keeps no empty folder.
        fs::create_dir_all(scratch.path().join("emptydir")).unwrap();
        let replica = if replica.exists() { replica } else { scratch.path().join("emptydir") };
        if let Err(complaint) = judge(name, case, &replica, &scratch.path().join("restored.db")) {
            panic!("{name}: {complaint}");
        }
    }
}

fn judge(name: &str, case: &Value, replica: &Path, output: &Path) -> Result<(), String> {
    let flags = match case["txid"].as_str() {
        Some(txid) => vec!["-txid", txid],
        None => vec![],
    };
    let restored = walstream().try_restore(&file_url(replica), output, &flags);
    let different = DIFFERENT.iter().any(|(listed, _)| *listed == name);
    if !restored.status.success() {
        if output.exists() {
            return Err("a failed restore left its output behind".into());
        }
        if case["restore_exit"] == 0 && !different {
            return Err(format!("not restored: {}", restored.stderr));
        }
        return Ok(());
    }
    let found = sha256(output);
    fs::remove_file(output).unwrap();
    match case["image_sha256"].as_str() {
        Some(image) if found == image => Ok(()),
        Some(_) => Err("restored to other bytes".into()),
        None if different => Ok(()),
        None => Err(format!("restored, though Litestream says {}", case["error"])),
    }
}
