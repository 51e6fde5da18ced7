//! What goes to stdout: tables and JSON, in the peer's form, so that scripts read both.

use std::io::{self, Write};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use walstream_ltx::Timestamp;

/// A table with a header: left aligned, columns two spaces apart, nothing after the last column.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].as_str()).chain([header[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let mut line = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            match column + 1 == N {
                true => line.push_str(cell),
                false => line.push_str(&format!("{cell:width$}  ", width = widths[column])),
            }
        }
        line + "\n"
    };
    let body = rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    [line(header)].into_iter().chain(body).collect()
}

/// JSON, two-space indented, with a newline at the end.
pub(crate) fn json(value: &impl Serialize) -> String {
    // Nothing that this program prints has keys that are not strings, the only way to fail here.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// RFC 3339 in whole seconds, UTC.
pub(crate) fn seconds(time: Timestamp) -> String {
    rfc_3339(time, SecondsFormat::Secs)
}

/// A time of RFC 3339 without fractions of a second; anything else is left as it is.
pub(crate) fn whole_seconds(time: &str) -> String {
    let parsed = DateTime::parse_from_rfc3339(time);
    parsed.map_or_else(|_| time.to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// RFC 3339 to the millisecond, UTC: what `-timestamp` needs to find this very state.
pub(crate) fn millis(time: Timestamp) -> String {
    rfc_3339(time, SecondsFormat::Millis)
}

fn rfc_3339(time: Timestamp, format: SecondsFormat) -> String {
    let time: DateTime<Utc> = DateTime::from_timestamp_millis(time.as_millis()).unwrap_or_default();
    time.to_rfc3339_opts(format, true)
}

/// A size for people: `567 B`, `1.2 MB`.
pub(crate) fn human_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 999.5 {
            return match unit == "B" || value >= 10.0 {
                true => format!("{value:.0} {unit}"),
                false => format!("{value:.1} {unit}"),
            };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// Writes to stdout. A reader that goes away, such as `head`, is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_look_like_the_peers() {
        let rows = [["/a/app.db".to_owned(), "file".to_owned()], ["/b".to_owned(), "s3".to_owned()]];
        assert_eq!(table(["path", "replica"], &rows), "path       replica\n/a/app.db  file\n/b         s3\n");
        assert_eq!(table(["path", "replica"], &[]), "path  replica\n");
    }

    #[test]
    fn json_is_indented_by_two_and_empty_lists_stay_short() {
        assert_eq!(json(&serde_json::json!([{"a": 1}])), "[\n  {\n    \"a\": 1\n  }\n]\n");
        assert_eq!(json(&Vec::<u8>::new()), "[]\n");
    }

    #[test]
    fn times_are_utc() {
        let time = Timestamp::from_millis(1_767_323_045_678);
        assert_eq!(seconds(time), "2026-01-02T03:04:05Z");
        assert_eq!(millis(time), "2026-01-02T03:04:05.678Z");
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in
            [(0, "0 B"), (567, "567 B"), (1_234, "1.2 kB"), (12_345_678, "12 MB"), (1 << 30, "1.1 GB")]
        {
            assert_eq!(human_size(bytes), text);
        }
    }
}
