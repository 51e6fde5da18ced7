//! From keys to a checked configuration: validation in the peer's order and words, then defaults.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use walstream_engine::{HistoryOptions, default_meta_path};
use walstream_storage::url::with_scheme;
use walstream_storage::{Limits, Rate, ReplicaConfig, Secret, without_secrets};

use super::directory::Directory;
use super::duration::GoDuration;
use super::entries::{Entries, Entry};
use super::history::HistoryKeys;
use super::keys::{DatabaseKeys, Mark, ReplicaKeys, RootKeys};
use super::replica;
use super::size::Size;
use super::{
    Config, ConfigError, DatabaseConfig, DatabaseSettings, ShutdownSettings, SocketSettings, expand_path,
};
use crate::heartbeat::Heartbeat;
use crate::http::{Address, ParseAddressError};
use crate::logging::LogOptions;

/// Checks everything and fills in defaults.
pub(super) fn resolve(mut root: RootKeys) -> Result<Config, ConfigError> {
    let history = HistoryKeys::from(&root).over(&HistoryOptions::default(), "")?;
    let shutdown = shutdown(&root)?;
    let heartbeat = heartbeat(&root)?;
    let addr = address(root.addr.as_deref().unwrap_or_default())?;
    let mcp_addr = address(root.mcp_addr.as_deref().unwrap_or_default())?.map(Address::nearby);
    let socket = root.socket.take().map_or(Ok(None), SocketSettings::from_keys)?;
    let logging = LogOptions::from_keys(root.logging.take().unwrap_or_default())?;
    let mut warnings = Vec::new();
    let rates = Rates::of(root.upload_rate, root.download_rate)?;
    let mut entries = Vec::new();
    for (index, database) in std::mem::take(&mut root.dbs).into_iter().enumerate() {
        let number = index + 1;
        warnings.extend(obsolete(&database));
        warnings.extend(foreign(&database));
        entries.push(entry(number, database, &root, &history, &rates)?);
    }
    check_unique(&entries)?;
    let entries = Entries::new(entries);
    let exec = root.exec.take().filter(|exec| !exec.is_empty());
    let defaults = Defaults { root, history, rates };
    Ok(Config { entries, exec, addr, mcp_addr, heartbeat, socket, logging, shutdown, defaults, warnings })
}

/// The top level, for databases that are not listed in the file.
#[derive(Debug, Default)]
pub(crate) struct Defaults {
    root: RootKeys,
    pub(super) history: HistoryOptions,
    pub(super) rates: Rates,
}

impl Defaults {
    /// A database with a replica that is given by its URL.
    pub(crate) fn database(&self, path: PathBuf, url: &str) -> Result<DatabaseConfig, ConfigError> {
        let mut keys = ReplicaKeys { url: Some(url.to_owned()), ..ReplicaKeys::default() };
        let mut replica = replica::from_keys(&keys, &self.root)?;
        if let ReplicaConfig::S3(s3) = &mut replica {
            s3.endpoint = s3.endpoint.take().or_else(endpoint_of_environment);
        }
        keys.inherit(&self.root);
        let mut settings = settings(&path, &DatabaseKeys::default(), &keys, &self.history)?;
        settings.limits = self.rates.limits();
        Ok(DatabaseConfig { settings, ..DatabaseConfig::new(path, replica) })
    }
}

/// The peer asks it for replicas that are given by a URL while it runs, and for no others.
fn endpoint_of_environment() -> Option<String> {
    let endpoint = std::env::var("LITESTREAM_S3_ENDPOINT").ok()?;
    (!endpoint.is_empty()).then(|| with_scheme(&endpoint))
}

/// `field: reason (got value)`, as the peer says it.
pub(super) fn invalid(field: &str, reason: &str, got: impl std::fmt::Display) -> ConfigError {
    ConfigError::new(format!("{field}: {reason} (got {got})"))
}

pub(super) fn positive(field: &str, what: &str, value: GoDuration) -> Result<Duration, ConfigError> {
    value.positive().ok_or_else(|| invalid(field, &format!("{what} must be greater than 0"), value))
}

