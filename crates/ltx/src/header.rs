//! The header: the first 100 bytes of a file.
//!
//! Invariant: a [`Header`] that was parsed, and one that was encoded, keeps every rule of the format
//! (format.md, "Header"). A file that starts at TXID 1 is a snapshot; nothing else marks one.

use crate::bytes::{Reader, Short};
use crate::checksum::{Checksum, InvalidChecksum};
use crate::extension::{self, Lineage};
use crate::page::{Commit, PageSize};
use crate::timestamp::Timestamp;
use crate::txid::{Txid, TxidRange};

const MAGIC: [u8; 4] = *b"LTX1";
/// The file does not track the database's checksum: its own pre- and post-apply fields are 0.
const FLAG_NO_CHECKSUM: u32 = 2;

/// The two random numbers that mark a generation of a WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Salts {
    /// Grows by one at each restart of the WAL.
    pub salt1: u32,
    /// New random bits at each restart.
    pub salt2: u32,
}

/// Where in the WAL the frames of a file were: `size` bytes from `offset`, in the generation with these
/// salts. All zero if the file does not come from one WAL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalSpan {
    /// Byte offset of the first frame.
    pub offset: u64,
    /// Bytes from there to the end of the last frame.
    pub size: u64,
    /// The generation.
    pub salts: Salts,
}

impl WalSpan {
    fn validate(&self) -> Result<(), HeaderError> {
        let representable = i64::try_from(self.offset).is_ok() && i64::try_from(self.size).is_ok();
        let anchored = self.offset != 0 || (self.size == 0 && self.salts == Salts::default());
        if representable && anchored { Ok(()) } else { Err(HeaderError::WalSpan(*self)) }
    }
}

/// What a file says about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Size of each page.
    pub page_size: PageSize,
    /// Size of the database after the file.
    pub commit: Commit,
    /// The batches that the file holds.
    pub txids: TxidRange,
    /// When the newest of them was captured.
    pub timestamp: Timestamp,
    /// Whether the format's own database checksums are in use. Litestream and walstream never use them
    /// (walstream keeps its own in [`Header::lineage`]), but both read such files.
    pub tracked: bool,
    /// Rolling checksum before the file, if it is tracked and no snapshot.
    pub pre_apply: Option<Checksum>,
    /// Where the frames came from; only in files that were captured from a WAL.
    pub wal: WalSpan,
    /// Litestream writes 0. In level-0 files of walstream: the WAL's cumulative checksum at the end of
    /// [`Header::wal`].
    pub node_id: u64,
    /// walstream's rolling checksums.
    pub lineage: Lineage,
}

impl Header {
    /// Bytes that a header takes.
    pub const SIZE: usize = 100;

    /// Whether the file holds a whole database rather than a change.
    pub const fn is_snapshot(&self) -> bool {
        self.txids.is_snapshot()
    }

