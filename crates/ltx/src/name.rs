//! File names: `<min>-<max>.ltx`, each 16 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use crate::txid::{Txid, TxidRange};

/// The name of an LTX file, which is the TXID range that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(pub TxidRange);

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.ltx", self.0)
    }
}

/// Not the name of an LTX file. Listings skip such names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of an LTX file")]
pub struct ParseNameError(pub String);

impl FromStr for FileName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = || {
            let (min, max) = text.strip_suffix(".ltx")?.split_once('-')?;
            TxidRange::new(min.parse::<Txid>().ok()?, max.parse::<Txid>().ok()?)
        };
        range().map(FileName).ok_or_else(|| ParseNameError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_foreign_names_are_refused() {
        let text = "0000000000000002-000000000000000a.ltx";
        let name: FileName = text.parse().unwrap();
        assert_eq!((name.0.min().get(), name.0.max().get()), (2, 10));
        assert_eq!(name.to_string(), text);
        for bad in [
            "0000000000000002-000000000000000a.ltx.tmp",
            "0000000000000002-000000000000000A.ltx",
            "0000000000000000-0000000000000001.ltx",
            "0000000000000003-0000000000000002.ltx",
            "lock.json",
        ] {
            assert!(bad.parse::<FileName>().is_err(), "{bad}");
        }
    }
}
