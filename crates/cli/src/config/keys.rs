//! The shape of the configuration file: every key that may be written, and its type. Nothing is decided here.
//!
//! Invariant: a key that is not in this file is an error. Keys that no longer do anything, and keys of stores
//! that are not supported yet, are here so that the answer can say so.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_yaml::Spanned;

use super::duration::GoDuration;
use super::size::Size;

/// A key that is known but has no effect. Only where it stands is kept.
pub(crate) type Mark = Spanned<IgnoredAny>;

/// Declares the two places that take replica settings, the top level (defaults for all replicas) and a
/// replica itself, so that each setting is listed once.
macro_rules! replica_settings {
    (
        root { $( $root:ident: $root_type:ty, )* }
        replica { $( $own:ident: $own_type:ty, )* }
        shared { $( $shared:ident: $shared_type:ty, )* }
        foreign { $( $foreign:ident, )* }
    ) => {
        /// The whole file.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
        pub(crate) struct RootKeys {
            $( pub(crate) $root: $root_type, )*
            $( pub(crate) $shared: Option<$shared_type>, )*
            $( pub(crate) $foreign: Option<Mark>, )*
        }

        /// A replica.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
        pub(crate) struct ReplicaKeys {
            $( pub(crate) $own: $own_type, )*
            $( pub(crate) $shared: Option<$shared_type>, )*
            $( pub(crate) $foreign: Option<Mark>, )*
        }

        impl ReplicaKeys {
            /// Takes the top level's value for every shared setting that the replica leaves out.
            pub(crate) fn inherit(&mut self, root: &RootKeys) {
                $( if self.$shared.is_none() { self.$shared.clone_from(&root.$shared); } )*
            }

            /// A setting of a store that is not supported yet, if there is one.
            pub(crate) fn foreign(&self) -> Option<(String, &Mark)> {
                let marks = [ $( (stringify!($foreign), &self.$foreign) ),* ];
                marks.into_iter().find_map(|(name, mark)| Some((name.replace('_', "-"), mark.as_ref()?)))
            }
        }
    };
}

replica_settings! {
    root {
        dbs: Vec<DatabaseKeys>,
        exec: Option<String>,
        logging: Option<LoggingKeys>,
        levels: Option<Vec<LevelKeys>>,
        snapshot: Option<SnapshotKeys>,
        retention: Option<RetentionKeys>,
        l0_retention: Option<GoDuration>,
        l0_retention_check_interval: Option<GoDuration>,
        verify_compaction: Option<bool>,
        validation: Option<ValidationKeys>,
        shutdown_sync_timeout: Option<GoDuration>,
        shutdown_sync_interval: Option<GoDuration>,
        // Listeners and reports that are not there yet.
        addr: Option<Mark>,
        mcp_addr: Option<Mark>,
        socket: Option<SocketKeys>,
        heartbeat_url: Option<String>,
        heartbeat_interval: Option<GoDuration>,
    }
    replica {
        r#type: Option<String>,
        path: Option<String>,
        url: Option<String>,
        // Of version 0.3.
        name: Option<Mark>,
        retention: Option<Mark>,
        retention_check_interval: Option<Mark>,
        snapshot_interval: Option<Mark>,
    }
    shared {
        sync_interval: GoDuration,
        validation_interval: Mark,
        max_sync_ltx_files: u64,
        auto_recover: bool,
        bucket: String,
        region: String,
        endpoint: String,
        access_key_id: String,
        secret_access_key: String,
        force_path_style: bool,
        skip_verify: bool,
        sign_payload: bool,
        require_content_md5: bool,
        storage_class: String,
        part_size: Size,
        concurrency: u32,
        sse_customer_algorithm: String,
        sse_customer_key: String,
        sse_customer_key_path: String,
        sse_kms_key_id: String,
        age: Mark,
    }
    foreign {
        account_name, account_key, sas_token,
        host, user, password, key_path, host_key, concurrent_writes,
        webdav_url, webdav_username, webdav_password,
        jwt, seed, creds, nkey, username, token, tls, root_cas, client_cert, client_key,
        max_reconnects, reconnect_wait, timeout,
    }
}

/// One entry of `dbs`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct DatabaseKeys {
    pub(crate) path: Option<String>,
    pub(crate) dir: Option<String>,
    pub(crate) pattern: Option<String>,
    pub(crate) recursive: bool,
    pub(crate) watch: bool,
    pub(crate) meta_path: Option<String>,
    pub(crate) meta_dir: Option<String>,
    pub(crate) monitor_interval: Option<GoDuration>,
    pub(crate) checkpoint_interval: Option<GoDuration>,
    pub(crate) busy_timeout: Option<GoDuration>,
    pub(crate) min_checkpoint_page_count: Option<i64>,
    pub(crate) truncate_page_n: Option<i64>,
    pub(crate) max_sync_wal_bytes: Option<i64>,
    pub(crate) restore_if_db_not_exists: bool,
    pub(crate) snapshot: Option<SnapshotKeys>,
    pub(crate) replica: Option<ReplicaKeys>,
    pub(crate) replicas: Option<Vec<ReplicaKeys>>,
    // Of version 0.3.
    pub(crate) max_checkpoint_page_count: Option<Mark>,
    pub(crate) shadow_retention: Option<Mark>,
}

/// `logging:`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct LoggingKeys {
    pub(crate) level: Option<String>,
    pub(crate) r#type: Option<String>,
    pub(crate) stderr: bool,
    pub(crate) source: bool,
}

/// One entry of `levels`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct LevelKeys {
    pub(crate) interval: GoDuration,
}

/// `snapshot:`, at the top level or of a database.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct SnapshotKeys {
    pub(crate) interval: Option<GoDuration>,
    pub(crate) retention: Option<GoDuration>,
}

/// `retention:`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct RetentionKeys {
    pub(crate) enabled: Option<bool>,
}

/// `socket:`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct SocketKeys {
    pub(crate) enabled: bool,
    #[serde(rename = "path")]
    _path: Option<String>,
    #[serde(rename = "permissions")]
    _permissions: Option<u32>,
}

/// `validation:`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct ValidationKeys {
    pub(crate) interval: Option<GoDuration>,
}
