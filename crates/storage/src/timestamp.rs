//! The text forms of a file's time: `2026-11-21T06:40:12.61Z` in the metadata of an object, and what a server says itself.
//!
//! Invariant: what is written reads back to the same millisecond; the peer's and other writers' spellings of
//! RFC 3339 are read as well.

use chrono::DateTime;
use walstream_ltx::Timestamp;

/// RFC 3339 in UTC with the zeros at the end of the fraction left out, as the peer writes it. `None` for times
/// outside the calendar (a header can carry any number).
pub(crate) fn to_text(time: Timestamp) -> Option<String> {
    let time = DateTime::from_timestamp_millis(time.as_millis())?;
    let text = time.format("%Y-%m-%dT%H:%M:%S%.3f").to_string();
    let trimmed = text.trim_end_matches('0');
    // A fraction of zeros vanishes with its point; only then did the trimming reach the point.
    Some(format!("{}Z", trimmed.strip_suffix('.').unwrap_or(trimmed)))
}

/// Reads RFC 3339 with any offset and any number of fraction digits; digits past the millisecond are cut off.
pub(crate) fn from_text(text: &str) -> Option<Timestamp> {
    let time = DateTime::parse_from_rfc3339(text.trim()).ok()?;
    Some(Timestamp::from_millis(time.timestamp_millis()))
}

/// Reads the date of an HTTP header, `Tue, 14 Nov 2023 22:13:20 GMT`. Some servers write RFC 3339 in its place.
pub(crate) fn from_http(text: &str) -> Option<Timestamp> {
    match DateTime::parse_from_rfc2822(text.trim()) {
        Ok(time) => Some(Timestamp::from_millis(time.timestamp_millis())),
        Err(_) => from_text(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_peers() {
        for (millis, text) in [
            (1_763_707_212_610, "2025-11-21T06:40:12.61Z"),
            (1_763_707_212_001, "2025-11-21T06:40:12.001Z"),
            (1_763_707_200_000, "2025-11-21T06:40:00Z"),
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(to_text(time).as_deref(), Some(text));
            assert_eq!(from_text(text), Some(time));
        }
        assert_eq!(to_text(Timestamp::from_millis(i64::MAX)), None);
    }

    #[test]
    fn other_spellings_are_read() {
        let time = Some(Timestamp::from_millis(1_763_707_212_610));
        for text in
            ["2025-11-21T06:40:12.610000000Z", "2025-11-21T07:40:12.6109+01:00", "2025-11-21t06:40:12.61z"]
        {
            assert_eq!(from_text(text), time, "{text}");
        }
        for bad in ["", "yesterday", "1763707212", "2025-13-21T06:40:12Z", "2025-11-21"] {
            assert_eq!(from_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates_of_servers_are_read() {
        let time = Some(Timestamp::from_millis(1_700_000_000_000));
        for text in
            ["Tue, 14 Nov 2023 22:13:20 GMT", " Tue, 14 Nov 2023 22:13:20 +0000", "2023-11-14T22:13:20Z"]
        {
            assert_eq!(from_http(text), time, "{text}");
        }
        assert_eq!(from_http("some time ago"), None);
    }
}
