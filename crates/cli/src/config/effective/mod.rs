//! What a configuration comes to, as a configuration file.
//!
//! Invariant: what is written is a configuration with the same meaning, except that no secret is in it.

mod replica;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use walstream_engine::HistoryOptions;
use walstream_storage::{Rate, ReplicaConfig};

use super::directory::Directory;
use super::duration::GoDuration;
use super::entries::Entry;
use super::resolve::Rates;
use super::yaml::{Map, Yaml};
use super::{Config, ConfigError, DatabaseSettings};
use crate::heartbeat::Heartbeat;
use crate::logging::LogFormat;

/// The whole file.
pub(super) fn text(config: &Config) -> Result<String, ConfigError> {
    let mut map = Map::default();
    let databases = config.entries.iter().map(|entry| entry_map(entry, config).map(Yaml::Map));
    map.add("dbs", Yaml::List(databases.collect::<Result<_, _>>()?));
    rates(&mut map, &config.defaults.rates);
    history(&mut map, &config.defaults.history);
    program(&mut map, config);
    Ok(map.document())
}

impl Map {
    fn duration(&mut self, key: &'static str, duration: Duration) {
        self.plain(key, GoDuration::from(duration));
    }

    fn path(&mut self, key: &'static str, path: &Path) {
        self.text(key, path.display());
    }
}

fn program(map: &mut Map, config: &Config) {
    if let Some(exec) = &config.exec {
        map.text("exec", exec);
    }
    map.duration("shutdown-sync-timeout", config.shutdown.timeout);
    map.duration("shutdown-sync-interval", config.shutdown.retry_interval);
    if let Some(addr) = &config.addr {
        map.text("addr", addr);
    }
    if let Some(addr) = &config.mcp_addr {
        map.text("mcp-addr", addr);
    }
    if let Some(Heartbeat { url, interval }) = &config.heartbeat {
        map.text("heartbeat-url", server_of(url.expose()));
        map.duration("heartbeat-interval", *interval);
    }
    let mut socket = Map::default();
    socket.plain("enabled", config.socket.is_some());
    if let Some(settings) = &config.socket {
        socket.path("path", &settings.path);
        socket.plain("permissions", format!("{:04o}", settings.mode));
    }
    map.add("socket", Yaml::Map(socket));
    let mut logging = Map::default();
    logging.plain("level", config.logging.level);
    // Where nothing is said, it depends on where the log goes.
    if let Some(format) = config.logging.format {
        logging.plain(
            "type",
            match format {
                LogFormat::Text => "text",
                LogFormat::Json => "json",
                LogFormat::Pretty => "pretty",
            },
        );
    }
    logging.plain("stderr", config.logging.stderr);
    logging.plain("source", config.logging.source);
    map.add("logging", Yaml::Map(logging));
}

/// Where a URL leads, without what is a secret of it: everything else.
fn server_of(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", ""));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}/***")
}

fn history(map: &mut Map, history: &HistoryOptions) {
    let mut snapshot = Map::default();
    snapshot.duration("interval", history.snapshot_interval);
    snapshot.duration("retention", history.snapshot_retention);
    map.add("snapshot", Yaml::Map(snapshot));
    let level = |interval: &Duration| {
        let mut level = Map::default();
        level.duration("interval", *interval);
        Yaml::Map(level)
    };
    map.add("levels", Yaml::List(history.levels.iter().map(level).collect()));
    map.duration("l0-retention", history.l0_retention);
    map.duration("l0-retention-check-interval", history.l0_retention_check_interval);
    let mut retention = Map::default();
    retention.plain("enabled", history.retention_enabled);
    map.add("retention", Yaml::Map(retention));
    map.plain("verify-compaction", history.verify_compaction);
    let mut validation = Map::default();
    validation.duration("interval", history.validation_interval);
    map.add("validation", Yaml::Map(validation));
}

