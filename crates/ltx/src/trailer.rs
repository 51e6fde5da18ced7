//! The trailer: the last 16 bytes of a file.
//!
//! Invariant: the file checksum is always there; the post-apply checksum only if the header tracks
//! checksums (format.md, "Trailer").

use crate::checksum::{Checksum, InvalidChecksum};

/// The checksums that a file ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Rolling checksum of the database after the file; only in files that track it.
    pub post_apply: Option<Checksum>,
    /// Checksum of the file itself.
    pub file_checksum: Checksum,
}

impl Trailer {
    /// Bytes that a trailer takes.
    pub const SIZE: usize = 16;

    /// Reads a trailer.
    pub fn parse(bytes: &[u8; Trailer::SIZE]) -> Result<Trailer, InvalidChecksum> {
        let fields = u128::from_be_bytes(*bytes);
        Ok(Trailer {
            post_apply: Checksum::from_stored((fields >> 64) as u64)?,
            file_checksum: Checksum::from_stored(fields as u64)?.ok_or(InvalidChecksum(0))?,
        })
    }

    /// The trailer as bytes.
    pub fn encode(&self) -> [u8; Trailer::SIZE] {
        let mut bytes = [0; Trailer::SIZE];
        bytes[..8].copy_from_slice(&Checksum::to_stored(self.post_apply).to_be_bytes());
        bytes[8..].copy_from_slice(&self.file_checksum.get().to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_reads_back_and_needs_a_file_checksum() {
        let trailer = Trailer { post_apply: None, file_checksum: Checksum::EMPTY };
        assert_eq!(Trailer::parse(&trailer.encode()), Ok(trailer));
        assert_eq!(Trailer::parse(&[0; Trailer::SIZE]), Err(InvalidChecksum(0)));
    }
}
