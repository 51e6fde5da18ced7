//! One compaction at a time.

use std::collections::HashMap;
use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use walstream_ltx::{Level, Lineage, Txid, TxidRange, WalSpan};
use walstream_storage::FileInfo;

use super::model::{Model, START, level, names, txids};
use crate::error::EngineError;
use crate::history::compact::{Compactor, LocalL0, NoLocalL0, OpenFile};
use crate::history::sources::{Limits, next_sources};
use crate::testing::{MemoryReplica, Request, unavailable};

/// Level-0 files on a disk that is a map.
struct Local(HashMap<TxidRange, Bytes>);

impl LocalL0 for Local {
    fn open(&self, txids: TxidRange, most: usize) -> Result<Option<Vec<OpenFile>>, EngineError> {
        let singles = (txids.min().get()..=txids.max().get()).map(|txid| super::model::txids(txid, txid));
        let open = |txids| {
            let content = Box::new(Cursor::new(self.0.get(&txids)?.clone()));
            Some(OpenFile { txids, content })
        };
        Ok(singles.map(open).collect::<Option<Vec<_>>>().filter(|files| files.len() <= most))
    }

    fn release(&self, _through: Txid) -> Result<(), EngineError> {
        Ok(())
    }
}

fn compactor(replica: &Arc<MemoryReplica>) -> Compactor {
    Compactor { client: replica.clone(), local: Arc::new(NoLocalL0), limits: Limits::default() }
}

/// Compacts what `into` does not hold yet, once.
async fn compact(model: &Model, compactor: &Compactor, into: u8) -> Result<FileInfo, EngineError> {
    let newest = model.listing(into).await.iter().map(|file| file.txids.max()).max();
    let sources = next_sources(&model.listing(into - 1).await, newest, &[], &compactor.limits).unwrap();
    compactor.compact(level(into), &sources).await
}

#[tokio::test]
async fn a_compacted_file_is_its_sources_applied_in_order() {
    let mut model = Model::new();
    model.capture(5, &[], START);
    model.capture(9, &[2, 3], START);
    model.capture(4, &[1], START);
    model.capture(6, &[3], START);
    let file = compact(&model, &compactor(&model.replica), 1).await.unwrap();

    assert_eq!(names(&model.replica, 1), [(1, 4)]);
    assert_eq!(file.size, model.replica.content(level(1), txids(1, 4)).unwrap().len() as u64);
    let (header, first, last) = (model.file(1, 1, 4), model.file(0, 1, 1), model.file(0, 4, 4));
    assert_eq!((header.commit, header.timestamp), (last.commit, last.timestamp));
    assert_eq!((header.wal, header.node_id), (WalSpan::default(), 0));
    let lineage = Lineage { pre_apply: first.lineage.pre_apply, post_apply: last.lineage.post_apply };
    assert_eq!(header.lineage, lineage);

    for txid in 1..=4 {
        model.replica.remove(Level::L0, txids(txid, txid));
    }
    model.check().await;
}

#[tokio::test]
async fn levels_build_on_each_other_in_bounded_steps() {
    let mut model = Model::new();
    model.capture_some(10, START);
    let compactor =
        Compactor { limits: Limits { files: 4, ..Limits::default() }, ..compactor(&model.replica) };
    for _ in 0..3 {
        compact(&model, &compactor, 1).await.unwrap();
    }
    compact(&model, &compactor, 2).await.unwrap();
    assert_eq!(names(&model.replica, 1), [(1, 4), (5, 8), (9, 10)]);
    assert_eq!(names(&model.replica, 2), [(1, 10)]);
    model.check().await;
}

#[tokio::test]
async fn local_files_are_not_fetched() {
    let mut model = Model::new();
    model.capture_some(3, START);
    let content = |txid| model.replica.content(Level::L0, txids(txid, txid)).unwrap();
    let local = HashMap::from([(txids(1, 1), content(1)), (txids(3, 3), content(3))]);
    let compactor = Compactor { local: Arc::new(Local(local)), ..compactor(&model.replica) };
    model.replica.take_requests();
    compact(&model, &compactor, 1).await.unwrap();
    let mut requests = model.replica.take_requests();
    requests.retain(|request| matches!(request, Request::Read(Level::L0, _)));
    assert_eq!(requests, [Request::Read(Level::L0, txids(2, 2))]);
    model.check().await;
}

#[tokio::test]
async fn what_was_merged_before_its_upload_is_read_from_its_local_parts() {
    let mut model = Model::new();
    model.capture_some(6, START);
    let content = |txid| model.replica.content(Level::L0, txids(txid, txid)).unwrap();
    let local: HashMap<_, _> = (1..=6).map(|txid| (txids(txid, txid), content(txid))).collect();
    // As the backlog uploads them: 2 to 5 are one file of the replica.
    let merged = compactor(&model.replica);
    let of_level_0 = model.listing(0).await;
    merged.compact(level(1), &of_level_0[1..5]).await.unwrap();
    let (file, time) = (model.replica.content(level(1), txids(2, 5)).unwrap(), of_level_0[4].created_at);
    model.replica.remove(level(1), txids(2, 5));
    model.replica.insert(Level::L0, txids(2, 5), time, file);
    (2..=5).for_each(|txid| model.replica.remove(Level::L0, txids(txid, txid)));

    let compactor = Compactor { local: Arc::new(Local(local)), ..compactor(&model.replica) };
    model.replica.take_requests();
    compact(&model, &compactor, 1).await.unwrap();
    let mut requests = model.replica.take_requests();
    requests.retain(|request| matches!(request, Request::Read(Level::L0, _)));
    assert_eq!(requests, []);
    assert_eq!(names(&model.replica, 1), [(1, 6)]);
    model.check().await;
}

