//! What the tests of the stores share.

#![allow(dead_code, unreachable_pub, reason = "every test program uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

pub mod proxy;
pub mod strict;
pub mod wire;

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use walstream_ltx::header::Header;
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{
    AzureConfig, FileInfo, GcsConfig, PutBody, PutOutcome, ReplicaClient, ReplicaConfig, S3Config, Secret,
    StorageError, TimestampSource, connect,
};
use walstream_test_support::{Azurite, Gcs, Moto};

/// A point in time that differs from "now", with milliseconds that a rounded store would lose.
pub const TIME: Timestamp = Timestamp::from_millis(1_700_000_000_123);

/// The files `min..=max`.
pub fn range(min: u64, max: u64) -> TxidRange {
    TxidRange::new(Txid::new(min), Txid::new(max)).unwrap()
}

/// A client for the path of a bucket on some server.
pub fn s3(endpoint: &str, bucket: &str, path: &str) -> Arc<dyn ReplicaClient> {
    let config = S3Config {
        bucket: Some(bucket.into()),
        path: Some(path.into()),
        endpoint: Some(endpoint.into()),
        access_key_id: Some(Moto::ACCESS_KEY_ID.into()),
        secret_access_key: Some(Secret::new(Moto::SECRET_ACCESS_KEY)),
        part_size: Some(5 << 20),
        ..S3Config::default()
    };
    connect(&ReplicaConfig::S3(config)).unwrap()
}

/// The header of a file whose time is [`TIME`]: all that a store can know of it.
pub fn header(txids: TxidRange) -> Bytes {
    // Of a file that Litestream wrote.
    let golden = "tests/golden/vacuum/replica/ltx/0/0000000000000002-0000000000000002.ltx";
    let file = std::fs::read(walstream_test_support::workspace().join(golden)).unwrap();
    let header = Header { txids, timestamp: TIME, ..Header::parse(&file[..Header::SIZE]).unwrap() };
    Bytes::copy_from_slice(&header.encode().unwrap())
}

/// A replica in a bucket of the emulator of Google Cloud Storage at `endpoint`.
pub fn gcs_config(endpoint: &str, bucket: &str, path: &str) -> GcsConfig {
    GcsConfig { bucket: Some(bucket.into()), path: Some(path.into()), endpoint: Some(endpoint.into()) }
}

/// A client for a replica in the emulator's bucket.
pub fn gcs(endpoint: &str, path: &str) -> Arc<dyn ReplicaClient> {
    connect(&ReplicaConfig::Gcs(gcs_config(endpoint, Gcs::BUCKET, path))).unwrap()
}

/// A replica in the container of an Azurite at `endpoint`, with its shared key.
pub fn azure_config(endpoint: &str, path: &str) -> AzureConfig {
    AzureConfig {
        account_name: Some(Azurite::ACCOUNT.into()),
        account_key: Some(Secret::new(Azurite::KEY)),
        bucket: Some(Azurite::CONTAINER.into()),
        path: Some(path.into()),
        endpoint: Some(endpoint.into()),
        ..AzureConfig::default()
    }
}

/// A client for it.
pub fn azure(endpoint: &str, path: &str) -> Arc<dyn ReplicaClient> {
    connect(&ReplicaConfig::Azure(azure_config(endpoint, path))).unwrap()
}

/// Writes a small level-0 file.
pub async fn put(
    client: &dyn ReplicaClient,
    txids: TxidRange,
    body: &str,
) -> Result<PutOutcome, StorageError> {
    client.put(Level::L0, txids, TIME, PutBody::Bytes(body.to_owned().into())).await
}

/// The level-0 files from a TXID on.
pub async fn list(client: &dyn ReplicaClient, from: u64) -> Vec<FileInfo> {
    client.list(Level::L0, Txid::new(from), TimestampSource::Listing).await.unwrap()
}

/// The whole content of a level-0 file.
pub async fn content(client: &dyn ReplicaClient, txids: TxidRange) -> Vec<u8> {
    let stream = client.read_stream(Level::L0, txids, 0).await.unwrap();
    stream
        .try_fold(Vec::new(), |mut all, chunk| async move {
            all.extend_from_slice(&chunk);
            Ok(all)
        })
        .await
        .unwrap()
}

/// A body of `count` chunks of `size` bytes that differ from each other, as a stream.
pub fn chunks(count: usize, size: usize) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
    futures::stream::iter((0..count).map(move |number| Ok(Bytes::from(vec![number as u8; size])))).boxed()
}
