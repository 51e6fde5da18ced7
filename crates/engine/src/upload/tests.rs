//! What reaches the replica, in which requests, and what happens when somebody else writes there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::watch;
use walstream_ltx::{
    Checksum, Commit, Decoder, Encoder, Header, Level, Lineage, PageSize, Pgno, Salts, Timestamp, Txid,
    TxidRange, WalSpan,
};

use super::fence;
use super::position::Remote;
use super::queue::{Acquaintance, Uploaded, Uploader};
use crate::clock::SystemClock;
use crate::error::EngineError;
use crate::fs::SystemDisk;
use crate::shadow::folder::ShadowFolder;
use crate::shadow::recover::LocalEnd;
use crate::testing::{MemoryReplica, Request, unavailable};

fn range(min: u64, max: u64) -> TxidRange {
    TxidRange::new(Txid::new(min), Txid::new(max)).unwrap()
}

/// A host that captured some batches.
struct Host {
    _folder: TempDir,
    shadow: ShadowFolder,
    /// Hosts with different numbers have different databases.
    number: u64,
}

impl Host {
    fn new(number: u64) -> Host {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(SystemDisk::like(folder.path()).unwrap());
        let shadow = ShadowFolder::open(folder.path(), folder.path(), disk).unwrap();
        Host { _folder: folder, shadow, number }
    }

    fn that_captured(number: u64, first: u64, last: u64) -> Host {
        let host = Host::new(number);
        (first..=last).for_each(|txid| host.capture(txid, 512));
        host
    }

    fn state(&self, txid: u64) -> Option<Checksum> {
        Checksum::from_stored(u64::MAX - self.number * 1000 - txid).unwrap()
    }

    fn header(&self, txid: u64, page_size: u32) -> Header {
        Header {
            page_size: PageSize::new(page_size).unwrap(),
            commit: Commit::new(9),
            txids: range(txid, txid),
            timestamp: Timestamp::from_millis(i64::try_from(txid).unwrap()),
            tracked: false,
            pre_apply: None,
            wal: WalSpan::default(),
            node_id: self.number,
            lineage: Lineage { pre_apply: self.state(txid - 1), post_apply: self.state(txid) },
        }
    }

    fn capture(&self, txid: u64, page_size: u32) {
        self.store(self.header(txid, page_size));
    }

    /// Each batch changes page 1 and another.
    fn store(&self, header: Header) {
        let (txids, page_size) = (header.txids, header.page_size.bytes());
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        let txid = txids.max().get();
        for pgno in [1, 2 + txid % 8] {
            let page = vec![u8::try_from(txid).unwrap(); page_size];
            encoder.page(Pgno::new(u32::try_from(pgno).unwrap()).unwrap(), &page).unwrap();
        }
        std::fs::write(self.shadow.path(txids), encoder.finish(None).unwrap().0).unwrap();
    }

    fn content(&self, txid: u64) -> Bytes {
        std::fs::read(self.shadow.path(range(txid, txid))).unwrap().into()
    }

    /// An uploader that was told that the replica holds everything up to `done`.
    fn uploader(&self, replica: &Arc<MemoryReplica>, done: u64, captured: u64) -> Uploader {
        Uploader {
            client: replica.clone(),
            shadow: self.shadow.clone(),
            captured: watch::Sender::new(Txid::new(captured)).subscribe(),
            uploaded: watch::Sender::new(Uploaded { txid: Txid::new(done), ..Uploaded::default() }),
            hurry: watch::Sender::new(None).subscribe(),
            sync_interval: Duration::ZERO,
            clock: Arc::new(SystemClock),
            acquaintance: Acquaintance::Sure,
        }
    }

    async fn upload(
        &self,
        replica: &Arc<MemoryReplica>,
        done: u64,
        captured: u64,
    ) -> Result<(), EngineError> {
        self.uploader(replica, done, captured).upload_pending().await
    }
}

fn put(min: u64, max: u64) -> Request {
    Request::Put(Level::L0, range(min, max))
}

/// The pages of a stored file, with the first byte of each.
fn pages(replica: &MemoryReplica, txids: TxidRange) -> Vec<(u32, u8)> {
    let content = replica.content(Level::L0, txids).unwrap();
    let mut decoder = Decoder::new(&content[..]).unwrap();
    let mut pages = Vec::new();
    while let Some(page) = decoder.next_page().unwrap() {
        pages.push((page.pgno.get(), page.data[0]));
    }
    decoder.finish().unwrap();
    pages
}

#[tokio::test]
async fn a_file_whose_capture_failed_at_its_very_end_is_not_uploaded() {
    let (replica, host) = (Arc::default(), Host::that_captured(1, 7, 7));
    host.upload(&replica, 6, 6).await.unwrap();
    assert_eq!(replica.names(Level::L0), []);
}

