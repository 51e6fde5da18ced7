//! A database in memory whose every change becomes an LTX file.

use std::collections::BTreeMap;
use std::sync::Arc;

use walstream_ltx::{
    Checksum, Commit, Decoder, Encoder, Header, Level, Lineage, PageSize, Pgno, Timestamp, Txid, TxidRange,
    WalSpan, merge, page_digest,
};
use walstream_storage::ReplicaClient;

use crate::testing::MemoryReplica;

/// One state: the size in pages, and what each page is filled with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct State {
    commit: u32,
    pages: BTreeMap<u32, u8>,
}

impl State {
    /// The next state: pages beyond `commit` are cut off, new ones are zero unless they are `written`.
    fn after(&self, commit: u32, written: &BTreeMap<u32, u8>) -> State {
        let mut pages = self.pages.clone();
        pages.retain(|&pgno, _| pgno <= commit);
        (self.commit + 1..=commit).for_each(|pgno| _ = pages.insert(pgno, 0));
        pages.extend(written.iter().filter(|&(&pgno, _)| pgno <= commit).map(|(&pgno, &byte)| (pgno, byte)));
        State { commit, pages }
    }

    fn changes_since(&self, before: &State) -> BTreeMap<u32, u8> {
        let kept = before.pages.iter().filter(|&(&pgno, _)| pgno <= self.commit.min(before.commit));
        let kept: BTreeMap<_, _> = kept.collect();
        self.pages
            .iter()
            .filter(|&(pgno, byte)| kept.get(pgno) != Some(&byte))
            .map(|(&pgno, &byte)| (pgno, byte))
            .collect()
    }

    fn rolling(&self, page_size: PageSize) -> Checksum {
        self.pages.iter().fold(Checksum::EMPTY, |sum, (&pgno, &byte)| {
            sum.toggle(page_digest(Pgno::new(pgno).unwrap(), &content(page_size, byte)))
        })
    }

    /// The file that a restore must give.
    pub(crate) fn image(&self, page_size: PageSize) -> Vec<u8> {
        self.pages.values().flat_map(|&byte| content(page_size, byte)).collect()
    }
}

/// A page that compresses somewhat, and differs for every `byte`.
fn content(page_size: PageSize, byte: u8) -> Vec<u8> {
    (0..page_size.bytes()).map(|at| byte ^ (at % 64) as u8 ^ (at / 256) as u8).collect()
}

/// A database with its replica.
pub(crate) struct Model {
    pub(crate) page_size: PageSize,
    /// Whether files carry the rolling checksum, as walstream's do and Litestream's do not.
    pub(crate) lineage: bool,
    /// State of each TXID; TXID 0 is the empty database.
    pub(crate) states: Vec<State>,
    pub(crate) replica: Arc<MemoryReplica>,
}

impl Model {
    pub(crate) fn new(page_size: u32, lineage: bool) -> Self {
        let page_size = PageSize::new(page_size).unwrap();
        Model { page_size, lineage, states: vec![State::default()], replica: Arc::default() }
    }

    pub(crate) fn client(&self) -> Arc<dyn ReplicaClient> {
        Arc::clone(&self.replica) as Arc<dyn ReplicaClient>
    }

    pub(crate) fn newest(&self) -> u64 {
        self.states.len() as u64 - 1
    }

    pub(crate) fn image(&self, txid: u64) -> Vec<u8> {
        self.states[txid as usize].image(self.page_size)
    }

    /// Changes the database and stores the change at level 0.
    pub(crate) fn commit(&mut self, pages: u32, written: &[(u32, u8)]) {
        let written: BTreeMap<u32, u8> = written.iter().copied().collect();
        let before = self.states.last().unwrap();
        self.states.push(before.after(pages, &written));
        let newest = self.newest();
        self.store(0, newest, newest);
    }

    /// Stores what changed in these TXIDs in a file of its own.
    pub(crate) fn store(&self, level: u8, min: u64, max: u64) {
        let bytes = self.file(min, max);
        self.put(level, min, max, bytes);
    }

    /// Stores the merged level-0 files of these TXIDs.
    pub(crate) fn compact(&self, level: u8, min: u64, max: u64) {
        let files: Vec<Vec<u8>> = (min..=max).map(|txid| self.file(txid, txid)).collect();
        let inputs = files.iter().map(|file| Decoder::new(&file[..]).unwrap()).collect();
        let (bytes, _) = merge(inputs, Vec::new()).unwrap();
        self.put(level, min, max, bytes);
    }

    pub(crate) fn put(&self, level: u8, min: u64, max: u64, bytes: Vec<u8>) {
        self.replica.insert(Level::new(level).unwrap(), range(min, max), time(max), bytes);
    }

    /// The bytes of a file that holds what changed in these TXIDs.
    pub(crate) fn file(&self, min: u64, max: u64) -> Vec<u8> {
        let (before, after) = (&self.states[min as usize - 1], &self.states[max as usize]);
        let known = |state: &State| self.lineage.then(|| state.rolling(self.page_size));
        let header = Header {
            page_size: self.page_size,
            commit: Commit::new(after.commit),
            txids: range(min, max),
            timestamp: time(max),
            tracked: false,
            pre_apply: None,
            wal: WalSpan::default(),
            node_id: 0,
            lineage: Lineage { pre_apply: known(before).filter(|_| min > 1), post_apply: known(after) },
        };
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        for (pgno, byte) in after.changes_since(before) {
            encoder.page(Pgno::new(pgno).unwrap(), &content(self.page_size, byte)).unwrap();
        }
        encoder.finish(None).unwrap().0
    }
}

pub(crate) fn range(min: u64, max: u64) -> TxidRange {
    TxidRange::new(Txid::new(min), Txid::new(max)).unwrap()
}

/// A second for each TXID.
pub(crate) fn time(txid: u64) -> Timestamp {
    Timestamp::from_millis(txid as i64 * 1000)
}

/// A snapshot, TXID 1, of a database file with 4096-byte pages.
pub(crate) fn snapshot_of(database: &[u8]) -> Vec<u8> {
    let page_size = PageSize::new(4096).unwrap();
    let header = Header {
        page_size,
        commit: Commit::new(u32::try_from(database.len() / page_size.bytes()).unwrap()),
        txids: range(1, 1),
        timestamp: time(1),
        tracked: false,
        pre_apply: None,
        wal: WalSpan::default(),
        node_id: 0,
        lineage: Lineage {
            pre_apply: None,
            post_apply: Some(super::rolling(page_size, database, page_digest)),
        },
    };
    let mut encoder = Encoder::new(Vec::new(), header).unwrap();
    for (pgno, page) in (1..).zip(database.chunks(page_size.bytes())) {
        encoder.page(Pgno::new(pgno).unwrap(), page).unwrap();
    }
    encoder.finish(None).unwrap().0
}