#[tokio::test]
async fn a_damaged_local_file_is_replaced_by_the_one_on_the_replica() {
    let mut model = Model::new();
    model.capture_some(3, START);
    let mut damaged = model.replica.content(Level::L0, txids(2, 2)).unwrap().to_vec();
    let at = damaged.len() - 1;
    damaged[at] ^= 1;
    let local = Local(HashMap::from([(txids(2, 2), damaged.into())]));
    let compactor = Compactor { local: Arc::new(local), ..compactor(&model.replica) };
    compact(&model, &compactor, 1).await.unwrap();
    model.check().await;
}

#[tokio::test]
async fn damage_never_reaches_the_next_level() {
    let mut model = Model::new();
    model.capture_some(3, START);
    let whole = model.replica.content(Level::L0, txids(2, 2)).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.to_vec();
        damaged[at] ^= 0x10;
        model.replica.insert(Level::L0, txids(2, 2), START, damaged);
        let error = compact(&model, &compactor(&model.replica), 1).await.unwrap_err();
        let EngineError::Damaged { level, txids: damaged, .. } = error else { panic!("byte {at}: {error}") };
        // A changed checksum of the lineage shows at the file that should continue it.
        assert!(level == Level::L0 && [txids(2, 2), txids(3, 3)].contains(&damaged), "byte {at}: {damaged}");
        assert_eq!(names(&model.replica, 1), [], "byte {at}");
    }
}

#[tokio::test]
async fn a_file_that_is_not_what_its_name_says_is_refused() {
    let mut model = Model::new();
    model.capture_some(3, START);
    let other = model.replica.content(Level::L0, txids(3, 3)).unwrap();
    model.replica.insert(Level::L0, txids(2, 2), START, other);
    let error = compact(&model, &compactor(&model.replica), 1).await.unwrap_err();
    assert!(matches!(error, EngineError::Damaged { txids: named, .. } if named == txids(2, 2)), "{error}");
}

#[tokio::test]
async fn nothing_is_compacted_across_a_change_of_the_page_size() {
    let mut model = Model::new();
    model.capture_some(2, START);
    model.page_size = 1024;
    model.capture(3, &[1, 2, 3], START);
    model.capture(3, &[2], START);
    let compactor = compactor(&model.replica);
    compact(&model, &compactor, 1).await.unwrap();
    assert_eq!(names(&model.replica, 1), [(1, 2)]);
    compact(&model, &compactor, 1).await.unwrap();
    assert_eq!(names(&model.replica, 1), [(1, 2), (3, 4)]);
}

#[tokio::test]
async fn a_file_whose_answer_was_lost_is_ours() {
    let mut model = Model::new();
    model.capture_some(3, START);
    let compactor = compactor(&model.replica);
    let sources = model.listing(0).await;
    let first = compactor.compact(level(1), &sources).await.unwrap();
    assert_eq!(compactor.compact(level(1), &sources).await.unwrap(), first);
}

#[tokio::test]
async fn a_file_of_another_writer_is_left_alone() {
    let (mut model, mut other) = (Model::new(), Model::new());
    model.capture_some(3, START);
    other.capture(3, &[], START);
    other.capture(3, &[2, 3], START);
    other.capture(3, &[1], START);
    compact(&other, &compactor(&other.replica), 1).await.unwrap();
    let theirs = other.replica.content(level(1), txids(1, 3)).unwrap();
    model.replica.insert(level(1), txids(1, 3), START, theirs.clone());

    let sources = model.listing(0).await;
    let error = compactor(&model.replica).compact(level(1), &sources).await.unwrap_err();
    assert!(matches!(error, EngineError::Fenced { .. }), "{error}");
    assert_eq!(model.replica.content(level(1), txids(1, 3)).unwrap(), theirs);
}

#[tokio::test]
async fn a_store_that_does_not_keep_what_it_got_is_found_out() {
    let mut model = Model::new();
    model.capture_some(3, START);
    for lost in [1, 16, 17, 100] {
        let replica = model.replica.clone();
        model.replica.set_fault(move |request| {
            if let Request::Read(at, name) = request
                && at == level(1)
            {
                let kept = replica.content(at, name).unwrap();
                replica.insert(at, name, START, kept.slice(..kept.len() - lost));
            }
            None
        });
        let error = compact(&model, &compactor(&model.replica), 1).await.unwrap_err();
        assert!(error.to_string().contains("does not give back"), "{error}");
        model.replica.clear_fault();
        assert_eq!(names(&model.replica, 1), [], "and nothing relies on it");
    }
}

#[tokio::test]
async fn a_refused_upload_is_the_stores_error() {
    let mut model = Model::new();
    model.capture_some(3, START);
    model.replica.set_fault(|request| matches!(request, Request::Put(..)).then(unavailable));
    let error = compact(&model, &compactor(&model.replica), 1).await.unwrap_err();
    assert!(matches!(error, EngineError::Storage(_)), "{error}");
}