#[tokio::test]
async fn a_backlog_costs_three_requests_and_each_page_once() {
    let (replica, host) = (Arc::default(), Host::that_captured(1, 3, 40));
    host.upload(&replica, 2, 40).await.unwrap();
    assert_eq!(replica.take_requests(), [put(3, 3), put(4, 40), Request::List(Level::L0)]);
    let expected = [(1, 40), (2, 40), (3, 33), (4, 34), (5, 35), (6, 36), (7, 37), (8, 38), (9, 39)];
    assert_eq!(pages(&replica, range(4, 40)), expected);
}

#[tokio::test]
async fn a_few_files_go_up_as_they_are() {
    let (replica, host) = (Arc::default(), Host::that_captured(1, 3, 5));
    host.upload(&replica, 2, 5).await.unwrap();
    assert_eq!(replica.take_requests(), [put(3, 3), put(4, 4), put(5, 5)]);
}

#[tokio::test]
async fn nothing_is_merged_across_another_page_size_or_a_hole() {
    let (replica, host) = (Arc::default(), Host::that_captured(1, 3, 8));
    (9..=14).for_each(|txid| host.capture(txid, 1024));
    (16..=20).for_each(|txid| host.capture(txid, 1024));
    host.upload(&replica, 2, 20).await.unwrap();
    let expected = [range(3, 3), range(4, 8), range(9, 9), range(10, 14), range(16, 16), range(17, 20)];
    assert_eq!(replica.names(Level::L0), expected);
}

#[tokio::test]
async fn a_merged_file_is_recognised_when_the_same_files_are_sent_again() {
    let (replica, host) = (Arc::default(), Host::that_captured(1, 3, 9));
    host.upload(&replica, 2, 9).await.unwrap();
    host.upload(&replica, 2, 9).await.unwrap();
    assert_eq!(replica.names(Level::L0), [range(3, 3), range(4, 9)]);
}

#[tokio::test]
async fn what_arrived_although_the_answer_was_lost_is_not_sent_again() {
    let (replica, host) = (Arc::new(MemoryReplica::default()), Host::that_captured(1, 3, 9));
    let mut uploader = host.uploader(&replica, 2, 9);
    let mut listings = 0;
    // The merged file arrives, and then the line breaks.
    replica.set_fault(move |request| {
        listings += usize::from(request == Request::List(Level::L0));
        (listings == 1).then(unavailable)
    });
    uploader.upload_pending().await.unwrap_err();
    assert_eq!(replica.names(Level::L0), [range(3, 3), range(4, 9)]);
    replica.clear_fault();
    replica.take_requests();

    (10..=12).for_each(|txid| host.capture(txid, 512));
    uploader.captured = watch::Sender::new(Txid::new(12)).subscribe();
    uploader.upload_pending().await.unwrap();
    let header = Request::Read(Level::L0, range(4, 9));
    let expected = [Request::List(Level::L0), header, put(10, 10), put(11, 11), put(12, 12)];
    assert_eq!(replica.take_requests(), expected);
}

#[tokio::test]
async fn a_damaged_file_does_not_keep_the_others_from_going_up() {
    let (replica, host) = (Arc::default(), Host::that_captured(1, 3, 9));
    let mut damaged = host.content(6).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(host.shadow.path(range(6, 6)), damaged).unwrap();
    host.upload(&replica, 2, 9).await.unwrap();
    assert_eq!(replica.names(Level::L0).len(), 7, "one by one");
}

fn assert_fenced(result: Result<(), EngineError>) {
    assert!(matches!(result, Err(EngineError::Fenced { .. })), "{result:?}");
}

#[tokio::test]
async fn a_writer_that_merges_and_one_that_does_not_notice_each_other() {
    let (one, other) = (Host::that_captured(1, 3, 9), Host::that_captured(2, 3, 9));
    let replica = Arc::default();
    one.upload(&replica, 2, 9).await.unwrap();
    let before = replica.names(Level::L0);
    for captured in [3, 5, 9] {
        assert_fenced(other.upload(&replica, 2, captured).await);
    }
    assert_eq!(replica.names(Level::L0), before);
}

#[tokio::test]
async fn who_merges_takes_his_file_back_if_another_came_at_the_same_moment() {
    let (one, other) = (Host::that_captured(1, 3, 9), Host::that_captured(2, 4, 4));
    let replica = Arc::new(MemoryReplica::default());
    let (store, content) = (Arc::clone(&replica), other.content(4));
    // The other saw 3, and so it needs the number 4.
    replica.set_fault(move |request| {
        if request == put(4, 9) {
            store.insert(Level::L0, range(4, 4), Timestamp::default(), content.clone());
        }
        None
    });
    assert_fenced(one.upload(&replica, 2, 9).await);
    assert_eq!(replica.names(Level::L0), [range(3, 3), range(4, 4)]);
    assert_eq!(replica.content(Level::L0, range(4, 4)), Some(other.content(4)));
}

