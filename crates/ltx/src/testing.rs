//! Small files for the tests of this crate.

use std::ops::RangeInclusive;

use crate::encode::Encoder;
use crate::header::{Header, WalSpan};
use crate::page::{Commit, PageSize, Pgno};
use crate::timestamp::Timestamp;
use crate::txid::{Txid, TxidRange};
use crate::{Checksum, Lineage, page_digest};

/// A header with 512-byte pages and nothing special about it.
pub(crate) fn header(txids: RangeInclusive<u64>, commit: u32) -> Header {
    Header {
        page_size: PageSize::new(512).unwrap(),
        commit: Commit::new(commit),
        txids: TxidRange::new(Txid::new(*txids.start()), Txid::new(*txids.end())).unwrap(),
        timestamp: Timestamp::from_millis(1_700_000_000_000),
        tracked: false,
        pre_apply: None,
        wal: WalSpan::default(),
        node_id: 0,
        lineage: Lineage::default(),
    }
}

/// A page of one byte value.
pub(crate) fn page(byte: u8) -> [u8; 512] {
    [byte; 512]
}

/// A file that holds these pages.
pub(crate) fn file(header: &Header, pages: &[(u32, u8)]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new(), header.clone()).unwrap();
    for &(pgno, byte) in pages {
        encoder.page(Pgno::new(pgno).unwrap(), &page(byte)).unwrap();
    }
    encoder.finish(None).unwrap().0
}

/// Rolling checksum of a database of such pages, from page 1 on.
pub(crate) fn rolling(pages: &[u8]) -> Checksum {
    (1..).zip(pages).fold(Checksum::EMPTY, |sum, (pgno, &byte)| {
        sum.toggle(page_digest(Pgno::new(pgno).unwrap(), &page(byte)))
    })
}
