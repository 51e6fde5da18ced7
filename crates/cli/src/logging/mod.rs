//! The log: in the form of Go's `slog`, which is what tools around the peer parse, as JSON, or short for people.
//!
//! Invariant: one line an event, in one form from the first to the last; and what repeats itself is counted.
//!
//! | step | module |
//! |---|---|
//! | from an event to a line | [`layer`] |
//! | what repeats itself | [`repeats`] |
//! | how a line looks | [`line`] |
//! | where it is written | [`journal`] |

mod journal;
mod layer;
mod line;
mod repeats;

use std::io::{self, IsTerminal, Write as _};
use std::sync::{Arc, OnceLock};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};

use crate::config::{ConfigError, LoggingKeys};
use journal::Journal;
use layer::Lines;
use line::Form;

/// What the configuration says about logging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Least important level that is printed.
    pub(crate) level: LevelFilter,
    /// Form of a line. Nothing: as it suits a terminal or a file.
    pub(crate) format: Option<LogFormat>,
    /// Print on stderr instead of stdout.
    pub(crate) stderr: bool,
    /// Say which line of the source a message comes from.
    pub(crate) source: bool,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// `time=… level=INFO msg="replicating to" path=/x`
    Text,
    /// `{"time":"…","level":"INFO","msg":"replicating to","path":"/x"}`
    Json,
    /// `15:04:05 INFO  replicating to path=/x`, coloured on a terminal.
    Pretty,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { level: LevelFilter::INFO, format: None, stderr: false, source: false }
    }
}

impl LogOptions {
    /// From the `logging:` section.
    pub(crate) fn from_keys(keys: LoggingKeys) -> Result<Self, ConfigError> {
        let wrong = |key: &str, got: &str, valid: &str| {
            ConfigError::new(format!("logging.{key}: unknown {key} (got {got:?})"))
                .hint(format!("write one of {valid}"))
        };
        let level = keys.level.as_deref().filter(|level| !level.is_empty()).unwrap_or("info");
        let format = match keys.r#type.as_deref().unwrap_or_default() {
            "" => None,
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            "pretty" => Some(LogFormat::Pretty),
            other => return Err(wrong("type", other, "text, json, pretty")),
        };
        let level = parse_level(level).ok_or_else(|| wrong("level", level, LEVELS))?;
        Ok(LogOptions { level, format, stderr: keys.stderr, source: keys.source })
    }
}

const LEVELS: &str = "trace, debug, info, warn, error";

fn parse_level(text: &str) -> Option<LevelFilter> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Some(LevelFilter::TRACE),
        "debug" => Some(LevelFilter::DEBUG),
        "info" => Some(LevelFilter::INFO),
        "warn" | "warning" => Some(LevelFilter::WARN),
        "error" => Some(LevelFilter::ERROR),
        _ => None,
    }
}

/// Reads the value of `-log-level`.
pub(crate) fn level_flag(text: &str) -> Result<LevelFilter, String> {
    parse_level(text).ok_or_else(|| format!("write one of {LEVELS}"))
}

/// Starts logging. The flag wins over `$LOG_LEVEL`, which wins over the configuration.
pub(crate) fn start(options: LogOptions, flag: Option<LevelFilter>) {
    let variable = || parse_level(&std::env::var("LOG_LEVEL").ok()?);
    let level = flag.or_else(variable).unwrap_or(options.level);
    // Libraries below us speak of every request; their warnings are enough.
    let filter = Targets::new().with_target("walstream", level).with_default(level.min(LevelFilter::WARN));
    let is_terminal = match options.stderr {
        true => io::stderr().is_terminal(),
        false => io::stdout().is_terminal(),
    };
    let write = move |line: &str| {
        // A full disk or a closed pipe must not stop replication.
        let _ = match options.stderr {
            true => io::stderr().lock().write_all(line.as_bytes()),
            false => io::stdout().lock().write_all(line.as_bytes()),
        };
    };
    let usual = if is_terminal { LogFormat::Pretty } else { LogFormat::Text };
    let form = Form { format: options.format.unwrap_or(usual), colour: is_terminal && colours_are_wanted() };
    let journal = JOURNAL.get_or_init(|| Journal::new(form, write));
    let lines = Lines { journal: Arc::clone(journal), source: options.source };
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    // A second start in one process keeps the first, which only happens in tests.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The log of this process, once it is started.
static JOURNAL: OnceLock<Arc<Journal>> = OnceLock::new();

/// Writes what was held back. Called at the end of the process.
pub(crate) fn finish() {
    if let Some(journal) = JOURNAL.get() {
        journal.finish();
    }
}

/// As terminals and people say it: <https://no-color.org>.
fn colours_are_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::env::var_os("TERM").is_none_or(|terminal| terminal != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_types_are_checked() {
        let keys = |level: &str, kind: &str| LoggingKeys {
            level: Some(level.to_owned()),
            r#type: Some(kind.to_owned()),
            ..LoggingKeys::default()
        };
        let options = LogOptions::from_keys(keys("WARNING", "json")).unwrap();
        assert_eq!((options.level, options.format), (LevelFilter::WARN, Some(LogFormat::Json)));
        for bad in [keys("loud", "text"), keys("info", "xml")] {
            assert!(LogOptions::from_keys(bad).is_err());
        }
    }
}
