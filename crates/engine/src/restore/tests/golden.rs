//! Replicas that a real Litestream wrote, and synthetic ones that it was asked to restore.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use walstream_ltx::{Header, Timestamp, page_checksum};
use walstream_storage::{FileConfig, ReplicaClient, ReplicaConfig, connect};

use super::{Desk, rolling, set_time};
use crate::restore::{Target, Verified};

pub(crate) const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden");

/// A copy of a golden replica in which each file has its time.
pub(crate) struct Golden {
    manifest: Value,
    folder: PathBuf,
    copy: TempDir,
}

impl Golden {
    pub(crate) fn open(name: &str) -> Self {
        let folder = Path::new(GOLDEN).join(name);
        let manifest = fs::read_to_string(folder.join("manifest.json")).unwrap();
        let golden = Golden {
            manifest: serde_json::from_str(&manifest).unwrap(),
            folder,
            copy: TempDir::new().unwrap(),
        };
        for (path, facts) in golden.manifest["files"].as_object().unwrap() {
            let copy = golden.copy.path().join(path);
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(golden.folder.join(path), &copy).unwrap();
            let millis = facts["timestamp"].as_u64().map(Duration::from_millis);
            let time = millis.or_else(|| facts["mtime_ns"].as_u64().map(Duration::from_nanos));
            set_time(&copy, time.unwrap());
        }
        golden
    }

    pub(crate) fn client(&self) -> Arc<dyn ReplicaClient> {
        client_of(&self.replica())
    }

    /// The copy that a test may change.
    pub(crate) fn replica(&self) -> PathBuf {
        self.copy.path().join("replica")
    }

    pub(crate) fn final_database(&self) -> Vec<u8> {
        fs::read(self.folder.join("final.db")).unwrap()
    }

    /// When a TXID was captured, if its level-0 file is still there.
    fn time_of(&self, txid: &str) -> Option<Timestamp> {
        let files = self.manifest["files"].as_object().unwrap();
        let (path, _) = files.iter().find(|(path, _)| path.contains(&format!("ltx/0/{txid}-")))?;
        Some(Header::parse(&fs::read(self.folder.join(path)).unwrap()).unwrap().timestamp)
    }
}

/// Replicas that a real Litestream wrote, all of them sound.
pub(crate) const REAL: [&str; 10] = [
    "ps512",
    "ps4096",
    "ps65536",
    "vacuum",
    "random512",
    "random4096",
    "checkpoint",
    "restart",
    "frame-0.5.15",
    "frame-then-block",
];

pub(crate) fn client_of(folder: &Path) -> Arc<dyn ReplicaClient> {
    connect(&ReplicaConfig::File(FileConfig { path: Some(folder.to_owned()), access: None })).unwrap()
}

#[tokio::test]
async fn every_state_of_every_real_replica_is_restored() {
    for name in REAL {
        let golden = Golden::open(name);
        let (client, desk) = (golden.client(), Desk::new());
        for (txid, image) in golden.manifest["images"].as_object().unwrap() {
            let (restored, database) =
                desk.restore(&client, Target::Txid(txid.parse().unwrap())).await.unwrap();
            assert_eq!(restored.txid.to_string(), *txid);
            assert_eq!(restored.verified, Verified::FileChecksums);
            assert_eq!(database.len() as u64, image["size"].as_u64().unwrap(), "{name} {txid}");
            let checksum = rolling(restored.page_size, &database, page_checksum).to_string();
            assert_eq!(checksum, image["rolling_db_checksum"].as_str().unwrap(), "{name} {txid}");
        }
        let (_, database) = desk.restore(&client, Target::Latest).await.unwrap();
        if golden.manifest["restore_latest_equals_final_db"] == true {
            assert!(database == golden.final_database(), "{name}");
        }
    }
}

#[tokio::test]
async fn every_time_gives_the_newest_state_at_or_before_it() {
    let golden = Golden::open("ps4096");
    let (client, desk) = (golden.client(), Desk::new());
    let mut checked = 0;
    for (txid, image) in golden.manifest["images"].as_object().unwrap() {
        let Some(time) = golden.time_of(txid) else { continue };
        for time in [time, Timestamp::from_millis(time.as_millis() + 1)] {
            let (restored, database) = desk.restore(&client, Target::At(time)).await.unwrap();
            assert_eq!(restored.txid.to_string(), *txid);
            let checksum = rolling(restored.page_size, &database, page_checksum).to_string();
            assert_eq!(checksum, image["rolling_db_checksum"].as_str().unwrap());
        }
        checked += 1;
    }
    assert!(checked > 10, "{checked}");
}

/// Cases in which walstream judges otherwise than Litestream 0.5.17, and why.
const DELIBERATE: [(&str, &str); 5] = [
    ("tracked-snapshot", "restored: the file is whole; Litestream fails at re-encoding it"),
    ("tracked-snap+incr", "restored: the files are whole; Litestream fails at re-encoding them"),
    ("pagesize-mismatch", "restored: the file with the new page size holds a whole database"),
    ("bad-index-offset,crc-fixed", "refused: reading single pages by this index would give wrong ones"),
    ("bad-index-size,crc-fixed", "refused: reading single pages by this index would give wrong ones"),
];

#[tokio::test]
async fn synthetic_replicas_get_litestreams_verdict_or_a_listed_one() {
    let folder = Path::new(GOLDEN).join("synthetic");
    let expected = fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let seed = fs::read(folder.join("seed.db")).unwrap();
    let mut images = HashMap::from([(expected["seed_image_sha256"].to_string(), seed)]);
    for (name, verdict) in expected["cases"].as_object().unwrap() {
        let target = match verdict["txid"].as_str() {
            Some(txid) => Target::Txid(txid.parse().unwrap()),
            None => Target::Latest,
        };
        let desk = Desk::new();
        let result = desk.restore(&client_of(&folder.join(name)), target).await;
        let agrees = result.is_ok() == (verdict["restore_exit"] == 0);
        let listed = DELIBERATE.iter().any(|(case, _)| case == name);
        assert_eq!(agrees, !listed, "{name}: {:?}", result.map(|(restored, _)| restored));
        match result {
            Err(_) => assert!(desk.names().is_empty(), "{name} left {:?}", desk.names()),
            // Cases with one hash gave Litestream one image, so they must give us one.
            Ok((_, database)) if agrees => {
                let image = images.entry(verdict["image_sha256"].to_string()).or_insert(database.clone());
                assert!(*image == database, "{name}");
            }
            Ok(_) => {}
        }
    }
}