fn entry_map(entry: &Entry, config: &Config) -> Result<Map, ConfigError> {
    let mut map = Map::default();
    let (replica, settings) = match entry {
        Entry::Single(database) => {
            map.path("path", &database.path);
            map.path("meta-path", &database.meta_path);
            (&database.replica, &database.settings)
        }
        Entry::Directory(directory) => {
            directory_keys(&mut map, directory);
            (&directory.replica, &directory.settings)
        }
    };
    database_keys(&mut map, settings);
    map.add("replica", Yaml::Map(replica_map(replica, settings, &config.defaults.rates)?));
    Ok(map)
}

fn directory_keys(map: &mut Map, directory: &Directory) {
    map.path("dir", &directory.path);
    map.text("pattern", &directory.pattern);
    map.plain("recursive", directory.recursive);
    map.plain("watch", directory.watch);
    for (key, path) in [("meta-path", &directory.meta_path), ("meta-dir", &directory.meta_dir)] {
        if let Some(path) = path {
            map.path(key, path);
        }
    }
}

fn database_keys(map: &mut Map, settings: &DatabaseSettings) {
    map.plain("restore-if-db-not-exists", settings.restore_if_missing);
    history(map, &settings.history);
    map.duration("monitor-interval", settings.monitor_interval);
    map.duration("busy-timeout", settings.busy_timeout);
    map.duration("checkpoint-interval", settings.checkpoint_interval);
    map.plain("min-checkpoint-page-count", settings.min_checkpoint_pages);
    map.plain("max-sync-wal-bytes", settings.max_sync_wal_bytes);
}

fn replica_map(
    config: &ReplicaConfig,
    settings: &DatabaseSettings,
    shared: &Rates,
) -> Result<Map, ConfigError> {
    let complete =
        walstream_storage::complete(config).map_err(|error| ConfigError::new(error.to_string()))?;
    let mut map = replica::map(&complete);
    map.duration("sync-interval", settings.sync_interval);
    // One that is shared stands at the top level: here it would be one of its own.
    let own = |rate: &Option<Arc<Rate>>, shared: &Option<Arc<Rate>>| match (rate, shared) {
        (Some(rate), Some(shared)) if Arc::ptr_eq(rate, shared) => None,
        (rate, _) => rate.clone(),
    };
    let limits = &settings.limits;
    let own = Rates {
        upload: own(&limits.upload, &shared.upload),
        download: own(&limits.download, &shared.download),
    };
    rates(&mut map, &own);
    Ok(map)
}

fn rates(map: &mut Map, rates: &Rates) {
    for (key, rate) in [("upload-rate", &rates.upload), ("download-rate", &rates.download)] {
        if let Some(rate) = rate {
            map.plain(key, rate.bytes_per_second());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::config;

    const FILE: &str = "
upload-rate: 1MB
retention: {enabled: false}
socket: {enabled: true, permissions: 0660}
mcp-addr: :3001
heartbeat-url: https://me:hunter2@hc.example.com/ping
levels: []
dbs:
  - path: /a/app.db
    snapshot: {interval: 1h}
    replica:
      url: s3://bucket/app?region=eu-central-1
      access-key-id: AKIA
      secret-access-key: hunter2
      headers: {x-key: hunter2}
      tags: {'a b': c}
  - dir: /tenants
    pattern: '*.db'
    watch: true
    replica: {url: 'webdav://me:hunter2@host/tenants', download-rate: 2MB}
  - path: /a/nats.db
    replica: {url: 'nats://me:hunter2@host:4222/bucket', tls: yes}
";

    #[test]
    fn every_default_is_shown_and_no_secret() {
        let text = config(FILE).effective().unwrap();
        assert!(!text.contains("hunter2"), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn it_is_a_configuration_that_means_the_same() {
        let text = config(FILE).effective().unwrap();
        assert_eq!(config(&text).effective().unwrap(), text);
    }
}
