//! Google Cloud Storage and Azure Blob Storage: the programs take turns with one configuration file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walstream_test_support::compare::{assert_rows, assert_same_pages, assert_sound, rows};
use walstream_test_support::golden::{Golden, sha256};
use walstream_test_support::replica::files_below;
use walstream_test_support::{App, Azurite, Gcs, Program, wait_until};

use crate::{litestream, walstream};

const DEADLINE: Duration = Duration::from_secs(60);

/// A server with an empty bucket.
enum Cloud {
    Google(Gcs),
    Azure(Azurite),
}

impl Cloud {
    /// The replica's section of a configuration file.
    fn replica(&self) -> String {
        match self {
            Cloud::Google(_) => {
                format!("{{type: gs, bucket: {}, path: backup/shop, sync-interval: 50ms}}", Gcs::BUCKET)
            }
            Cloud::Azure(azurite) => format!(
                "{{type: abs, account-name: {}, bucket: {}, path: backup/shop, endpoint: '{}', sync-interval: 50ms}}",
                Azurite::ACCOUNT,
                Azurite::CONTAINER,
                azurite.endpoint()
            ),
        }
    }

    /// The program, let into the cloud.
    fn admit(&self, program: Program) -> Program {
        match self {
            Cloud::Google(gcs) => program.with(gcs.environment()),
            Cloud::Azure(_) => program.with(Azurite::environment()),
        }
    }

    /// The last TXID of every file, in order, each once.
    fn txids(&self) -> Vec<u64> {
        let keys = match self {
            Cloud::Google(gcs) => gcs.keys("backup/shop/ltx/"),
            Cloud::Azure(azurite) => azurite.keys("backup/shop/ltx/"),
        };
        let last = |key: &String| u64::from_str_radix(key.strip_suffix(".ltx")?.rsplit('-').next()?, 16).ok();
        let mut txids: Vec<u64> =
            keys.iter().map(|key| last(key).unwrap_or_else(|| panic!("foreign key {key}"))).collect();
        txids.sort_unstable();
        txids.dedup();
        txids
    }

    /// Copies a directory replica to where the configuration file looks for it.
    fn fill(&self, replica: &Path) {
        for file in files_below(replica) {
            let name = file.strip_prefix(replica).unwrap().to_str().unwrap();
            let (key, content) = (format!("backup/shop/{name}"), fs::read(&file).unwrap());
            match self {
                Cloud::Google(gcs) => gcs.put(&key, &content),
                Cloud::Azure(azurite) => azurite.put(&key, &content),
            }
        }
    }

    fn newest_txid(&self) -> u64 {
        self.txids().last().copied().unwrap_or(0)
    }
}

/// A database, its replica in a cloud, and the configuration file that says so.
struct Shop {
    cloud: Cloud,
    app: App,
    config: PathBuf,
}

impl Shop {
    fn open(cloud: Cloud, folder: &Path) -> Shop {
        let app = App::open(folder.join("shop.db"));
        let config = folder.join("config.yml");
        let dbs = format!("dbs: [{{path: {}, replica: {}}}]\n", app.path().display(), cloud.replica());
        fs::write(&config, dbs).unwrap();
        Shop { cloud, app, config }
    }

    /// The program runs, the application commits, each commit reaches the replica, the program stops.
    fn work_under(&self, program: &Program) {
        let daemon = program.replicate_config(&self.config);
        for size in [50, 1, 20] {
            let before = self.cloud.newest_txid();
            self.app.sell(size, 400);
            self.app.execute("UPDATE item SET name = name || '+' WHERE id % 9 = 2");
            wait_until("the replica grows", DEADLINE, || self.cloud.newest_txid() > before);
        }
        self.app.sell(5, 100);
        daemon.stop();
    }

    fn restore(&self, program: &Program, output: &Path, flags: &[&str]) {
        let config =
            ["restore", "-config", self.config.to_str().unwrap(), "-o", output.to_str().unwrap(), "-force"];
        let database = self.app.path().to_str().unwrap();
        program.run(config.iter().chain(flags).chain([&database])).success();
    }
}

/// litestream → walstream → litestream → walstream. Whoever ran last, both restore the latest state after each
/// hand-over, and at the end the state at every earlier hand-over.
fn programs_take_turns(cloud: Cloud) {
    let folder = tempfile::tempdir().unwrap();
    let (litestream, walstream) = (cloud.admit(litestream()), cloud.admit(walstream()));
    let shop = Shop::open(cloud, folder.path());
    let output = folder.path().join("restored.db");
    let mut hand_overs = Vec::new();
    for program in [&litestream, &walstream, &litestream, &walstream] {
        shop.work_under(program);
        hand_overs.push((format!("{:016x}", shop.cloud.newest_txid()), rows(shop.app.path())));
        for reader in [&litestream, &walstream] {
            shop.restore(reader, &output, &[]);
            assert_same_pages(shop.app.path(), &output);
            assert_sound(&output);
        }
    }
    for reader in [&litestream, &walstream] {
        for (txid, rows) in &hand_overs {
            shop.restore(reader, &output, &["-txid", txid]);
            assert_rows(rows, &output);
        }
    }
}

/// Every state that walstream wrote is the same to both.
fn litestream_restores_what_walstream_wrote(cloud: Cloud) {
    let folder = tempfile::tempdir().unwrap();
    let (litestream, walstream) = (cloud.admit(litestream()), cloud.admit(walstream()));
    let shop = Shop::open(cloud, folder.path());
    // Large enough for several parts.
    shop.app.sell(30, 1_000_000);
    shop.work_under(&walstream);
    let (ours, theirs) = (folder.path().join("by-walstream.db"), folder.path().join("by-litestream.db"));
    for txid in shop.cloud.txids() {
        let txid = format!("{txid:016x}");
        shop.restore(&walstream, &ours, &["-txid", &txid]);
        shop.restore(&litestream, &theirs, &["-txid", &txid]);
        assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "TXID {txid} differs");
        assert_sound(&theirs);
    }
}

/// What Litestream 0.3 left is found beside nothing newer, and restored. (Litestream 0.5 does so from directories and
/// S3 only.)
fn a_replica_of_version_03_is_restored(cloud: Cloud) {
    let folder = tempfile::tempdir().unwrap();
    let walstream = cloud.admit(walstream());
    let shop = Shop::open(cloud, folder.path());
    let output = folder.path().join("restored.db");
    let golden = Golden::copy("v3-a");
    shop.cloud.fill(&golden.replica());
    shop.restore(&walstream, &output, &[]);
    assert_eq!(sha256(&output), golden.final_sha256().unwrap());
}

#[test]
fn version_03_on_google_cloud_storage() {
    a_replica_of_version_03_is_restored(Cloud::Google(Gcs::start()));
}

#[test]
fn version_03_on_azure() {
    a_replica_of_version_03_is_restored(Cloud::Azure(Azurite::start()));
}

#[test]
fn take_over_on_google_cloud_storage() {
    programs_take_turns(Cloud::Google(Gcs::start()));
}

#[test]
fn take_over_on_azure() {
    programs_take_turns(Cloud::Azure(Azurite::start()));
}

#[test]
fn walstream_to_litestream_on_google_cloud_storage() {
    litestream_restores_what_walstream_wrote(Cloud::Google(Gcs::start()));
}

#[test]
fn walstream_to_litestream_on_azure() {
    litestream_restores_what_walstream_wrote(Cloud::Azure(Azurite::start()));
}
