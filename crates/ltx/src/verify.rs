//! Proving that a file is whole and holds what was captured.
//!
//! Invariant: a file that passes is, byte for byte, what its writer checksummed; and a snapshot of walstream
//! is the database that was captured, through whatever compactions it went.

use std::io::Read;

use crate::checksum::{Checksum, page_digest};
use crate::decode::{DecodeError, Decoder};
use crate::summary::Summary;

/// Reads a file to its end and checks all of it. For a snapshot whose rolling checksum is known, the
/// database in it is checked as well.
pub fn verify(input: impl Read) -> Result<Summary, DecodeError> {
    let mut decoder = Decoder::new(input)?;
    let known = decoder.header().lineage.post_apply.filter(|_| decoder.header().is_snapshot());
    if let Some(stored) = known {
        let mut computed = Checksum::EMPTY;
        while let Some(page) = decoder.next_page()? {
            computed = computed.toggle(page_digest(page.pgno, page.data));
        }
        if computed != stored {
            return Err(DecodeError::DatabaseChecksum { stored, computed });
        }
    }
    decoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lineage;
    use crate::header::Header;
    use crate::testing::{file, header, rolling};

    fn snapshot(post_apply: Checksum) -> Header {
        Header { lineage: Lineage { pre_apply: None, post_apply: Some(post_apply) }, ..header(1..=7, 2) }
    }

    #[test]
    fn a_snapshot_proves_the_database_in_it() {
        let good = file(&snapshot(rolling(&[1, 2])), &[(1, 1), (2, 2)]);
        assert_eq!(verify(&good[..]).unwrap().pages, 2);
        let other = file(&snapshot(rolling(&[1, 3])), &[(1, 1), (2, 2)]);
        assert!(matches!(verify(&other[..]), Err(DecodeError::DatabaseChecksum { .. })));
    }

    #[test]
    fn a_change_proves_only_itself() {
        let unknown = Checksum::from_stored(u64::MAX).unwrap();
        let lineage = Lineage { pre_apply: unknown, post_apply: unknown };
        let bytes = file(&Header { lineage, ..header(2..=2, 2) }, &[(2, 2)]);
        assert_eq!(verify(&bytes[..]).unwrap().pages, 1);
    }
}
