//! Transaction identifiers of the replication stream.

use std::fmt;
use std::str::FromStr;

/// One captured batch of commits: 1, 2, 3, … It is not one SQLite transaction; several commits that are
/// captured together share a TXID. [`Txid::ZERO`] stands for "before the first".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Txid(u64);

impl Txid {
    /// The position before the first batch.
    pub const ZERO: Txid = Txid(0);
    /// The first batch. A file that starts here is a snapshot (format.md, "Header").
    pub const FIRST: Txid = Txid(1);

    /// Wraps a raw number.
    pub const fn new(value: u64) -> Self {
        Txid(value)
    }

    /// The raw number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The TXID after this one.
    pub const fn next(self) -> Txid {
        Txid(self.0.saturating_add(1))
    }

    /// The TXID before this one; zero stays zero.
    pub const fn prev(self) -> Txid {
        Txid(self.0.saturating_sub(1))
    }

    /// Whether this is the position before the first batch.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for Txid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The text is not exactly 16 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid TXID {0:?}: expected 16 lower-case hexadecimal digits, such as 000000000000001f")]
pub struct ParseTxidError(pub String);

impl FromStr for Txid {
    type Err = ParseTxidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(ParseTxidError(text.to_owned()));
        }
        u64::from_str_radix(text, 16).map(Txid).map_err(|_| ParseTxidError(text.to_owned()))
    }
}

/// An inclusive range of TXIDs, `min ≤ max`, `min ≥ 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TxidRange {
    min: Txid,
    max: Txid,
}

impl TxidRange {
    /// The range `min..=max`, or `None` if it is empty or starts before TXID 1.
    pub const fn new(min: Txid, max: Txid) -> Option<Self> {
        if min.0 >= 1 && min.0 <= max.0 { Some(TxidRange { min, max }) } else { None }
    }

    /// The range that holds one TXID; `None` for [`Txid::ZERO`].
    pub const fn single(txid: Txid) -> Option<Self> {
        TxidRange::new(txid, txid)
    }

    /// The first TXID.
    pub const fn min(self) -> Txid {
        self.min
    }

    /// The last TXID.
    pub const fn max(self) -> Txid {
        self.max
    }

    /// A file with this range holds a whole database, not a change (format.md, "Header").
    pub const fn is_snapshot(self) -> bool {
        self.min.0 == 1
    }
}

impl fmt::Display for TxidRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_sixteen_lower_case_digits() {
        assert_eq!(Txid::new(31).to_string(), "000000000000001f");
        assert_eq!("000000000000001f".parse(), Ok(Txid::new(31)));
        for bad in ["", "1f", "000000000000001F", "+00000000000001f", "000000000000000001f"] {
            assert!(bad.parse::<Txid>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_range_is_never_empty() {
        assert_eq!(TxidRange::new(Txid::new(2), Txid::new(1)), None);
        assert_eq!(TxidRange::single(Txid::ZERO), None);
    }
}
