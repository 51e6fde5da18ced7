//! Log lines in the form of Go's `slog`, which is what tools around the peer parse.
//!
//! Invariant: a line is written whole or not at all, and logging never fails a command: an output that cannot
//! be written to is ignored.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};

use chrono::{DateTime, FixedOffset, Local, SecondsFormat};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{ConfigError, LoggingKeys};

/// What the configuration says about logging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogOptions {
    /// Least important level that is printed.
    pub(crate) level: LevelFilter,
    /// Form of a line.
    pub(crate) format: LogFormat,
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
    /// `15:04:05.000 INF replicating to path=/x`, coloured on a terminal.
    Pretty,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { level: LevelFilter::INFO, format: LogFormat::Text, stderr: false, source: false }
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
            "" | "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
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
    let colour = match options.stderr {
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
    let layer = SlogLayer { format: options.format, source: options.source, colour, write };
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    // A second start in one process keeps the first, which only happens in tests.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Writes each event as one line.
struct SlogLayer<W> {
    format: LogFormat,
    source: bool,
    colour: bool,
    write: W,
}

impl<S, W> Layer<S> for SlogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line { time: Local::now().fixed_offset(), ..Line::new(event.metadata()) };
        if !self.source {
            line.source = None;
        }
        for span in context.event_scope(event).into_iter().flatten().collect::<Vec<_>>().into_iter().rev() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.fields.extend_from_slice(&fields.list);
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        line.message = fields.message;
        line.fields.append(&mut fields.list);
        (self.write)(&match self.format {
            LogFormat::Text => line.text(),
            LogFormat::Json => line.json(),
            LogFormat::Pretty => line.pretty(self.colour),
        });
    }
}

/// The values of an event or span, in order.
#[derive(Default)]
struct Fields {
    message: String,
    list: Vec<(&'static str, Value)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            // The text of the line comes first; after it this is the name of a field like any other.
            ("message", Value::String(text)) if self.message.is_empty() => self.message = text,
            (name, value) => self.list.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }
}

