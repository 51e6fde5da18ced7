//! Durations as Go writes them: `1h30m`, `1.5s`, `500ms`.
//!
//! A number without a unit is refused: the peer reads `sync-interval: 5` as five nanoseconds, which nobody
//! means. Zero needs no unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// A duration in nanoseconds, which may be negative until it is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GoDuration(i64);

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000), // U+00B5, the micro sign
    ("μs", 1_000), // U+03BC, the Greek letter
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    /// Zero or less is `None`.
    pub(crate) fn positive(self) -> Option<Duration> {
        u64::try_from(self.0).ok().filter(|&nanos| nanos > 0).map(Duration::from_nanos)
    }

    /// Less than zero is `None`.
    pub(crate) fn not_negative(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

/// The text is not a duration. The message says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseDurationError {
    /// A number without unit.
    #[error("duration {0:?} has no unit: write {0}s, {0}m or {0}h")]
    NoUnit(String),
    /// A unit that Go does not have.
    #[error("unknown unit {unit:?} in duration {text:?}: use h, m, s, ms, us or ns{}", days_hint(.unit))]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// The unit.
        unit: String,
    },
    /// Anything else.
    #[error("invalid duration {0:?}: write it like 30s, 5m or 1h30m")]
    Invalid(String),
}

fn days_hint(unit: &str) -> &'static str {
    match unit {
        "d" | "day" | "days" => " (a day is 24h)",
        "w" | "week" | "weeks" => " (a week is 168h)",
        _ => "",
    }
}

impl FromStr for GoDuration {
    type Err = ParseDurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseDurationError::Invalid(text.to_owned());
        let (sign, mut rest) = match text.as_bytes() {
            [b'-', ..] => (-1, &text[1..]),
            [b'+', ..] => (1, &text[1..]),
            _ => (1, text),
        };
        if rest == "0" {
            return Ok(GoDuration(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total = 0_i64;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            let (number, tail) = rest.split_at(number_end);
            let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_end);
            if unit.is_empty() && number == rest && total == 0 && number.parse::<f64>().is_ok() {
                return Err(ParseDurationError::NoUnit(text.to_owned()));
            }
            let scale =
                UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale).ok_or_else(|| {
                    match number.is_empty() || unit.is_empty() {
                        true => invalid(),
                        false => {
                            ParseDurationError::UnknownUnit { text: text.to_owned(), unit: unit.to_owned() }
                        }
                    }
                })?;
            total = nanos(number, scale).and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
            rest = tail;
        }
        Ok(GoDuration(sign * total))
    }
}

/// `number` (digits, at most one point) times `scale`, exactly; `None` if malformed or too large.
fn nanos(number: &str, scale: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    let mut total = whole.checked_mul(scale)?;
    let mut digit_scale = scale;
    for digit in fraction.bytes() {
        digit_scale /= 10;
        total = total.checked_add(i64::from(digit.is_ascii_digit().then(|| digit - b'0')?) * digit_scale)?;
    }
    Some(total)
}

impl From<Duration> for GoDuration {
    fn from(duration: Duration) -> Self {
        GoDuration(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for GoDuration {
    /// As Go prints it: `0s`, `1.5s`, `2m0s`, `1h30m0s`, `250ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let fraction = |value: u64, unit: u64| {
            let digits = unit.ilog10() as usize;
            let text = format!("{}.{:0digits$}", value / unit, value % unit);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        match nanos {
            0 => write!(f, "0s"),
            1..1_000 => write!(f, "{sign}{nanos}ns"),
            1_000..1_000_000 => write!(f, "{sign}{}µs", fraction(nanos, 1_000)),
            1_000_000..1_000_000_000 => write!(f, "{sign}{}ms", fraction(nanos, 1_000_000)),
            _ => {
                let (minutes, rest) = (nanos / 60_000_000_000, nanos % 60_000_000_000);
                let seconds = if rest == 0 { "0".to_owned() } else { fraction(rest, 1_000_000_000) };
                match (minutes / 60, minutes % 60) {
                    (0, 0) => write!(f, "{sign}{seconds}s"),
                    (0, minutes) => write!(f, "{sign}{minutes}m{seconds}s"),
                    (hours, minutes) => write!(f, "{sign}{hours}h{minutes}m{seconds}s"),
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_read_and_written_as_go_writes_it() {
        for (text, printed) in [
            ("0", "0s"),
            ("0s", "0s"),
            ("30s", "30s"),
            ("1.5s", "1.5s"),
            (".5s", "500ms"),
            ("2m", "2m0s"),
            ("1h30m", "1h30m0s"),
            ("100us", "100µs"),
            ("1µs", "1µs"),
            ("1μs", "1µs"),
            ("7ns", "7ns"),
            ("-5s", "-5s"),
            ("+24h", "24h0m0s"),
            ("1h0.000000001s", "1h0m0.000000001s"),
        ] {
            assert_eq!(text.parse::<GoDuration>().map(|d| d.to_string()), Ok(printed.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_what_to_write() {
        let message = |text: &str| text.parse::<GoDuration>().unwrap_err().to_string();
        assert_eq!(message("5"), "duration \"5\" has no unit: write 5s, 5m or 5h");
        assert_eq!(
            message("7d"),
            "unknown unit \"d\" in duration \"7d\": use h, m, s, ms, us or ns (a day is 24h)"
        );
        assert_eq!(message("soon"), "invalid duration \"soon\": write it like 30s, 5m or 1h30m");
        for bad in ["", "-", ".s", "1..2s", "1h 30m", "s", "9999999999h", "1e3s", "5s5"] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad:?}");
        }
    }
}