    /// Reads the header at the start of a file; bytes after it are left alone.
    pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let header = bytes.first_chunk::<{ Header::SIZE }>().ok_or(HeaderError::TooShort(bytes.len()))?;
        let raw = RawHeader::read(header).map_err(|Short| HeaderError::TooShort(bytes.len()))?;
        raw.check()
    }

    /// The header as bytes, if it keeps the rules.
    pub fn encode(&self) -> Result<[u8; Header::SIZE], HeaderError> {
        self.validate()?;
        let mut bytes = [0; Header::SIZE];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&if self.tracked { 0 } else { FLAG_NO_CHECKSUM }.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.page_size.get().to_be_bytes());
        bytes[12..16].copy_from_slice(&self.commit.get().to_be_bytes());
        bytes[16..24].copy_from_slice(&self.txids.min().get().to_be_bytes());
        bytes[24..32].copy_from_slice(&self.txids.max().get().to_be_bytes());
        bytes[32..40].copy_from_slice(&self.timestamp.as_millis().to_be_bytes());
        bytes[40..48].copy_from_slice(&Checksum::to_stored(self.pre_apply).to_be_bytes());
        bytes[48..56].copy_from_slice(&self.wal.offset.to_be_bytes());
        bytes[56..64].copy_from_slice(&self.wal.size.to_be_bytes());
        bytes[64..68].copy_from_slice(&self.wal.salts.salt1.to_be_bytes());
        bytes[68..72].copy_from_slice(&self.wal.salts.salt2.to_be_bytes());
        bytes[72..80].copy_from_slice(&self.node_id.to_be_bytes());
        bytes[80..].copy_from_slice(&self.lineage.encode());
        Ok(bytes)
    }

    fn validate(&self) -> Result<(), HeaderError> {
        self.wal.validate()?;
        if self.pre_apply.is_some() != (self.tracked && !self.is_snapshot()) {
            return Err(HeaderError::PreApply { txids: self.txids, tracked: self.tracked });
        }
        if self.commit.get() == 0 && !self.tracked {
            return Err(HeaderError::EmptyDatabase { txids: self.txids });
        }
        Ok(())
    }

    /// Whether a trailer's post-apply checksum fits: it is there exactly if checksums are tracked, and that of
    /// an empty database is known.
    pub(crate) fn allows_post_apply(&self, post_apply: Option<Checksum>) -> bool {
        match post_apply {
            None => !self.tracked,
            Some(checksum) => self.tracked && (self.commit.get() > 0 || checksum == Checksum::EMPTY),
        }
    }
}

/// The fields as stored, not yet checked.
struct RawHeader {
    magic: [u8; 4],
    flags: u32,
    page_size: u32,
    commit: u32,
    min_txid: u64,
    max_txid: u64,
    timestamp: i64,
    pre_apply: u64,
    wal: WalSpan,
    node_id: u64,
    reserved: [u8; extension::SIZE],
}

impl RawHeader {
    fn read(bytes: &[u8; Header::SIZE]) -> Result<Self, Short> {
        let mut fields = Reader(bytes);
        Ok(RawHeader {
            magic: fields.array()?,
            flags: fields.u32()?,
            page_size: fields.u32()?,
            commit: fields.u32()?,
            min_txid: fields.u64()?,
            max_txid: fields.u64()?,
            timestamp: fields.i64()?,
            pre_apply: fields.u64()?,
            wal: WalSpan {
                offset: fields.u64()?,
                size: fields.u64()?,
                salts: Salts { salt1: fields.u32()?, salt2: fields.u32()? },
            },
            node_id: fields.u64()?,
            reserved: fields.array()?,
        })
    }

    fn check(self) -> Result<Header, HeaderError> {
        if self.magic != MAGIC {
            return Err(HeaderError::Magic(self.magic));
        }
        if self.flags & !FLAG_NO_CHECKSUM != 0 {
            return Err(HeaderError::Flags(self.flags));
        }
        let (min, max) = (Txid::new(self.min_txid), Txid::new(self.max_txid));
        let header = Header {
            page_size: PageSize::new(self.page_size).ok_or(HeaderError::PageSize(self.page_size))?,
            commit: Commit::new(self.commit),
            txids: TxidRange::new(min, max).ok_or(HeaderError::Txids { min, max })?,
            timestamp: Timestamp::from_millis(self.timestamp),
            tracked: self.flags & FLAG_NO_CHECKSUM == 0,
            pre_apply: Checksum::from_stored(self.pre_apply)?,
            wal: self.wal,
            node_id: self.node_id,
            lineage: Lineage::parse(&self.reserved)?,
        };
        header.validate()?;
        Ok(header)
    }
}