#[tokio::test]
async fn who_comes_new_takes_his_file_back_if_another_merged_at_the_same_moment() {
    let (one, other) = (Host::that_captured(1, 3, 9), Host::that_captured(2, 4, 4));
    let replica = Arc::default();
    one.upload(&replica, 2, 9).await.unwrap();
    // It looked when there was nothing but 3.
    let mut late = other.uploader(&replica, 3, 4);
    late.acquaintance = Acquaintance::New;
    assert_fenced(late.upload_pending().await);
    assert_eq!(replica.names(Level::L0), [range(3, 3), range(4, 9)]);
}

#[tokio::test]
async fn what_another_built_upon_is_not_taken_back() {
    let (one, other) = (Host::that_captured(1, 3, 4), Host::that_captured(2, 4, 4));
    let replica = Arc::new(MemoryReplica::default());
    let (store, content) = (Arc::clone(&replica), other.content(4));
    // The other saw 3 as soon as it was there.
    replica.set_fault(move |request| {
        if request == Request::List(Level::L0) {
            store.insert(Level::L0, range(4, 4), Timestamp::default(), content.clone());
        }
        None
    });
    let mut uploader = one.uploader(&replica, 2, 3);
    uploader.acquaintance = Acquaintance::New;
    uploader.upload_pending().await.unwrap();
    uploader.captured = watch::Sender::new(Txid::new(4)).subscribe();
    assert_fenced(uploader.upload_pending().await);
    assert_eq!(replica.names(Level::L0), [range(3, 3), range(4, 4)]);
}

async fn estranged(host: &Host, given_out: u64, stored: &Header) -> Option<String> {
    let remote = Remote {
        newest: None,
        newest_header: Some((Level::L0, stored.clone())),
        level0: stored.txids.max(),
        restorable: stored.txids.max(),
        snapshot: None,
    };
    let end = LocalEnd { sound: Txid::new(9), given_out: Txid::new(given_out) };
    fence::estrangement(&MemoryReplica::default(), &host.shadow, end, &remote).await.unwrap()
}

#[tokio::test]
async fn a_replica_is_ours_if_the_local_files_lead_there_and_on() {
    let (host, stranger) = (Host::that_captured(1, 5, 9), Host::new(2));
    let merged = |txid| {
        let mut header = Header { txids: range(3, txid), node_id: 0, ..host.header(txid, 512) };
        header.lineage.pre_apply = None;
        header
    };
    for ours in [host.header(9, 512), host.header(6, 512), host.header(4, 512), merged(9), merged(7)] {
        assert_eq!(estranged(&host, 9, &ours).await, None, "{}", ours.txids);
    }
    for txid in [9, 6, 4] {
        let reason = estranged(&host, 9, &stranger.header(txid, 512)).await.unwrap();
        assert!(reason.contains("is not the one in the local metadata folder"), "{reason}");
    }
    assert_eq!(estranged(&host, 9, &stranger.header(2, 512)).await, None, "nothing here tells");
}

#[tokio::test]
async fn a_replica_that_has_gone_on_without_us_is_not_ours() {
    let host = Host::that_captured(1, 5, 9);
    let reason = estranged(&host, 9, &host.header(12, 512)).await.unwrap();
    assert!(reason.contains("000c") && reason.contains("0009"), "{reason}");
    assert_eq!(estranged(&host, 12, &host.header(12, 512)).await, None, "its local file is damaged");
}

#[tokio::test]
async fn a_replica_that_was_fed_from_a_later_life_of_our_wal_is_ours() {
    let host = Host::new(1);
    let captured_at = |txid, salt1, salt2| {
        let wal = WalSpan { offset: 32, size: 536, salts: Salts { salt1, salt2 } };
        Header { wal, ..host.header(txid, 512) }
    };
    host.store(captured_at(9, u32::MAX, 7));
    for (salt1, salt2, is_ours) in [
        (u32::MAX, 7, true),
        (2, 1234, true),
        (u32::MAX, 8, false),
        (u32::MAX - 1, 7, false),
        (1 << 30, 7, false),
    ] {
        let reason = estranged(&host, 9, &captured_at(12, salt1, salt2)).await;
        assert_eq!(reason.is_none(), is_ours, "{salt1} {salt2}");
    }
}
