//! Google Cloud Storage and Azure Blob Storage: the programs take turns with one configuration file.

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
}

/// What is there at first is so large that it goes up in several parts.
fn litestream_restores_what_walstream_wrote(cloud: &Cloud) {
    let site = cloud.site();
    site.app.sell(30, 1_000_000);
    site.litestream_restores_what_walstream_wrote();
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
