//! Replicas in the buckets of clouds: what S3, Google Cloud Storage and Azure Blob Storage have in common, which is
//! nearly everything.
//!
//! Invariants: an object appears whole or not at all. An existing one is never written over where the store can
//! tell (see [`ReplicaClient::creates_exclusively`](crate::ReplicaClient::creates_exclusively)); elsewhere its name is
//! looked up first.
//!
//! An upload whose answer was lost may have arrived: the retry then finds the name taken. That is reported as
//! [`PutOutcome::AlreadyExists`](crate::PutOutcome::AlreadyExists), and whoever uploads compares the content.

mod bucket;
mod client;
mod credentials;
mod crowd;
mod failure;
mod legacy;
mod object;
mod transport;
mod upload;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use object_store::list::PaginatedListStore;
use object_store::{ObjectStore, PutMode, TagSet};

pub(crate) use crate::tries::RETRIES;
pub(crate) use bucket::{Bucket, FIRST_TRY, client_options, retry};
pub(crate) use client::CloudClient;
pub(crate) use credentials::Guarded;
pub(crate) use transport::{Completion, Connector};

use crate::layout::Layout;

/// Parts of large uploads have this size where nothing else is said.
pub(crate) const DEFAULT_PART_SIZE: u64 = 8 << 20;
/// So many parts are under way at once where nothing else is said.
pub(crate) const DEFAULT_CONCURRENCY: usize = 4;

/// One kind of cloud, with the settings for one bucket in it.
#[async_trait]
pub(crate) trait Cloud: Debug + Send + Sync + 'static {
    /// What the common code must know of the bucket.
    fn facts(&self) -> Facts;

    /// Makes the connections. Requests go out only for what has to be known before, such as a region.
    async fn connect(&self) -> object_store::Result<Opened>;

    /// Warns of what is special to this cloud and is in the way of a replica at the top of the bucket.
    async fn survey_top(&self, _opened: &Opened) {}
}

/// How a bucket differs from other buckets.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Kind of the replica, as configuration files call it.
    pub(crate) kind: &'static str,
    /// The cloud, as messages name it.
    pub(crate) cloud: &'static str,
    /// What this cloud calls a bucket.
    pub(crate) noun: &'static str,
    /// Name of the bucket.
    pub(crate) bucket: String,
    /// URL of the bucket, without secrets.
    pub(crate) url: String,
    /// The server, as messages name it.
    pub(crate) server: String,
    /// How the folders of the levels are named.
    pub(crate) layout: Layout,
    /// The user metadata that holds the time of a file's header.
    pub(crate) time_key: &'static str,
    /// Storage class of new objects. `None`: the bucket's.
    pub(crate) storage_class: Option<String>,
    /// Size of the parts of large uploads in bytes.
    pub(crate) part_size: u64,
    /// How many parts are under way at once.
    pub(crate) concurrency: usize,
    /// Whether every part but the last must have the same size.
    pub(crate) equal_parts: bool,
    /// Whether a write under a taken name is refused. `None`: not known, so it is tried out once.
    pub(crate) creates_exclusively: Option<bool>,
    /// How a single write asks for that: [`PutMode::Create`], or [`PutMode::Overwrite`] where a header of every request
    /// does it.
    pub(crate) create_mode: PutMode,
    /// Tags of new objects.
    pub(crate) tags: TagSet,
}

/// A store of objects that can also be listed page by page.
pub(crate) trait Store: ObjectStore + PaginatedListStore {}

impl<T: ObjectStore + PaginatedListStore> Store for T {}

/// A bucket that requests can be sent to.
#[derive(Debug)]
pub(crate) struct Opened {
    /// For the work: with retries.
    pub(crate) store: Arc<dyn Store>,
    /// For the first check: an answer at once matters more than success.
    pub(crate) impatient: Arc<dyn Store>,
    /// What the HTTP clients of both have in common.
    pub(crate) connector: Connector,
}