/// One log line before it has a form.
struct Line {
    time: DateTime<FixedOffset>,
    level: Level,
    source: Option<(&'static str, u32)>,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Line {
    fn new(metadata: &Metadata<'static>) -> Self {
        Line {
            time: DateTime::default(),
            level: *metadata.level(),
            source: metadata.file().zip(metadata.line()),
            message: String::new(),
            fields: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let time = self.time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let mut line = format!("time={time} level={}", self.level);
        if let Some((file, number)) = self.source {
            let _ = write!(line, " source={file}:{number}");
        }
        line.push_str(" msg=");
        push_quoted(&mut line, &self.message);
        self.push_pairs(&mut line);
        line.push('\n');
        line
    }

    fn json(&self) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let time = self.time.to_rfc3339_opts(SecondsFormat::Nanos, true);
        let mut line = format!("{{\"time\":{},\"level\":{}", text(&time), text(self.level.as_str()));
        if let Some((file, number)) = self.source {
            let _ = write!(line, ",\"source\":{{\"file\":{},\"line\":{number}}}", text(file));
        }
        let _ = write!(line, ",\"msg\":{}", text(&self.message));
        for (name, value) in &self.fields {
            let _ = write!(line, ",{}:{value}", text(name));
        }
        line.push_str("}\n");
        line
    }

    fn pretty(&self, colour: bool) -> String {
        let (name, code) = match self.level {
            Level::ERROR => ("ERR", "31"),
            Level::WARN => ("WRN", "33"),
            Level::INFO => ("INF", "32"),
            Level::DEBUG => ("DBG", "36"),
            Level::TRACE => ("TRC", "35"),
        };
        let level = if colour { format!("\x1b[{code}m{name}\x1b[0m") } else { name.to_owned() };
        let mut line = format!("{} {level} {}", self.time.format("%H:%M:%S%.3f"), self.message);
        self.push_pairs(&mut line);
        if let Some((file, number)) = self.source {
            let _ = write!(line, " source={file}:{number}");
        }
        line.push('\n');
        line
    }

    fn push_pairs(&self, line: &mut String) {
        for (name, value) in &self.fields {
            let _ = write!(line, " {name}=");
            match value {
                Value::String(text) => push_quoted(line, text),
                other => {
                    let _ = write!(line, "{other}");
                }
            }
        }
    }
}

/// Quotes a text the way `slog` does, and only when it must: otherwise a reader could not tell where it ends.
fn push_quoted(line: &mut String, text: &str) {
    let plain = |c: char| !(c.is_whitespace() || c.is_control() || matches!(c, '=' | '"'));
    if !text.is_empty() && text.chars().all(plain) {
        line.push_str(text);
        return;
    }
    line.push('"');
    for char in text.chars() {
        match char {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            control if control.is_ascii_control() => {
                let _ = write!(line, "\\x{:02x}", u32::from(control));
            }
            control if control.is_control() => {
                let _ = write!(line, "\\u{:04x}", u32::from(control));
            }
            other => line.push(other),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged by `log`, without the times.
    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let buffer = Arc::new(Mutex::new(String::new()));
        let sink = buffer.clone();
        let write = move |line: &str| sink.lock().unwrap().push_str(line);
        let layer = SlogLayer { format, source: false, colour: false, write };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, log);
        let text = buffer.lock().unwrap().clone();
        let without_time =
            |line: &str| match line.split_once(if format == LogFormat::Json { "Z\"" } else { " " }) {
                Some((_, rest)) => rest.trim_start_matches(',').to_owned(),
                None => line.to_owned(),
            };
        text.lines().map(without_time).collect::<Vec<_>>().join("\n")
    }

    fn some_lines() {
        tracing::info!(path = %"/a b/app.db", r#type = "s3", "replicating to");
        let span = tracing::info_span!("db", system = "store", db = "app.db");
        span.in_scope(|| tracing::debug!(txid.min = 3_u64, snap = true, "sync"));
        tracing::error!(error = "say \"no\"\n", empty = "", "x=y");
    }

    #[test]
    fn text_lines_are_those_of_slog() {
        let expected = "\
level=INFO msg=\"replicating to\" path=\"/a b/app.db\" type=s3
level=DEBUG msg=sync system=store db=app.db txid.min=3 snap=true
level=ERROR msg=\"x=y\" error=\"say \\\"no\\\"\\n\" empty=\"\"";
        assert_eq!(logged(LogFormat::Text, some_lines), expected);
    }

    #[test]
    fn json_lines_are_those_of_slog() {
        let line = Line {
            time: DateTime::from_timestamp(1_767_323_045, 678_000_000).unwrap().fixed_offset(),
            level: Level::INFO,
            source: Some(("a.rs", 7)),
            message: "replicating to".to_owned(),
            fields: vec![("path", "/x".into()), ("n", 3.into())],
        };
        assert_eq!(
            line.json(),
            "{\"time\":\"2026-01-02T03:04:05.678000000Z\",\"level\":\"INFO\",\"source\":{\"file\":\"a.rs\",\
             \"line\":7},\"msg\":\"replicating to\",\"path\":\"/x\",\"n\":3}\n"
        );
        assert_eq!(
            line.text(),
            "time=2026-01-02T03:04:05.678Z level=INFO source=a.rs:7 msg=\"replicating to\" path=/x n=3\n"
        );
        assert_eq!(
            line.pretty(true),
            "03:04:05.678 \x1b[32mINF\x1b[0m replicating to path=/x n=3 source=a.rs:7\n"
        );
    }

    #[test]
    fn every_json_line_is_json() {
        for line in logged(LogFormat::Json, some_lines).lines() {
            let line = format!("{{{line}");
            assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
        }
    }

    #[test]
    fn levels_and_types_are_checked() {
        let keys = |level: &str, kind: &str| LoggingKeys {
            level: Some(level.to_owned()),
            r#type: Some(kind.to_owned()),
            ..LoggingKeys::default()
        };
        let options = LogOptions::from_keys(keys("WARNING", "json")).unwrap();
        assert_eq!((options.level, options.format), (LevelFilter::WARN, LogFormat::Json));
        for bad in [keys("loud", "text"), keys("info", "xml")] {
            assert!(LogOptions::from_keys(bad).is_err());
        }
    }
}
