//! From an event to a line.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::journal::Journal;
use super::line::Line;
use super::repeats::Kind;

/// Makes one line of each event.
pub(super) struct Lines {
    pub(super) journal: Arc<Journal>,
    /// Say which line of the source an event comes from.
    pub(super) source: bool,
}

impl<S> Layer<S> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
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
        let mut line = Line::new(event.metadata());
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
        self.journal.take(kind(event.metadata(), &line), line);
    }
}

/// Lines are of one kind if they come from one place of the program and differ in numbers, times and TXIDs at most. A line that has nothing
/// else to say speaks of work that was done, and is no repetition; and who asks for details wants all of them.
fn kind(metadata: &Metadata<'static>, line: &Line) -> Option<Kind> {
    let mut words = line.fields.iter().filter(|(_, value)| !is_measure(value)).peekable();
    if line.level > Level::INFO || (words.peek().is_none() && !line.fields.is_empty()) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (metadata.callsite(), &line.message).hash(&mut hasher);
    for (name, value) in words {
        (name, value.as_str()).hash(&mut hasher);
    }
    Some(Kind(hasher.finish()))
}

/// A number, a time such as `2m3s`, a TXID.
fn is_measure(value: &Value) -> bool {
    value.as_str().is_none_or(|text| text.starts_with(|c: char| c.is_ascii_digit()))
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt;

    use super::super::LogFormat;
    use super::super::line::Form;
    use super::*;

    /// What is logged by `log`, without the times.
    fn logged(format: LogFormat, log: impl FnOnce()) -> String {
        let buffer = Arc::new(Mutex::new(String::new()));
        let sink = buffer.clone();
        let write = move |line: &str| sink.lock().unwrap().push_str(line);
        let journal = Journal::new(Form { format, colour: false }, write);
        let layer = Lines { journal: journal.clone(), source: false };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        journal.finish();
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
    fn every_json_line_is_json() {
        for line in logged(LogFormat::Json, some_lines).lines() {
            let line = format!("{{{line}");
            assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
        }
    }

    #[test]
    fn the_errors_of_one_database_do_not_hide_those_of_another() {
        let text = logged(LogFormat::Text, || {
            for number in 0..40 {
                let path = if number % 10 == 9 { "/rare.db" } else { "/loud.db" };
                tracing::error!(path, error = "locked", failing_for = %format!("{number}s"), "failed");
            }
        });
        let lines = |words: &str| text.lines().filter(|line| line.contains(words)).count();
        assert_eq!((lines("/loud.db"), lines("/rare.db")), (6, 4), "{text}");
        let sum = "level=ERROR msg=failed path=/loud.db error=locked failing_for=38s repeated=31";
        assert_eq!(text.lines().last(), Some(sum), "{text}");
    }

    #[test]
    fn another_reason_is_another_line() {
        let text = logged(LogFormat::Text, || {
            for number in 0..20 {
                tracing::error!(path = "/a.db", error = %format!("reason {number}"), "failed");
            }
        });
        assert_eq!(text.lines().count(), 20, "{text}");
    }

    #[test]
    fn work_that_is_done_and_details_are_no_repetitions() {
        let text = logged(LogFormat::Text, || {
            for _ in 0..20 {
                tracing::info!(level = 1, txid = %"000000000000000a", "compaction complete");
                tracing::debug!(path = "/a.db", "sync");
            }
        });
        assert_eq!(text.lines().count(), 40, "{text}");
    }
}
