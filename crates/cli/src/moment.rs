//! A moment on the command line: a time, or how long ago it was.

use chrono::{DateTime, Utc};
use walstream_ltx::Timestamp;

use crate::config::GoDuration;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Reads the value of a flag.
pub(crate) fn parse(text: &str) -> Result<Timestamp, &'static str> {
    before(Utc::now().timestamp_millis(), text).ok_or(
        "must specify in ISO 8601 format (e.g. 2000-01-01T00:00:00Z), or how long ago (e.g. -1h30m or -2d)",
    )
}

/// The moment, seen from `now`.
fn before(now: i64, text: &str) -> Option<Timestamp> {
    let millis = match text.strip_prefix('-') {
        Some(length) => now.checked_sub(milliseconds(length)?)?,
        None => DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis(),
    };
    Some(Timestamp::from_millis(millis))
}

/// A length of time as in the configuration file, which may begin with days.
fn milliseconds(text: &str) -> Option<i64> {
    let (days, rest) = match text.split_once('d') {
        Some((days, rest)) if days.bytes().all(|byte| byte.is_ascii_digit()) => (days.parse().ok()?, rest),
        _ => (0_i64, text),
    };
    let rest = match rest {
        "" if rest.len() < text.len() => 0,
        _ if rest.starts_with(['-', '+']) => return None,
        _ => i64::try_from(rest.parse::<GoDuration>().ok()?.not_negative()?.as_millis()).ok()?,
    };
    days.checked_mul(DAY_MS)?.checked_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_lies_some_time_back() {
        let now = 1_767_323_045_678;
        for (text, back) in [
            ("-5m", 300_000),
            ("-1h30m", 5_400_000),
            ("-2d", 2 * DAY_MS),
            ("-1d12h", DAY_MS + DAY_MS / 2),
            ("-1.5s", 1_500),
            ("-0", 0),
            ("2026-01-02T04:04:05.678+01:00", 0),
            ("2026-01-02T03:04:05Z", 678),
        ] {
            assert_eq!(before(now, text), Some(Timestamp::from_millis(now - back)), "{text}");
        }
        for bad in ["", "-", "5m", "noon", "-5", "--5m", "-+5m", "-d", "-2d-1h", "-1h2d", "-9999999999999d"] {
            assert_eq!(before(now, bad), None, "{bad:?}");
        }
    }
}
