//! What is said over the control socket, in JSON: the peer's words, so that either program's commands work with either
//! program's daemon. TXIDs are numbers.

use serde::{Deserialize, Serialize};

/// A request that names a database: `/start`, `/stop`, `/unregister`, `/snapshot`.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct PathRequest {
    pub(crate) path: String,
    /// In seconds; zero or less: the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<i64>,
}

/// `/register`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct RegisterRequest {
    pub(crate) path: String,
    pub(crate) replica_url: String,
}

/// `/sync`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct SyncRequest {
    pub(crate) path: String,
    /// Until it is on the replica.
    pub(crate) wait: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<i64>,
}

/// `/wait`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct WaitRequest {
    pub(crate) path: String,
    /// Left out: everything that is committed now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) txid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout: Option<i64>,
}

/// The answer to most requests.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Done {
    pub(crate) status: String,
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) txid: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) replicated_txid: Option<u64>,
}

/// `/txid`
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct TxidAnswer {
    pub(crate) txid: u64,
}

/// `/list`
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ListAnswer {
    pub(crate) databases: Vec<ListedDatabase>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct ListedDatabase {
    pub(crate) path: String,
    pub(crate) status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_sync_at: Option<String>,
}

/// `/info`
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct InfoAnswer {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) uptime_seconds: u64,
    pub(crate) started_at: String,
    pub(crate) database_count: usize,
    /// Whose daemon it is; the peer's does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<String>,
}

/// Of one database: `/debug/sync-status`. The last three are not the peer's.
#[derive(Debug, Serialize)]
pub(crate) struct Diagnosis {
    pub(crate) path: String,
    /// Whether something is committed that is not on the replica.
    pub(crate) active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) txid: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_synced_wal_offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replicated_txid: Option<u64>,
    pub(crate) lag_seconds: f64,
    pub(crate) backlog_bytes: u64,
}

/// `/debug/sync-status`
#[derive(Debug, Serialize)]
pub(crate) struct DiagnosisAnswer {
    pub(crate) databases: Vec<Diagnosis>,
}

/// Why not.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct ErrorAnswer {
    pub(crate) error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<String>,
}