pub(super) fn not_negative(field: &str, what: &str, value: GoDuration) -> Result<Duration, ConfigError> {
    value.not_negative().ok_or_else(|| invalid(field, &format!("{what} must not be negative"), value))
}

/// Overwrites a default with a key that was given and is valid.
pub(super) fn set<T>(target: &mut T, given: Option<Result<T, ConfigError>>) -> Result<(), ConfigError> {
    if let Some(value) = given {
        *target = value?;
    }
    Ok(())
}

fn shutdown(root: &RootKeys) -> Result<ShutdownSettings, ConfigError> {
    let mut shutdown = ShutdownSettings::default();
    let timeout = |d: GoDuration| {
        let field = "shutdown-sync-timeout";
        d.not_negative().ok_or_else(|| invalid(field, "shutdown-sync-timeout must be >= 0", d))
    };
    set(&mut shutdown.timeout, root.shutdown_sync_timeout.map(timeout))?;
    let interval = |d| positive("shutdown-sync-interval", "shutdown sync interval", d);
    set(&mut shutdown.retry_interval, root.shutdown_sync_interval.map(interval))?;
    Ok(shutdown)
}

/// Nothing is no address.
fn address(text: &str) -> Result<Option<Address>, ConfigError> {
    let address = (!text.is_empty()).then(|| text.parse()).transpose();
    address.map_err(|error: ParseAddressError| ConfigError::new(error.to_string()))
}

fn heartbeat(root: &RootKeys) -> Result<Option<Heartbeat>, ConfigError> {
    let url = root.heartbeat_url.as_deref().unwrap_or_default();
    if !(url.is_empty() || url.starts_with("http://") || url.starts_with("https://")) {
        return Err(invalid(
            "heartbeat-url",
            "heartbeat URL must be a valid HTTP or HTTPS URL",
            without_secrets(url),
        ));
    }
    let mut interval = Heartbeat::INTERVAL;
    let minute = Duration::from_secs(60);
    let long_enough = |d: GoDuration| {
        let field = "heartbeat-interval";
        let valid = d.positive().filter(|&interval| interval >= minute);
        valid.ok_or_else(|| invalid(field, "heartbeat interval must be at least 1 minute", d))
    };
    set(&mut interval, root.heartbeat_interval.map(long_enough))?;
    Ok((!url.is_empty()).then(|| Heartbeat { url: Secret::new(url), interval }))
}

/// Keys of version 0.3, each with what replaces it.
fn obsolete(database: &DatabaseKeys) -> Vec<String> {
    let replica = database.replica.as_ref().or_else(|| database.replicas.as_ref()?.first());
    let of_replica = |pick: fn(&ReplicaKeys) -> &Option<Mark>| replica.is_some_and(|r| pick(r).is_some());
    let given = [
        (
            "max-checkpoint-page-count",
            database.max_checkpoint_page_count.is_some(),
            "checkpoints are bounded by themselves; remove it",
        ),
        (
            "shadow-retention",
            database.shadow_retention.is_some(),
            "local files are kept until they are uploaded; remove it",
        ),
        ("name", of_replica(|r| &r.name), "a database has one replica, which needs no name; remove it"),
        (
            "retention",
            of_replica(|r| &r.retention),
            "write snapshot.retention, at the top level or of the database",
        ),
        ("retention-check-interval", of_replica(|r| &r.retention_check_interval), "remove it"),
        (
            "snapshot-interval",
            of_replica(|r| &r.snapshot_interval),
            "write snapshot.interval, at the top level or of the database",
        ),
    ];
    let place = database.path.as_deref().or(database.dir.as_deref()).unwrap_or_default();
    given
        .into_iter()
        .filter(|(_, given, _)| *given)
        .map(|(key, _, advice)| {
            format!("dbs[{place}]: {key} is a key of version 0.3 and has no effect: {advice}")
        })
        .collect()
}

