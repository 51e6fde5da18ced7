//! Sizes: a number of bytes, or a number with a unit such as `5MB` (1000) or `8MiB` (1024).

use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size(pub(crate) u64);

/// The text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid size {0:?}: write it like 5242880, 5MB or 8MiB")]
pub(crate) struct ParseSizeError(String);

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(Size).ok_or_else(|| ParseSizeError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = scale(&unit.trim().to_ascii_lowercase())?;
    let bytes = match number.parse::<u64>() {
        Ok(whole) => return whole.checked_mul(scale),
        Err(_) => number.parse::<f64>().ok()? * scale as f64,
    };
    (bytes < u64::MAX as f64).then_some(bytes as u64)
}

fn scale(unit: &str) -> Option<u64> {
    let (prefix, base) = match unit.trim_end_matches('b') {
        "" => return Some(1),
        prefix => match prefix.strip_suffix('i') {
            Some(prefix) => (prefix, 1024_u64),
            None => (prefix, 1000),
        },
    };
    let power = ["k", "m", "g", "t"].iter().position(|known| *known == prefix)?;
    base.checked_pow(power as u32 + 1)
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1000_and_of_1024() {
        for (text, bytes) in [
            ("5242880", 5_242_880),
            ("5MB", 5_000_000),
            ("5MiB", 5 << 20),
            ("8M", 8_000_000),
            ("1.5 KiB", 1536),
            ("10b", 10),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "MB", "5XB", "-1", "1.2.3MB", "99999999999999999999", "99999999TB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad:?}");
        }
    }
}
