//! The configuration file: the peer's format, read strictly.
//!
//! Invariant: what the user wrote either takes effect, or is answered with an error or a warning that names
//! it. `keys` is the shape, `parse` reads it, `resolve` checks it and fills in defaults.

mod directory;
mod duration;
mod effective;
mod entries;
mod error;
mod expand;
mod glob;
mod history;
mod keys;
mod parse;
mod paths;
mod replica;
mod resolve;
mod size;
mod socket;
#[cfg(test)]
mod tests;
mod yaml;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use duration::GoDuration;
pub(crate) use entries::Entries;
pub(crate) use error::ConfigError;
pub(crate) use keys::LoggingKeys;
pub(crate) use paths::expand_path;
pub(crate) use replica::from_url;
pub(crate) use resolve::Defaults;
pub(crate) use socket::SocketSettings;
use walstream_engine::{HistoryOptions, default_meta_path};
use walstream_storage::{Limits, ReplicaConfig};

use crate::args::ConfigArgs;
use crate::heartbeat::Heartbeat;
use crate::http::Address;
use crate::logging::LogOptions;

/// Everything a configuration file says.
#[derive(Debug)]
pub(crate) struct Config {
    /// What to replicate.
    pub(crate) entries: Entries,
    /// Child process of `replicate`.
    pub(crate) exec: Option<String>,
    /// Where to show metrics.
    pub(crate) addr: Option<Address>,
    /// Where assistants may ask.
    pub(crate) mcp_addr: Option<Address>,
    /// Whom to tell that all is well.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// Where commands are taken.
    pub(crate) socket: Option<SocketSettings>,
    /// Log level, format and place.
    pub(crate) logging: LogOptions,
    /// The sync at shutdown.
    pub(crate) shutdown: ShutdownSettings,
    /// What holds for a database that says nothing of its own.
    pub(crate) defaults: Defaults,
    /// What was written without effect, as sentences.
    pub(crate) warnings: Vec<String>,
}

/// How long to go on at shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShutdownSettings {
    /// Give up after this time. Zero: one attempt.
    pub(crate) timeout: Duration,
    /// Time between two attempts.
    pub(crate) retry_interval: Duration,
}

impl Default for ShutdownSettings {
    fn default() -> Self {
        ShutdownSettings { timeout: Duration::from_secs(30), retry_interval: Duration::from_millis(500) }
    }
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatabaseConfig {
    /// The database file, absolute.
    pub(crate) path: PathBuf,
    /// Folder of the local state.
    pub(crate) meta_path: PathBuf,
    /// Where it is replicated to.
    pub(crate) replica: ReplicaConfig,
    /// Everything else.
    pub(crate) settings: DatabaseSettings,
}

/// What the databases of one entry have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DatabaseSettings {
    pub(crate) monitor_interval: Duration,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) busy_timeout: Duration,
    pub(crate) min_checkpoint_pages: u32,
    pub(crate) max_sync_wal_bytes: u64,
    pub(crate) sync_interval: Duration,
    pub(crate) restore_if_missing: bool,
    pub(crate) history: HistoryOptions,
    /// How the store may be used.
    pub(crate) limits: Limits,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        DatabaseSettings {
            monitor_interval: Duration::from_secs(1),
            checkpoint_interval: Duration::from_secs(60),
            busy_timeout: Duration::from_secs(1),
            min_checkpoint_pages: 1000,
            max_sync_wal_bytes: 64 << 20,
            sync_interval: Duration::from_secs(1),
            restore_if_missing: false,
            history: HistoryOptions::default(),
            limits: Limits::default(),
        }
    }
}

impl DatabaseConfig {
    /// A database with default settings.
    pub(crate) fn new(path: PathBuf, replica: ReplicaConfig) -> Self {
        let meta_path = default_meta_path(&path);
        DatabaseConfig { path, meta_path, replica, settings: DatabaseSettings::default() }
    }
}

impl Config {
    /// Every database, with directories searched.
    pub(crate) fn databases(&self) -> Result<Vec<DatabaseConfig>, ConfigError> {
        self.entries.databases()
    }

    /// The settings for a database file, which need not exist.
    pub(crate) fn find(&self, path: &Path) -> Option<DatabaseConfig> {
        self.entries.find(path)
    }

    /// All of it as a configuration file, with every default and without secrets.
    pub(crate) fn effective(&self) -> Result<String, ConfigError> {
        effective::text(self)
    }

    /// Prints the warnings on stderr, for commands that do not log.
    pub(crate) fn print_warnings(&self) {
        for warning in &self.warnings {
            eprintln!("Warning: {warning}");
        }
    }
}

/// Reads the file that the arguments, the environment or the custom name.
pub(crate) fn load(arguments: &ConfigArgs) -> Result<Config, ConfigError> {
    let file = match &arguments.config {
        Some(path) => path.clone(),
        None => default_path(),
    };
    let file = expand_path(file.as_os_str())?;
    let text = read(&file)?;
    let text = match arguments.no_expand_env {
        true => text,
        false => expand::expand(&text, expand::environment),
    };
    let keys = parse::parse(&file, &text)?;
    resolve::resolve(keys).map_err(|error| error.file(&file)).map(|mut config| {
        for warning in &mut config.warnings {
            *warning = format!("{}: {warning}", file.display());
        }
        config
    })
}

/// The same, but nothing if nobody named a file and there is none in the usual place.
pub(crate) fn load_if_there(arguments: &ConfigArgs) -> Result<Option<Config>, ConfigError> {
    let wanted = arguments.config.is_some() || default_path().exists();
    wanted.then(|| load(arguments)).transpose()
}

fn default_path() -> PathBuf {
    match std::env::var_os("LITESTREAM_CONFIG") {
        Some(path) if !path.is_empty() => path.into(),
        _ => "/etc/litestream.yml".into(),
    }
}

fn read(file: &Path) -> Result<String, ConfigError> {
    /// More than anybody writes by hand or generates; keeps a wrong path such as /dev/zero from filling memory.
    const MAX_BYTES: u64 = 16 << 20;
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            ConfigError::new(format!("config file not found: {}", file.display()))
                .hint("name one with -config, or replicate without: walstream replicate DB_PATH REPLICA_URL")
        }
        std::io::ErrorKind::InvalidData => ConfigError::new("the file is not UTF-8 text").file(file),
        _ => ConfigError::new(format!("cannot read config file {}: {error}", file.display())),
    };
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(failed)?;
    std::io::Read::read_to_string(&mut std::io::Read::take(opened, MAX_BYTES + 1), &mut text)
        .map_err(failed)?;
    match text.len() as u64 > MAX_BYTES {
        true => Err(ConfigError::new("the file is larger than 16 MiB").file(file)),
        false => Ok(text),
    }
}
