//! One file for each command: its flags, and what it does.

pub(crate) mod config_check;
mod control;
pub(crate) mod databases;
pub(crate) mod demo;
mod follow;
pub(crate) mod info;
pub(crate) mod list;
pub(crate) mod ltx;
pub(crate) mod manual;
pub(crate) mod register;
pub(crate) mod replicate;
pub(crate) mod reset;
pub(crate) mod restore;
pub(crate) mod snapshot;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod sync;
mod turn;
pub(crate) mod unregister;
pub(crate) mod verify;
pub(crate) mod version;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use walstream_storage::{Limits, ReplicaConfig, is_url};

use crate::args::ConfigArgs;
use crate::config::{self, Config, DatabaseConfig, expand_path};
use crate::error::CliError;

/// The one positional argument of a command that works on a database, which need not exist.
fn only_database(arguments: &[OsString], example: &str) -> Result<PathBuf, CliError> {
    match arguments {
        [path] if !path.is_empty() => Ok(expand_path(path)?),
        [] | [_] => Err(CliError::new("database path required").with_try(example)),
        _ => Err(CliError::new("too many arguments")),
    }
}

/// What a command that reads a replica was pointed at.
pub(crate) struct Source {
    /// The argument: a URL, or the path of a database.
    pub(crate) name: String,
    /// Where the files are.
    pub(crate) replica: ReplicaConfig,
    /// How it may be used.
    pub(crate) limits: Limits,
    /// The database file and the configuration that lists it; nothing for a URL.
    pub(crate) configured: Option<(PathBuf, Config)>,
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
        match argument.to_str() {
            Some(url) if is_url(url) && !url.starts_with("sqlite") => Source::of_url(url, config),
            _ => Source::of_database(argument, config),
        }
    }

    fn of_url(url: &str, config: &ConfigArgs) -> Result<Self, CliError> {
        if config.config.is_some() {
            return Err(CliError::new("cannot specify a replica URL and the -config flag"));
        }
        Ok(Source {
            name: url.to_owned(),
            replica: config::from_url(url)?,
            limits: Limits::default(),
            configured: None,
        })
    }

    fn of_database(path: &OsStr, config: &ConfigArgs) -> Result<Self, CliError> {
        let path = expand_path(path)?;
        let config = config::load(config)?;
        let name = path.display().to_string();
        match config.find(&path) {
            Some(database) => {
                let DatabaseConfig { replica, settings, .. } = database;
                Ok(Source { name, replica, limits: settings.limits, configured: Some((path, config)) })
            }
            None => Err(CliError::new(format!("database not found in config: {name}"))
                .with_hint("\"walstream databases\" lists those that are; or give the replica URL instead")),
        }
    }
}
