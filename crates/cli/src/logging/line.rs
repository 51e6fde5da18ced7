//! One line of the log, and its three forms.
//!
//! Invariant: whatever is in a message or a field, a line is one line, and a reader can tell where each value ends.

use std::fmt::Write as _;

use chrono::{DateTime, FixedOffset, SecondsFormat};
use serde_json::Value;
use tracing::{Level, Metadata};

use super::LogFormat;

/// One log line before it has a form. It gets its time when it is written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) source: Option<(&'static str, u32)>,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// How lines look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) format: LogFormat,
    pub(super) colour: bool,
}

const DIM: &str = "2";

impl Line {
    pub(super) fn new(metadata: &Metadata<'static>) -> Self {
        Line {
            level: *metadata.level(),
            source: metadata.file().zip(metadata.line()),
            message: String::new(),
            fields: Vec::new(),
        }
    }

    /// The whole line, with its end.
    pub(super) fn render(&self, time: DateTime<FixedOffset>, form: Form) -> String {
        match form.format {
            LogFormat::Text => self.text(time),
            LogFormat::Json => self.json(time),
            LogFormat::Pretty => self.pretty(time, form.colour),
        }
    }

    fn text(&self, time: DateTime<FixedOffset>) -> String {
        let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
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

    fn json(&self, time: DateTime<FixedOffset>) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let time = time.to_rfc3339_opts(SecondsFormat::Nanos, true);
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

    /// For people: what happened stands out, the rest is there for whoever wants it.
    fn pretty(&self, time: DateTime<FixedOffset>, colour: bool) -> String {
        let paint = |code: &str, text: String| match colour && !text.is_empty() {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text,
        };
        let code = match self.level {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            Level::DEBUG => "36",
            Level::TRACE => "35",
        };
        let mut fields = String::new();
        self.push_pairs(&mut fields);
        if let Some((file, number)) = self.source {
            let _ = write!(fields, " source={file}:{number}");
        }
        let time = paint(DIM, time.format("%H:%M:%S").to_string());
        let level = paint(code, format!("{:5}", self.level.as_str()));
        let mut message = String::new();
        push_escaped(&mut message, &self.message, |c| c.is_control());
        format!("{time} {level} {message}{}\n", paint(DIM, fields))
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
    push_escaped(line, text, |c| c.is_control() || matches!(c, '"' | '\\'));
    line.push('"');
}

fn push_escaped(line: &mut String, text: &str, is_escaped: impl Fn(char) -> bool) {
    for char in text.chars() {
        match char {
            plain if !is_escaped(plain) => line.push(plain),
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            control if control.is_ascii_control() => {
                let _ = write!(line, "\\x{:02x}", u32::from(control));
            }
            control => {
                let _ = write!(line, "\\u{:04x}", u32::from(control));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            level: Level::INFO,
            source: Some(("a.rs", 7)),
            message: "replicating to".to_owned(),
            fields: vec![("path", "/a b".into()), ("n", 3.into())],
        }
    }

    fn rendered(line: &Line, format: LogFormat, colour: bool) -> String {
        let time = DateTime::from_timestamp(1_767_323_045, 678_000_000).unwrap().fixed_offset();
        line.render(time, Form { format, colour })
    }

    #[test]
    fn each_form_says_the_same() {
        assert_eq!(
            rendered(&line(), LogFormat::Json, false),
            "{\"time\":\"2026-01-02T03:04:05.678000000Z\",\"level\":\"INFO\",\"source\":{\"file\":\"a.rs\",\
             \"line\":7},\"msg\":\"replicating to\",\"path\":\"/a b\",\"n\":3}\n"
        );
        assert_eq!(
            rendered(&line(), LogFormat::Text, false),
            "time=2026-01-02T03:04:05.678Z level=INFO source=a.rs:7 msg=\"replicating to\" path=\"/a b\" n=3\n"
        );
        assert_eq!(
            rendered(&line(), LogFormat::Pretty, false),
            "03:04:05 INFO  replicating to path=\"/a b\" n=3 source=a.rs:7\n"
        );
    }

    #[test]
    fn on_a_terminal_the_level_has_a_colour_and_the_rest_is_dim() {
        assert_eq!(
            rendered(&line(), LogFormat::Pretty, true),
            "\x1b[2m03:04:05\x1b[0m \x1b[32mINFO \x1b[0m replicating to\x1b[2m path=\"/a b\" n=3 source=a.rs:7\x1b[0m\n"
        );
        let bare = Line { level: Level::ERROR, source: None, fields: Vec::new(), ..line() };
        let expected = "\x1b[2m03:04:05\x1b[0m \x1b[31mERROR\x1b[0m replicating to\n";
        assert_eq!(rendered(&bare, LogFormat::Pretty, true), expected);
    }

    #[test]
    fn nothing_in_a_message_makes_two_lines_or_moves_the_cursor() {
        let line = Line { message: "two\nlines \x1b[2J \"quoted\"".to_owned(), source: None, ..line() };
        let expected = "03:04:05 INFO  two\\nlines \\x1b[2J \"quoted\" path=\"/a b\" n=3\n";
        assert_eq!(rendered(&line, LogFormat::Pretty, true).matches('\n').count(), 1);
        assert_eq!(rendered(&line, LogFormat::Pretty, false), expected);
    }
}
