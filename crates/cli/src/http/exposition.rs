//! The text format of Prometheus, version 0.0.4.
//!
//! Invariant: the samples of a family stand together below its one `HELP` and `TYPE`, whatever is in their labels. A
//! family without samples is not there at all.

use std::fmt::{self, Write};

use walstream_storage::counted::Histogram;

/// What the format is called in HTTP.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text that grows by one family after the other.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// Metrics of one name.
#[derive(Debug)]
pub(super) struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    is_empty: bool,
}

/// A value; TXIDs and bytes keep all their digits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Whole(u64),
    Real(f64),
}

impl Exposition {
    /// What only grows.
    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// What goes up and down.
    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// How long things took.
    pub(super) fn histogram(&mut self, name: &'static str, help: &'static str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn family(&mut self, name: &'static str, kind: &'static str, help: &'static str) -> Family<'_> {
        Family { text: &mut self.text, name, kind, help, is_empty: true }
    }
}

impl Family<'_> {
    /// One value.
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Number>) {
        self.begin();
        self.line("", labels, value.into());
    }

    /// The values that make up a histogram.
    pub(super) fn durations(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        self.begin();
        let bound = |text: &str, count, family: &mut Self| {
            let labels = [labels, &[("le", text)]].concat();
            family.line("_bucket", &labels, Number::Whole(count));
        };
        // Counted on while it is read, it must not seem to shrink towards the end.
        let mut seen = 0;
        for (end, count) in histogram.buckets() {
            seen = count;
            bound(&end.to_string(), count, self);
        }
        let all = histogram.count().max(seen);
        bound("+Inf", all, self);
        self.line("_sum", labels, histogram.spent().into());
        self.line("_count", labels, Number::Whole(all));
    }

    fn begin(&mut self) {
        if std::mem::take(&mut self.is_empty) {
            let Family { name, kind, help, .. } = *self;
            self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        }
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: Number) {
        let name = self.name;
        self.write(format_args!("{name}{suffix}"));
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", Escaped(text)));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{end} {value}\n"));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.text.write_fmt(text);
    }
}

/// The value of a label, which may be the path of any file.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Whole(number) => number.fmt(f),
            Number::Real(number) => number.fmt(f),
        }
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Number::Whole(number)
    }
}

impl From<bool> for Number {
    fn from(is_so: bool) -> Self {
        Number::Whole(is_so.into())
    }
}

impl From<std::time::Duration> for Number {
    fn from(time: std::time::Duration) -> Self {
        Number::Real(time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut exposition = Exposition::default();
        exposition.gauge("size", "Bytes").sample(&[("db", "/a.db")], u64::MAX);
        exposition.gauge("nothing", "Is left out");
        let mut seconds = exposition.counter("seconds", "Time");
        seconds.sample(&[("db", "/a.db"), ("mode", "PASSIVE")], Duration::from_micros(1216));
        seconds.sample(&[], Duration::ZERO);
        let histogram = Histogram::new(&[0.05, 1.0]);
        histogram.record(Duration::from_millis(20));
        histogram.record(Duration::from_millis(2500));
        exposition.histogram("took", "How long").durations(&[("level", "1")], &histogram);
        let expected = "\
# HELP size Bytes
# TYPE size gauge
size{db=\"/a.db\"} 18446744073709551615
# HELP seconds Time
# TYPE seconds counter
seconds{db=\"/a.db\",mode=\"PASSIVE\"} 0.001216
seconds 0
# HELP took How long
# TYPE took histogram
took_bucket{level=\"1\",le=\"0.05\"} 1
took_bucket{level=\"1\",le=\"1\"} 1
took_bucket{level=\"1\",le=\"+Inf\"} 2
took_sum{level=\"1\"} 2.52
took_count{level=\"1\"} 2
";
        assert_eq!(exposition.finish(), expected);
    }

    #[test]
    fn a_path_cannot_break_out_of_its_label() {
        let mut exposition = Exposition::default();
        exposition.gauge("x", "X").sample(&[("db", "/a\"} 1\nx{db=\"\\é")], 1u64);
        let text = exposition.finish();
        assert_eq!(text.lines().last(), Some(r#"x{db="/a\"} 1\nx{db=\"\\é"} 1"#));
    }
}
