//! What the commands that talk to a daemon have in common.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::only_database;
use crate::config::SocketSettings;
use crate::error::CliError;
use crate::output;
use crate::socket::client::Client;

/// Which daemon, and in which form its answer is printed.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ControlArgs {
    /// Control socket of the daemon. Default: /var/run/litestream.sock.
    #[arg(long, value_name = "PATH", default_value = SocketSettings::PATH)]
    pub(super) socket: PathBuf,

    /// Print JSON instead of text.
    #[arg(long)]
    pub(super) json: bool,
}

impl ControlArgs {
    /// A connection that waits for so many seconds.
    pub(super) fn connect(&self, timeout: i64) -> Result<Client, CliError> {
        Client::new(self.socket.clone(), Some(positive(timeout)?))
    }

    /// The same, where the peer takes zero and less too: for no limit.
    pub(super) fn connect_at_leisure(&self, timeout: i64) -> Result<Client, CliError> {
        Client::new(self.socket.clone(), positive(timeout).ok())
    }

    /// The socket, as it was written.
    pub(super) fn name(&self) -> String {
        self.socket.display().to_string()
    }

    /// Prints an answer: as JSON, or its lines.
    pub(super) fn print(&self, answer: &impl Serialize, lines: &[(&str, String)]) -> Result<(), CliError> {
        let text = match self.json {
            true => output::json(answer),
            false => lines.iter().map(|(name, value)| format!("{name}: {value}\n")).collect(),
        };
        Ok(output::print(&text)?)
    }
}

/// So many seconds.
pub(super) fn positive(seconds: i64) -> Result<Duration, CliError> {
    let valid = u64::try_from(seconds).ok().filter(|&seconds| seconds > 0);
    let seconds = valid.ok_or_else(|| CliError::new("timeout must be greater than 0"))?;
    Ok(Duration::from_secs(seconds))
}

/// A path for a daemon, which may have another working directory.
pub(super) fn wire(path: &Path) -> String {
    path.display().to_string()
}

/// Which database, and of which daemon.
#[derive(Debug, clap::Args)]
pub(super) struct DatabaseArgs {
    #[command(flatten)]
    pub(super) control: ControlArgs,

    /// How many seconds it may take. Default 30.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(super) timeout: i64,

    #[arg(hide = true)]
    database: Vec<OsString>,
}

impl DatabaseArgs {
    /// The one path that is given to this command.
    pub(super) fn path(&self, command: &str) -> Result<PathBuf, CliError> {
        only_database(&self.database, &format!("walstream {command} /path/to/db"))
    }
}

/// What a question about the daemon itself comes with.
#[derive(Debug, clap::Args)]
pub(super) struct QuestionArgs {
    #[command(flatten)]
    control: ControlArgs,

    /// How many seconds to wait for an answer. Default 10.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: i64,

    #[arg(hide = true)]
    rest: Vec<String>,
}

impl QuestionArgs {
    /// Asks the daemon, and prints its answer as JSON or as this text.
    pub(super) async fn ask<T>(&self, question: &str, text: impl Fn(&T) -> String) -> Result<(), CliError>
    where
        T: DeserializeOwned + Serialize,
    {
        if !self.rest.is_empty() {
            return Err(CliError::new("too many arguments"));
        }
        let answer: T = self.control.connect(self.timeout)?.get(question).await?;
        Ok(output::print(&if self.control.json { output::json(&answer) } else { text(&answer) })?)
    }
}
