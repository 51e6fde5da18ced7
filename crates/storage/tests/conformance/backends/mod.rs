//! The stores, each with a real server where it needs one.

mod azure;
mod directory;
mod gcs;
mod nats;
mod s3;
mod sftp;
mod webdav;

use std::sync::Arc;

use async_trait::async_trait;
pub(crate) use azure::Azurite;
pub(crate) use directory::Directory;
pub(crate) use gcs::Gcs;
pub(crate) use nats::Nats;
pub(crate) use s3::{Moto, Oss, S3sFs, StrictS3};
pub(crate) use sftp::{OpenSsh, SftpRclone};
use walstream_ltx::{FileName, Level, TxidRange};
use walstream_storage::{ReplicaClient, ReplicaConfig, connect};
pub(crate) use webdav::{DavNginx, DavRclone, DavWsgidav};

/// The replica that most cases use.
pub(crate) const PATH: &str = "some/path";

/// A kind of store on a server of one's own, empty at the start. It ends when this value is dropped.
#[async_trait]
pub(crate) trait Backend: Sized + Send + Sync + 'static {
    /// Name of the column in the table.
    const NAME: &'static str;
    /// Cases that this server cannot show, each with the reason.
    const NOT_SHOWN: &'static [(&'static str, &'static str)] = &[];

    /// Starts the server, with an empty bucket where there are buckets.
    async fn start() -> Self;

    /// `HOST:PORT` of the server; empty for a store without one.
    fn address(&self) -> String;

    /// The replica `path`, reached at `address`: that of the server, or of a proxy before it.
    fn config(&self, address: &str, path: &str) -> ReplicaConfig;

    /// Where a file of a replica is, relative to the replica.
    fn name_of(&self, level: Level, txids: TxidRange) -> String {
        format!("ltx/{level}/{}", FileName(txids))
    }

    /// Stores something in the usual replica, past any client of ours. `name` is relative to the replica.
    async fn plant(&self, name: &str, content: &[u8]);

    /// The usual replica for somebody who may not use it.
    fn with_wrong_credentials(&self) -> ReplicaConfig {
        unimplemented!("a case that {} does not show", Self::NAME)
    }

    /// A replica in a bucket that does not exist.
    fn in_missing_bucket(&self) -> ReplicaConfig {
        unimplemented!("a case that {} does not show", Self::NAME)
    }

    /// Ends the server and starts it again, with what it holds, at the same address.
    async fn restart(&mut self) {
        unimplemented!("a case that {} does not show", Self::NAME)
    }

    /// A client for the usual replica.
    fn client(&self) -> Arc<dyn ReplicaClient> {
        self.client_of(PATH)
    }

    /// A client for another replica.
    fn client_of(&self, path: &str) -> Arc<dyn ReplicaClient> {
        connect(&self.config(&self.address(), path)).unwrap()
    }

    /// A client for the usual replica that reaches it through a proxy.
    fn client_through(&self, proxy: &str) -> Arc<dyn ReplicaClient> {
        connect(&self.config(proxy, PATH)).unwrap()
    }
}
