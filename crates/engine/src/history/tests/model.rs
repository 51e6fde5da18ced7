//! A database of 512-byte pages whose every state is remembered, and a replica that it is captured into.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use walstream_ltx::{
    Checksum, Commit, Decoder, Encoder, Header, Level, Lineage, Merge, PageSize, Pgno, Timestamp, Txid,
    TxidRange, WalSpan, page_digest,
};
use walstream_storage::{FileInfo, ReplicaClient, TimestampSource};

use crate::restore::plan::{Target, choose};
use crate::testing::MemoryReplica;

pub(super) const START: Timestamp = Timestamp::from_millis(1_787_142_900_000);

pub(super) fn level(number: u8) -> Level {
    Level::new(number).unwrap()
}

pub(super) fn txids(min: u64, max: u64) -> TxidRange {
    TxidRange::new(Txid::new(min), Txid::new(max)).unwrap()
}

/// `min-max` of each file of a level.
pub(super) fn names(replica: &MemoryReplica, number: u8) -> Vec<(u64, u64)> {
    replica.names(level(number)).iter().map(|&txids| (txids.min().get(), txids.max().get())).collect()
}

pub(super) struct Model {
    pub(super) replica: Arc<MemoryReplica>,
    pub(super) page_size: u32,
    /// One byte stands for a page that is full of it.
    pages: Vec<u8>,
    pub(super) txid: u64,
    states: BTreeMap<Txid, Vec<u8>>,
}

impl Model {
    pub(super) fn new() -> Self {
        let replica = Arc::new(MemoryReplica::default());
        Model { replica, page_size: 512, pages: Vec::new(), txid: 0, states: BTreeMap::new() }
    }

    fn page(&self, byte: u8) -> Vec<u8> {
        vec![byte; self.page_size as usize]
    }

    fn rolling(&self) -> Checksum {
        (1..).zip(&self.pages).fold(Checksum::EMPTY, |sum, (pgno, &byte)| {
            sum.toggle(page_digest(Pgno::new(pgno).unwrap(), &self.page(byte)))
        })
    }

    fn encode(&self, txids: TxidRange, lineage: Lineage, at: Timestamp, pages: &[u32]) -> Vec<u8> {
        let header = Header {
            page_size: PageSize::new(self.page_size).unwrap(),
            commit: Commit::new(self.pages.len() as u32),
            txids,
            timestamp: at,
            tracked: false,
            pre_apply: None,
            wal: WalSpan { offset: 32, size: 0, ..WalSpan::default() },
            node_id: 7,
            lineage,
        };
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        for &pgno in pages {
            let content = self.page(self.pages[pgno as usize - 1]);
            encoder.page(Pgno::new(pgno).unwrap(), &content).unwrap();
        }
        encoder.finish(None).unwrap().0
    }

    /// The database becomes `commit` pages long, and `changed` pages (and those that are new) get new content.
    pub(super) fn capture(&mut self, commit: u32, changed: &[u32], at: Timestamp) -> TxidRange {
        let pre_apply = (self.txid > 0).then(|| self.rolling());
        let old = self.pages.len() as u32;
        self.txid += 1;
        self.pages.resize(commit as usize, 0);
        let pages: Vec<u32> = (1..=commit).filter(|pgno| *pgno > old || changed.contains(pgno)).collect();
        for &pgno in &pages {
            self.pages[pgno as usize - 1] = (self.txid * 31 + u64::from(pgno)) as u8;
        }
        let lineage = Lineage { pre_apply, post_apply: Some(self.rolling()) };
        let name = txids(self.txid, self.txid);
        self.replica.insert(Level::L0, name, at, self.encode(name, lineage, at, &pages));
        self.states.insert(Txid::new(self.txid), self.pages.clone());
        name
    }

    /// Three pages, of which one changes at each of `count` captures, one a second.
    pub(super) fn capture_some(&mut self, count: u64, from: Timestamp) {
        for second in 0..count as i64 {
            let at = Timestamp::from_millis(from.as_millis() + second * 1000);
            self.capture(3, &[(self.txid % 3) as u32 + 1], at);
        }
    }

    pub(super) fn snapshot(&self, at: Timestamp) -> Txid {
        let name = txids(1, self.txid);
        let lineage = Lineage { pre_apply: None, post_apply: Some(self.rolling()) };
        let pages: Vec<u32> = (1..=self.pages.len() as u32).collect();
        self.replica.insert(Level::SNAPSHOT, name, at, self.encode(name, lineage, at, &pages));
        Txid::new(self.txid)
    }

    pub(super) fn file(&self, number: u8, min: u64, max: u64) -> Header {
        let content = self.replica.content(level(number), txids(min, max)).expect("the file is there");
        Decoder::new(Cursor::new(content)).unwrap().header().clone()
    }

    pub(super) async fn listing(&self, number: u8) -> Vec<FileInfo> {
        self.replica.list(level(number), Txid::FIRST, TimestampSource::Listing).await.unwrap()
    }

    /// Restores to `target` and compares; returns which state it was.
    pub(super) async fn restore(&self, target: Target) -> Txid {
        let mut listing = Vec::new();
        for number in 0..=9 {
            listing.extend(self.listing(number).await);
        }
        let plan =
            choose(&listing, &target).unwrap_or_else(|error| panic!("{target:?}: {error} in {listing:#?}"));
        let open = |file: &FileInfo| {
            Decoder::new(Cursor::new(self.replica.content(file.level, file.txids).unwrap())).unwrap()
        };
        let mut merge = Merge::new(plan.iter().map(open).collect()).unwrap();
        let mut pages = Vec::new();
        while let Some(page) = merge.next_page().unwrap() {
            assert_eq!(page.data, self.page(page.data[0]));
            pages.push(page.data[0]);
        }
        merge.finish().unwrap();
        let txid = plan.last().unwrap().txids.max();
        assert_eq!(pages, self.states[&txid], "{target:?}");
        txid
    }

    /// Restores to the newest state and to the end of every file.
    pub(super) async fn check(&self) {
        assert_eq!(self.restore(Target::Latest).await.get(), self.txid);
        let oldest = self.listing(9).await.first().map_or(Txid::ZERO, |file| file.txids.max());
        for number in 0..=9 {
            for file in self.listing(number).await {
                if file.txids.max() >= oldest {
                    assert_eq!(self.restore(Target::Txid(file.txids.max())).await, file.txids.max());
                }
            }
        }
    }
}