/// Settings of other kinds of replicas, which the peer passes over in silence.
fn foreign(database: &DatabaseKeys) -> Vec<String> {
    let Some(keys) = database.replica.as_ref().or_else(|| database.replicas.as_ref()?.first()) else {
        return Vec::new();
    };
    let from_url = keys.url.as_deref().and_then(|url| url.parse().ok());
    let Ok(kind) = replica::kind(keys, from_url.as_ref()) else { return Vec::new() };
    let place = database.path.as_deref().or(database.dir.as_deref()).unwrap_or_default();
    let sentence =
        |key| format!("dbs[{place}].replica: {key} has no effect on a replica of type {kind:?}; remove it");
    keys.foreign(kind).into_iter().map(sentence).collect()
}

fn entry(
    number: usize,
    mut keys: DatabaseKeys,
    root: &RootKeys,
    history: &HistoryOptions,
    shared: &Rates,
) -> Result<Entry, ConfigError> {
    let wrong = |reason: String| ConfigError::new(format!("database config #{number}: {reason}"));
    check_combination(&keys).map_err(|reason| wrong(reason.to_owned()))?;
    let place = match keys.path.as_deref().or(keys.dir.as_deref()) {
        Some(place) => expand_path(place.as_ref())?,
        None => return Err(wrong("must specify either 'path' or 'dir'".to_owned())),
    };
    let mut replica_keys = replica_keys(&mut keys).map_err(wrong)?;
    let replica = replica::from_keys(&replica_keys, root).map_err(|mut error| {
        error.message = format!("dbs[{}].replica: {}", place.display(), error.message);
        error
    })?;
    let rates = Rates::of(replica_keys.upload_rate, replica_keys.download_rate)?;
    replica_keys.inherit(root);
    let mut settings = settings(&place, &keys, &replica_keys, history)?;
    settings.limits = rates.or(shared).limits();
    let meta = |key: &Option<String>| key.as_ref().map(|path| expand_path(path.as_ref())).transpose();
    if keys.path.is_some() {
        let meta_path = meta(&keys.meta_path)?.unwrap_or_else(|| default_meta_path(&place));
        return Ok(Entry::Single(DatabaseConfig { path: place, meta_path, replica, settings }));
    }
    let pattern = keys.pattern.as_deref().unwrap_or_default().parse();
    Ok(Entry::Directory(Directory {
        path: place,
        pattern: pattern.map_err(|error: super::glob::ParseGlobError| wrong(error.to_string()))?,
        recursive: keys.recursive,
        watch: keys.watch,
        meta_path: meta(&keys.meta_path)?,
        meta_dir: meta(&keys.meta_dir)?,
        replica,
        settings,
    }))
}

/// How fast files may be sent and read. All replicas that hold the same one share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    pub(super) upload: Option<Arc<Rate>>,
    pub(super) download: Option<Arc<Rate>>,
}

impl Rates {
    fn of(upload: Option<Size>, download: Option<Size>) -> Result<Self, ConfigError> {
        let rate = |key, size: Option<Size>| match size {
            None => Ok(None),
            Some(Size(0)) => Err(invalid(key, "must be greater than 0", 0)),
            Some(Size(bytes)) => Ok(Some(Arc::new(Rate::new(bytes)))),
        };
        Ok(Rates { upload: rate("upload-rate", upload)?, download: rate("download-rate", download)? })
    }

    /// These, and those of the top level where nothing is said.
    fn or(self, shared: &Rates) -> Self {
        Rates {
            upload: self.upload.or_else(|| shared.upload.clone()),
            download: self.download.or_else(|| shared.download.clone()),
        }
    }

    fn limits(&self) -> Limits {
        Limits { upload: self.upload.clone(), download: self.download.clone(), ..Limits::default() }
    }
}

