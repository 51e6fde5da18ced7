//! The replicas under `tests/golden`, as the real Litestream left them (see the README there).

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::replica::file_url;
use crate::tools::workspace;

/// A golden replica in a folder of its own, with the file times that it had when it was written: in a directory
/// replica the modification time *is* the timestamp, and a checkout does not keep it.
pub struct Golden {
    folder: TempDir,
    manifest: Value,
}

/// A database that can be restored from a golden replica.
pub struct Image {
    /// Its TXID, as 16 hexadecimal digits.
    pub txid: String,
    /// SHA-256 of the restored file.
    pub sha256: String,
    /// When its level-0 file was written, in milliseconds since 1970.
    pub written_ms: u64,
}

impl Golden {
    /// Copies `tests/golden/NAME/replica` and sets its times.
    pub fn copy(name: &str) -> Golden {
        let source = golden_folder().join(name);
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&source.join("replica"), &folder.path().join("replica"));
        let manifest = read_json(&source.join("manifest.json"));
        for (path, file) in manifest["files"].as_object().unwrap() {
            set_time(&folder.path().join(path), time_of(file));
        }
        Golden { folder, manifest }
    }

    /// The URL of the copy.
    pub fn url(&self) -> String {
        file_url(&self.replica())
    }

    /// The copy itself.
    pub fn replica(&self) -> PathBuf {
        self.folder.path().join("replica")
    }

    /// A free name for a restored database.
    pub fn output(&self) -> PathBuf {
        self.folder.path().join("restored.db")
    }

    /// SHA-256 of the source database when replication had ended.
    pub fn final_sha256(&self) -> Option<&str> {
        self.manifest["final_db_sha256"].as_str()
    }

    /// Every image of the manifest, in order of TXID.
    pub fn images(&self) -> Vec<Image> {
        let image = |(txid, image): (&String, &Value)| Image {
            txid: txid.clone(),
            sha256: image["sha256"].as_str().unwrap().to_owned(),
            written_ms: self.level_0_file(txid)["timestamp"].as_u64().unwrap_or(0),
        };
        self.manifest["images"].as_object().unwrap().iter().map(image).collect()
    }

    fn level_0_file(&self, txid: &str) -> &Value {
        &self.manifest["files"][format!("replica/ltx/0/{txid}-{txid}.ltx")]
    }
}

/// `tests/golden`.
pub fn golden_folder() -> PathBuf {
    workspace().join("tests/golden")
}

/// A JSON file under `tests/golden`.
pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// SHA-256 of a file in lower-case hexadecimal.
pub fn sha256(path: &Path) -> String {
    let mut hasher = Sha256::new();
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn time_of(file: &Value) -> SystemTime {
    let since_1970 = match (file["timestamp"].as_u64(), file["mtime_ns"].as_u64()) {
        (Some(ms), _) => Duration::from_millis(ms),
        (_, Some(ns)) => Duration::from_nanos(ns),
        _ => panic!("the manifest has no time for a file"),
    };
    SystemTime::UNIX_EPOCH + since_1970
}

fn set_time(path: &Path, time: SystemTime) {
    File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
