//! walstream's extension of the header: rolling database checksums in the reserved bytes 80–99.
//!
//! Invariant: a file without the extension, and one with reserved bytes that are not ours, read the same:
//! as "unknown". Litestream ignores these bytes, and the file checksum covers them
//! (format.md, "Checksum extension").

use crate::bytes::{Reader, Short};
use crate::checksum::{Checksum, InvalidChecksum};

/// How many reserved bytes the header ends with.
pub(crate) const SIZE: usize = 20;

/// Marks reserved bytes as ours; the last byte is the version.
const MAGIC: [u8; 4] = *b"wsc\x01";

/// The rolling checksums of the database before and after a file: what it must be applied to, and what comes
/// out. `None` is "unknown"; the state before TXID 1 is always that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lineage {
    /// Rolling checksum of the database that the file applies to.
    pub pre_apply: Option<Checksum>,
    /// Rolling checksum of the database after the file.
    pub post_apply: Option<Checksum>,
}

impl Lineage {
    pub(crate) fn parse(reserved: &[u8; SIZE]) -> Result<Self, InvalidChecksum> {
        match Lineage::read(Reader(reserved)) {
            Ok((MAGIC, pre_apply, post_apply)) => Ok(Lineage {
                pre_apply: Checksum::from_stored(pre_apply)?,
                post_apply: Checksum::from_stored(post_apply)?,
            }),
            _ => Ok(Lineage::default()),
        }
    }

    fn read(mut reserved: Reader<'_>) -> Result<([u8; 4], u64, u64), Short> {
        Ok((reserved.array()?, reserved.u64()?, reserved.u64()?))
    }

    pub(crate) fn encode(&self) -> [u8; SIZE] {
        let mut reserved = [0; SIZE];
        if *self != Lineage::default() {
            reserved[..4].copy_from_slice(&MAGIC);
            reserved[4..12].copy_from_slice(&Checksum::to_stored(self.pre_apply).to_be_bytes());
            reserved[12..].copy_from_slice(&Checksum::to_stored(self.post_apply).to_be_bytes());
        }
        reserved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_known_leaves_the_reserved_bytes_zero() {
        assert_eq!(Lineage::default().encode(), [0; SIZE]);
        assert_eq!(Lineage::parse(&[0; SIZE]), Ok(Lineage::default()));
    }

    #[test]
    fn checksums_read_back() {
        for (pre_apply, post_apply) in [(None, Some(Checksum::EMPTY)), (Some(Checksum::EMPTY), None)] {
            let lineage = Lineage { pre_apply, post_apply };
            assert_eq!(Lineage::parse(&lineage.encode()), Ok(lineage));
        }
    }

    #[test]
    fn reserved_bytes_of_others_are_ignored() {
        assert_eq!(Lineage::parse(&[0xff; SIZE]), Ok(Lineage::default()));
        let mut newer = Lineage { pre_apply: None, post_apply: Some(Checksum::EMPTY) }.encode();
        newer[3] += 1;
        assert_eq!(Lineage::parse(&newer), Ok(Lineage::default()));
    }
}
