//! Restores over another state: how little they fetch, and that nothing there is believed.

use std::os::unix::fs::FileExt;

use super::model::Model;
use super::{Desk, txid};
use crate::restore::Target;

/// Two thousand pages, then some small changes, a larger database and a smaller one.
fn history() -> Model {
    let mut model = Model::new(4096, true);
    model.commit(2000, &(1..=2000).map(|page| (page, page as u8)).collect::<Vec<_>>());
    model.commit(2000, &[(3, 200), (700, 201)]);
    model.commit(2030, &[(1, 7), (2020, 9)]);
    model.commit(1990, &[(2, 8)]);
    model
}

/// Bytes that a restore to `to` fetches over the state `from`.
async fn fetched(model: &Model, from: u64, to: u64) -> u64 {
    let (desk, client) = (Desk { delta: true, ..Desk::new() }, model.client());
    desk.restore(&client, txid(from)).await.unwrap();
    let (restored, database) = desk.restore(&client, txid(to)).await.unwrap();
    assert!(database == model.image(to), "from {from} to {to}");
    restored.bytes_fetched
}

#[tokio::test]
async fn a_restore_forth_or_back_fetches_what_differs() {
    let model = history();
    let whole = Desk::new().restore(&model.client(), txid(1)).await.unwrap().0.bytes_fetched;
    for (from, to) in [(1, 1), (1, 2), (2, 1), (2, 3), (3, 2), (1, 4), (4, 1)] {
        let part = fetched(&model, from, to).await;
        // Headers, indexes, and what lies between wanted pages.
        assert!(part < whole / 4, "from {from} to {to}: {part} bytes of {whole}");
    }
}

#[tokio::test]
async fn a_database_that_the_replica_does_not_know_is_replaced_whole() {
    let (model, desk) = (history(), Desk { delta: true, ..Desk::new() });
    let client = model.client();
    desk.restore(&client, Target::Latest).await.unwrap();
    let output = desk.folder.path().join("out.db");
    let file = std::fs::OpenOptions::new().write(true).open(&output).unwrap();
    file.write_all_at(b"somebody else's", 5000).unwrap();
    let (restored, database) = desk.restore(&client, txid(2)).await.unwrap();
    assert!(database == model.image(2) && restored.bytes_fetched > 0);

    for content in [&b""[..], b"no database at all, and long enough to have a header", &[0; 4096]] {
        std::fs::write(&output, content).unwrap();
        assert!(desk.restore(&client, txid(3)).await.unwrap().1 == model.image(3));
    }
}
