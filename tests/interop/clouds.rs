//! Google Cloud Storage and Azure Blob Storage: the programs take turns with one configuration file.

use std::fs;
use std::path::Path;

use walstream_test_support::golden::{Golden, sha256};
use walstream_test_support::replica::files_below;
use walstream_test_support::{Azurite, Gcs};

use crate::site::Site;

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

    /// The database whose replica is there.
    fn site(&self) -> Site<'_> {
        let site = Site::by_config(&self.replica(), || self.txids());
        match self {
            Cloud::Google(gcs) => site.with(gcs.environment()),
            Cloud::Azure(_) => site.with(Azurite::environment()),
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
}

/// What Litestream 0.3 left is found beside nothing newer, and restored. (Litestream 0.5 does so from directories and
/// S3 only.)
fn a_replica_of_version_03_is_restored(cloud: &Cloud) {
    let golden = Golden::copy("v3-a");
    cloud.fill(&golden.replica());
    let site = cloud.site();
    let output = site.folder.path().join("restored.db");
    site.restore(&site.walstream(), &output, &[]);
    assert_eq!(sha256(&output), golden.final_sha256().unwrap());
}

/// The same in several parts.
fn litestream_restores_what_walstream_wrote(cloud: &Cloud) {
    let site = cloud.site();
    site.app.sell(30, 1_000_000);
    site.litestream_restores_what_walstream_wrote();
}

#[test]
fn version_03_on_google_cloud_storage() {
    a_replica_of_version_03_is_restored(&Cloud::Google(Gcs::start()));
}

#[test]
fn version_03_on_azure() {
    a_replica_of_version_03_is_restored(&Cloud::Azure(Azurite::start()));
}

#[test]
fn take_over_on_google_cloud_storage() {
    Cloud::Google(Gcs::start()).site().programs_take_turns(|_| {});
}

#[test]
fn take_over_on_azure() {
    Cloud::Azure(Azurite::start()).site().programs_take_turns(|_| {});
}

#[test]
fn walstream_to_litestream_on_google_cloud_storage() {
    litestream_restores_what_walstream_wrote(&Cloud::Google(Gcs::start()));
}

#[test]
fn walstream_to_litestream_on_azure() {
    litestream_restores_what_walstream_wrote(&Cloud::Azure(Azurite::start()));
}