/// A header that breaks a rule of the format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not even a header.
    #[error("not a whole LTX file: it has {0} bytes, its header alone would have 100")]
    TooShort(usize),
    /// Another kind of file.
    #[error("not an LTX file: it begins with bytes {0:02x?} instead of \"LTX1\"")]
    Magic([u8; 4]),
    /// A flag that this version of the format does not have.
    #[error("header flags {0:#010x} are not supported; the file may come from a newer version")]
    Flags(u32),
    /// Not a page size.
    #[error("header page size {0} is not a power of two from 512 to 65536")]
    PageSize(u32),
    /// TXID zero, or a range that is empty.
    #[error("header TXIDs {min}-{max} are no range that starts at 1 or later")]
    Txids {
        /// The first TXID as stored.
        min: Txid,
        /// The last TXID as stored.
        max: Txid,
    },
    /// Negative, or without a place.
    #[error("header WAL span is impossible: {0:?}")]
    WalSpan(WalSpan),
    /// A checksum field without its top bit.
    #[error("header {0}")]
    Checksum(#[from] InvalidChecksum),
    /// The pre-apply checksum is there though it must not be, or the other way round.
    #[error(
        "header of {txids} {} a pre-apply checksum, but {}",
        if *tracked && !txids.is_snapshot() { "lacks" } else { "has" },
        if *tracked { "tracked changes need one and snapshots have none" } else { "does not track checksums" }
    )]
    PreApply {
        /// The TXIDs of the file.
        txids: TxidRange,
        /// Whether it tracks database checksums.
        tracked: bool,
    },
    /// An empty database can only be told by its checksum.
    #[error("header of {txids} says that the database has no pages, which needs tracked checksums")]
    EmptyDatabase {
        /// The TXIDs of the file.
        txids: TxidRange,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            page_size: PageSize::MAX,
            commit: Commit::new(7),
            txids: TxidRange::new(Txid::new(3), Txid::new(5)).unwrap(),
            timestamp: Timestamp::from_millis(-1),
            tracked: false,
            pre_apply: None,
            wal: WalSpan { offset: 32, size: 4120, salts: Salts { salt1: 1, salt2: 2 } },
            node_id: 9,
            lineage: Lineage { pre_apply: Some(Checksum::EMPTY), post_apply: None },
        }
    }

    #[test]
    fn a_header_reads_back() {
        let tracked = Header {
            tracked: true,
            pre_apply: Some(Checksum::EMPTY),
            lineage: Lineage::default(),
            ..header()
        };
        for header in [header(), tracked] {
            assert_eq!(Header::parse(&header.encode().unwrap()), Ok(header));
        }
    }

    #[test]
    fn a_page_size_of_64_kib_is_stored_in_full() {
        assert_eq!(header().encode().unwrap()[8..12], [0, 1, 0, 0]);
    }

    #[test]
    fn broken_rules_are_refused_when_writing() {
        let refused = |change: fn(&mut Header)| {
            let mut header = header();
            change(&mut header);
            header.encode().unwrap_err()
        };
        assert!(matches!(refused(|h| h.wal.offset = 0), HeaderError::WalSpan(_)));
        assert!(matches!(refused(|h| h.wal.size = 1 << 63), HeaderError::WalSpan(_)));
        assert!(matches!(refused(|h| h.pre_apply = Some(Checksum::EMPTY)), HeaderError::PreApply { .. }));
        assert!(matches!(refused(|h| h.tracked = true), HeaderError::PreApply { .. }));
        assert!(matches!(refused(|h| h.commit = Commit::new(0)), HeaderError::EmptyDatabase { .. }));
    }

    #[test]
    fn broken_rules_are_refused_when_reading() {
        let refused = |at: usize, byte: u8| {
            let mut bytes = header().encode().unwrap();
            bytes[at] = byte;
            Header::parse(&bytes).unwrap_err()
        };
        assert_eq!(refused(0, b'X'), HeaderError::Magic(*b"XTX1"));
        assert_eq!(refused(7, 3), HeaderError::Flags(3));
        assert_eq!(refused(11, 1), HeaderError::PageSize(65537));
        assert!(matches!(refused(31, 2), HeaderError::Txids { .. }));
        assert!(matches!(refused(47, 1), HeaderError::Checksum(_)));
        assert!(matches!(refused(48, 0x80), HeaderError::WalSpan(_)));
        assert_eq!(Header::parse(&[0; 99]), Err(HeaderError::TooShort(99)));
    }
}
