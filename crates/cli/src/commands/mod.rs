//! One file for each command: its flags, and what it does.

pub(crate) mod databases;
pub(crate) mod demo;
pub(crate) mod ltx;
pub(crate) mod replicate;
pub(crate) mod restore;
pub(crate) mod version;

use std::ffi::{OsStr, OsString};

use walstream_storage::ReplicaConfig;
use walstream_storage::url::is_url;

use crate::args::ConfigArgs;
use crate::config::{self, Config, DatabaseConfig, expand_path};
use crate::error::CliError;

/// What a command that reads a replica was pointed at.
pub(crate) enum Source {
    /// A replica, by its URL.
    Url { url: String, replica: ReplicaConfig },
    /// A database of the configuration file.
    Database { config: Config, database: DatabaseConfig },
}

impl Source {
    /// Reads the one positional argument of such a command.
    pub(crate) fn read(arguments: &[OsString], config: &ConfigArgs, example: &str) -> Result<Self, CliError> {
        let argument = match arguments {
            [] => OsStr::new(""),
            [argument] => argument,
            _ => return Err(CliError::new("too many arguments")),
        };
        if argument.is_empty() {
            return Err(CliError::new("database path or replica URL required").with_try(example));
        }
        if let Some(url) = argument.to_str().filter(|text| is_url(text) && !text.starts_with("sqlite")) {
            if config.config.is_some() {
                return Err(CliError::new("cannot specify a replica URL and the -config flag"));
            }
            return Ok(Source::Url { url: url.to_owned(), replica: config::from_url(url)? });
        }
        let path = expand_path(argument)?;
        let config = config::load(config)?;
        match config.find(&path) {
            Some(database) => Ok(Source::Database { config, database }),
            None => Err(CliError::new(format!("database not found in config: {}", path.display()))
                .with_hint("\"walstream databases\" lists those that are; or give the replica URL instead")),
        }
    }

    /// Where the files are.
    pub(crate) fn replica(&self) -> &ReplicaConfig {
        match self {
            Source::Url { replica, .. } => replica,
            Source::Database { database, .. } => &database.replica,
        }
    }
}
