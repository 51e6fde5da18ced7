//! What must be known to reach a replica.
//!
//! Invariant: `None` means "not said". Defaults are filled in when a client is made, never before, so that the
//! caller can lay a configuration file over a URL over defaults.

use std::path::PathBuf;

use crate::secret::Secret;

/// The configuration of a replica, by kind of store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "there is one per replica, and it is not moved about")]
pub enum ReplicaConfig {
    /// A directory.
    File(FileConfig),
    /// An S3 bucket, of Amazon or of anyone who speaks its protocol.
    S3(S3Config),
}

/// A replica in a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileConfig {
    /// The directory. It is made when the first file is written.
    pub path: Option<PathBuf>,
    /// Who may use the files; `None` leaves it to the process.
    pub access: Option<FileAccess>,
}

/// Owner and permissions of what is written, usually those of the database and its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileAccess {
    /// Permission bits of files.
    pub file_mode: u32,
    /// Permission bits of directories.
    pub dir_mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

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
}
