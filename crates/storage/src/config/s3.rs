//! What can be said about an S3 replica.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::secret::Secret;

/// A replica in an S3 bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct S3Config {
    /// The bucket, or the ARN of an access point.
    pub bucket: Option<String>,
    /// Where in the bucket.
    pub path: Option<String>,
    /// Default: asked of Amazon, or `us-east-1` with an endpoint.
    pub region: Option<String>,
    /// Another server than Amazon's, with or without scheme.
    pub endpoint: Option<String>,
    /// Key pair; default: environment, then the usual AWS sources.
    pub access_key_id: Option<String>,
    /// Key pair; default: environment, then the usual AWS sources.
    pub secret_access_key: Option<Secret>,
    /// Bucket in the path instead of the host name; default: yes with an endpoint.
    pub force_path_style: Option<bool>,
    /// Sign the content of uploads too; default: yes.
    pub sign_payload: Option<bool>,
    /// Delete many files with one request, which needs a Content-MD5; default: yes.
    pub require_content_md5: Option<bool>,
    /// Accept any TLS certificate; default: no.
    pub skip_verify: Option<bool>,
    /// Storage class of new objects.
    pub storage_class: Option<String>,
    /// Size of the parts of large uploads in bytes.
    pub part_size: Option<u64>,
    /// How many parts are under way at once.
    pub concurrency: Option<usize>,
    /// Encryption with a key of the user's: only `AES256` exists.
    pub sse_customer_algorithm: Option<String>,
    /// That key, 32 bytes in base64.
    pub sse_customer_key: Option<Secret>,
    /// A file that holds that key; it wins over the key itself.
    pub sse_customer_key_path: Option<PathBuf>,
    /// Encryption with a key in Amazon's key service.
    pub sse_kms_key_id: Option<String>,
    /// Encryption with a key of the store's own: `AES256`, or `aws:kms` for the default key of its key service.
    pub sse: Option<String>,
    /// Headers for every request.
    pub headers: Option<BTreeMap<String, Secret>>,
    /// Tags of new objects.
    pub tags: Option<BTreeMap<String, String>>,
    /// Pay for the requests to somebody else's bucket; default: no.
    pub request_payer: Option<bool>,
}
