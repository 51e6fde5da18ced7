//! The shape of the configuration file: every key that may be written, and its type. Nothing is decided here.
//!
//! Invariant: a key that is not in this file is an error. Keys that no longer do anything are here so that the answer
//! can say so.

use std::collections::BTreeMap;

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
        of_stores { $( $store:ident: $store_type:ty => [$( $kind:literal ),*], )* }
    ) => {
        /// The whole file.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
        pub(crate) struct RootKeys {
            $( pub(crate) $root: $root_type, )*
            $( pub(crate) $shared: Option<$shared_type>, )*
            $( pub(crate) $store: Option<$store_type>, )*
        }

        /// A replica.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
        pub(crate) struct ReplicaKeys {
            $( pub(crate) $own: $own_type, )*
            $( pub(crate) $shared: Option<$shared_type>, )*
            $( pub(crate) $store: Option<$store_type>, )*
        }

        impl ReplicaKeys {
            /// Takes the top level's value for every shared setting that the replica leaves out.
            pub(crate) fn inherit(&mut self, root: &RootKeys) {
                $( if self.$shared.is_none() { self.$shared.clone_from(&root.$shared); } )*
                $( if self.$store.is_none() { self.$store.clone_from(&root.$store); } )*
            }

            /// Settings that have no effect on a replica of this kind.
            pub(crate) fn foreign(&self, kind: &str) -> Vec<String> {
                let given: Vec<(&str, bool, &[&str])> =
                    vec![ $( (stringify!($store), self.$store.is_some(), &[$( $kind ),*]) ),* ];
                let foreign = given.into_iter().filter(|(_, given, kinds)| *given && !kinds.contains(&kind));
                foreign.map(|(name, ..)| name.replace('_', "-")).collect()
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
        validation_interval: Option<GoDuration>,
        shutdown_sync_timeout: Option<GoDuration>,
        shutdown_sync_interval: Option<GoDuration>,
        addr: Option<String>,
        heartbeat_url: Option<String>,
        heartbeat_interval: Option<GoDuration>,
        socket: Option<SocketKeys>,
        mcp_addr: Option<String>,
    }
    replica {
        r#type: Option<String>,
        path: Option<String>,
        url: Option<String>,
        validation_interval: Option<GoDuration>,
        // Of version 0.3.
        name: Option<Mark>,
        retention: Option<Mark>,
        retention_check_interval: Option<Mark>,
        snapshot_interval: Option<Mark>,
    }
    shared {
        sync_interval: GoDuration,
        max_sync_ltx_files: u64,
        auto_recover: bool,
        upload_rate: Size,
        download_rate: Size,
        age: Mark,
    }
    of_stores {
        bucket: String => ["s3", "gs", "abs", "nats", "oss"],
        region: String => ["s3", "oss"],
        endpoint: String => ["s3", "gs", "abs", "oss"],
        access_key_id: String => ["s3", "oss"],
        secret_access_key: String => ["s3", "oss"],
        force_path_style: bool => ["s3"],
        skip_verify: bool => ["s3"],
        sign_payload: bool => ["s3"],
        require_content_md5: bool => ["s3"],
        storage_class: String => ["s3"],
        part_size: Size => ["s3", "oss"],
        concurrency: u32 => ["s3", "oss"],
        sse_customer_algorithm: String => ["s3"],
        sse_customer_key: String => ["s3"],
        sse_customer_key_path: String => ["s3"],
        sse_kms_key_id: String => ["s3"],
        sse: String => ["s3"],
        headers: BTreeMap<String, String> => ["s3", "oss"],
        tags: BTreeMap<String, String> => ["s3"],
        request_payer: bool => ["s3"],
        account_name: String => ["abs"],
        account_key: String => ["abs"],
        sas_token: String => ["abs"],
        host: String => ["sftp"],
        user: String => ["sftp"],
        password: String => ["sftp", "nats"],
        key_path: String => ["sftp"],
        host_key: String => ["sftp"],
        accept_unknown_host_key: bool => ["sftp"],
        concurrent_writes: bool => ["sftp"],
        webdav_url: String => ["webdav"],
        webdav_username: String => ["webdav"],
        webdav_password: String => ["webdav"],
        jwt: String => ["nats"],
        seed: String => ["nats"],
        creds: String => ["nats"],
        nkey: String => ["nats"],
        username: String => ["nats"],
        token: String => ["nats"],
        tls: bool => ["nats"],
        root_cas: Vec<String> => ["nats"],
        client_cert: String => ["nats"],
        client_key: String => ["nats"],
        max_reconnects: i64 => ["nats"],
        reconnect_wait: GoDuration => ["nats"],
        timeout: GoDuration => ["nats"],
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
    pub(crate) levels: Option<Vec<LevelKeys>>,
    pub(crate) retention: Option<RetentionKeys>,
    pub(crate) l0_retention: Option<GoDuration>,
    pub(crate) l0_retention_check_interval: Option<GoDuration>,
    pub(crate) verify_compaction: Option<bool>,
    pub(crate) validation: Option<ValidationKeys>,
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

/// One entry of `levels`, at the top level or of a database.
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

/// `retention:`, at the top level or of a database.
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
    pub(crate) path: Option<String>,
    pub(crate) permissions: Option<u32>,
}

/// `validation:`, at the top level or of a database.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct ValidationKeys {
    pub(crate) interval: Option<GoDuration>,
}
