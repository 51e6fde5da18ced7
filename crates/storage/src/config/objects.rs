//! What can be said about replicas in the object stores of Google, Microsoft and Alibaba.

use std::collections::BTreeMap;

use crate::secret::Secret;

/// A replica in a bucket of Google Cloud Storage. The credentials are Google's usual ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GcsConfig {
    /// The bucket.
    pub bucket: Option<String>,
    /// Where in the bucket.
    pub path: Option<String>,
    /// Another server than Google's, with or without scheme. Over plain HTTP no credentials are sent.
    pub endpoint: Option<String>,
}

/// A replica in a container of Azure Blob Storage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AzureConfig {
    /// The storage account.
    pub account_name: Option<String>,
    /// Its shared key; default: environment, then the usual Azure sources.
    pub account_key: Option<Secret>,
    /// A shared access signature; it wins over the key.
    pub sas_token: Option<Secret>,
    /// The container.
    pub bucket: Option<String>,
    /// Where in the container.
    pub path: Option<String>,
    /// Another server than `https://ACCOUNT.blob.core.windows.net`.
    pub endpoint: Option<String>,
}

/// A replica in a bucket of Alibaba Cloud OSS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct OssConfig {
    /// The bucket.
    pub bucket: Option<String>,
    /// Where in the bucket.
    pub path: Option<String>,
    /// Default: `cn-hangzhou`.
    pub region: Option<String>,
    /// Another server than the region's own, with or without scheme.
    pub endpoint: Option<String>,
    /// Key pair; default: environment.
    pub access_key_id: Option<String>,
    /// Key pair; default: environment.
    pub secret_access_key: Option<Secret>,
    /// Size of the parts of large uploads in bytes.
    pub part_size: Option<u64>,
    /// How many parts are under way at once; default: 3.
    pub concurrency: Option<usize>,
    /// Headers for every request.
    pub headers: Option<BTreeMap<String, Secret>>,
}