fn check_combination(keys: &DatabaseKeys) -> Result<(), &'static str> {
    let is_directory = keys.dir.is_some();
    let rules = [
        (keys.path.is_some() && is_directory, "cannot specify both 'path' and 'dir'"),
        (is_directory && keys.pattern.is_none(), "'pattern' is required when using 'dir'"),
        (keys.watch && !is_directory, "'watch' can only be enabled with a directory"),
        (keys.meta_dir.is_some() && !is_directory, "'meta-dir' can only be used with a directory"),
        (
            keys.meta_dir.is_some() && keys.meta_path.is_some(),
            "cannot specify both 'meta-path' and 'meta-dir'",
        ),
    ];
    rules.into_iter().find(|(broken, _)| *broken).map_or(Ok(()), |(_, reason)| Err(reason))
}

fn replica_keys(keys: &mut DatabaseKeys) -> Result<ReplicaKeys, String> {
    let mut list = keys.replicas.take().unwrap_or_default();
    let only = match (keys.replica.take(), list.len()) {
        (Some(_), 1..) => Err("cannot specify 'replica' and 'replicas' on a database"),
        (None, 2..) => Err("multiple replicas on a single database are no longer supported"),
        (Some(replica), 0) => Ok(replica),
        (None, _) => list.pop().ok_or("must specify replica for database"),
    };
    only.map_err(str::to_owned)
}

fn settings(
    place: &Path,
    keys: &DatabaseKeys,
    replica: &ReplicaKeys,
    history: &HistoryOptions,
) -> Result<DatabaseSettings, ConfigError> {
    let name = |key: &str| format!("dbs[{}].{key}", place.display());
    let history = HistoryKeys::from((keys, replica)).over(history, &name(""))?;
    let mut settings = DatabaseSettings { history, ..DatabaseSettings::default() };
    let monitor = |d| positive(&name("monitor-interval"), "monitor interval", d);
    set(&mut settings.monitor_interval, keys.monitor_interval.map(monitor))?;
    let checkpoint = |d| not_negative(&name("checkpoint-interval"), "checkpoint interval", d);
    set(&mut settings.checkpoint_interval, keys.checkpoint_interval.map(checkpoint))?;
    let busy = |d| not_negative(&name("busy-timeout"), "busy timeout", d);
    set(&mut settings.busy_timeout, keys.busy_timeout.map(busy))?;
    let sync = |d| positive(&name("replica.sync-interval"), "sync interval", d);
    set(&mut settings.sync_interval, replica.sync_interval.map(sync))?;
    let pages = |n: i64| {
        let valid = u32::try_from(n).ok().filter(|&n| n > 0);
        let reason = "minimum checkpoint page count must be greater than 0";
        valid.ok_or_else(|| invalid(&name("min-checkpoint-page-count"), reason, n))
    };
    set(&mut settings.min_checkpoint_pages, keys.min_checkpoint_page_count.map(pages))?;
    let bytes = |n: i64| {
        let reason = "max sync wal bytes must not be negative";
        u64::try_from(n).map_err(|_| invalid(&name("max-sync-wal-bytes"), reason, n))
    };
    set(&mut settings.max_sync_wal_bytes, keys.max_sync_wal_bytes.map(bytes))?;
    settings.restore_if_missing = keys.restore_if_db_not_exists;
    Ok(settings)
}

/// Two databases must not be the same one, nor share a replica, where they would destroy each other's files.
fn check_unique(entries: &[Entry]) -> Result<(), ConfigError> {
    let (mut paths, mut places) = (HashMap::new(), HashMap::new());
    for (number, entry) in (1..).zip(entries) {
        let Entry::Single(database) = entry else { continue };
        if let Some(first) = paths.insert(&database.path, number) {
            return Err(ConfigError::new(format!(
                "database config #{number}: duplicate path {:?} (already used by database config #{first}); each \
                 database can be listed only once",
                database.path.display().to_string()
            )));
        }
        if let Some(first) = places.insert(database.replica.place(), number) {
            return Err(ConfigError::new(format!(
                "database config #{number}: its replica is already used by database config #{first}; each database \
                 needs a replica of its own"
            ))
            .hint("give every replica its own path"));
        }
    }
    Ok(())
}
