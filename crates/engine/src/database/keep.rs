//! The task that keeps the history of a database, and what it may do to the local files.
//!
//! Invariant: no level-0 file is removed from the shadow WAL before the stored page map is at least as new, so
//! that the map can always be rolled forward.

use std::io::BufReader;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use walstream_ltx::{Txid, TxidRange};

use super::command::{Command, ask};
use crate::clock::Clock;
use crate::error::EngineError;
use crate::history::compact::{Compactor, LocalL0, OpenFile};
use crate::history::sources::Limits;
use crate::history::{History, Setup, Signals};
use crate::metrics::Metrics;
use crate::options::DatabaseOptions;
use crate::shadow::folder::ShadowFolder;
use crate::upload::queue::Uploaded;

/// What the task needs.
pub(crate) struct Keep {
    pub(crate) options: DatabaseOptions,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shadow: ShadowFolder,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Bounds how many databases are compacted at the same time.
    pub(crate) permits: Arc<Semaphore>,
    pub(crate) uploaded: watch::Receiver<Uploaded>,
    /// The last TXID of the newest snapshot on the replica.
    pub(crate) snapshot: watch::Receiver<Txid>,
    pub(crate) snapshot_needed: Arc<Notify>,
    pub(crate) metrics: Metrics,
}

/// Runs until it is cancelled or finds that the replica is another writer's.
pub(crate) async fn run(keep: Keep) {
    let (level0, level0_seen) = watch::channel(keep.uploaded.borrow().txid);
    let local = Shadow {
        folder: keep.shadow,
        commands: keep.commands,
        uploaded: keep.uploaded.clone(),
        runtime: Handle::current(),
    };
    let client = Arc::clone(&keep.options.replica);
    let history = History::new(Setup {
        compactor: Compactor { client, local: Arc::new(local), limits: Limits::default() },
        options: keep.options.history,
        clock: keep.clock,
        permits: keep.permits,
        database: keep.metrics.database(&keep.options.path),
        metrics: keep.metrics,
        signals: Signals {
            level0: level0_seen,
            snapshot: keep.snapshot,
            snapshot_needed: keep.snapshot_needed,
        },
    });
    tokio::select! {
        error = history.run() => {
            tracing::error!(path = %keep.options.path.display(), %error, "history is no longer kept");
        }
        () = forward(keep.uploaded, level0) => {}
    }
}

/// History cares for the TXID alone.
async fn forward(mut uploaded: watch::Receiver<Uploaded>, level0: watch::Sender<Txid>) {
    while uploaded.changed().await.is_ok() {
        let txid = uploaded.borrow_and_update().txid;
        level0.send_if_modified(|known| std::mem::replace(known, txid) != txid);
    }
}

/// The shadow WAL as history sees it.
struct Shadow {
    folder: ShadowFolder,
    commands: mpsc::Sender<Command>,
    uploaded: watch::Receiver<Uploaded>,
    runtime: Handle,
}

impl LocalL0 for Shadow {
    fn open(&self, txids: TxidRange, most: usize) -> Result<Option<Vec<OpenFile>>, EngineError> {
        // What we have not uploaded may be there under the same name, written by somebody else.
        if txids.max() > self.uploaded.borrow().txid {
            return Ok(None);
        }
        let parts = self.folder.open_parts(txids, most)?;
        let buffered = |(txids, file)| {
            let content = Box::new(BufReader::with_capacity(16 << 10, file));
            OpenFile { txids, content }
        };
        Ok(parts.map(|parts| parts.into_iter().map(buffered).collect()))
    }

    fn release(&self, through: Txid) -> Result<(), EngineError> {
        let saved = self.runtime.block_on(ask(&self.commands, Command::SaveMap))?;
        let mut files = self.folder.files()?;
        // The newest one says where in the WAL the next start goes on.
        files.pop();
        let superfluous = files.into_iter().filter(|&file| file.max() <= through.min(saved));
        superfluous.into_iter().try_for_each(|file| self.folder.remove(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::SystemDisk;

    #[tokio::test]
    async fn a_local_file_stands_for_the_stored_one_only_once_it_is_uploaded() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(SystemDisk::like(folder.path()).unwrap());
        let shadow = ShadowFolder::open(folder.path(), folder.path(), disk).unwrap();
        let txids = TxidRange::single(Txid::new(3)).unwrap();
        std::fs::write(shadow.path(txids), b"captured").unwrap();
        let uploaded = watch::Sender::new(Uploaded { txid: Txid::new(2), ..Uploaded::default() });
        let (commands, _inbox) = mpsc::channel(1);
        let local = Shadow {
            folder: shadow.clone(),
            commands,
            uploaded: uploaded.subscribe(),
            runtime: Handle::current(),
        };
        assert!(local.open(txids, 1).unwrap().is_none(), "the stored 3 may be another writer's");
        uploaded.send_modify(|uploaded| uploaded.txid = Txid::new(3));
        assert!(local.open(txids, 1).unwrap().is_some());

        // The stored file 1 to 3 was merged from ours, of which one is gone.
        let merged = TxidRange::new(Txid::new(1), Txid::new(3)).unwrap();
        let at = |txid| shadow.path(TxidRange::single(Txid::new(txid)).unwrap());
        std::fs::write(at(1), b"captured").unwrap();
        assert!(local.open(merged, 3).unwrap().is_none());
        std::fs::write(at(2), b"captured").unwrap();
        assert_eq!(local.open(merged, 3).unwrap().unwrap().len(), 3);
        assert!(local.open(merged, 2).unwrap().is_none(), "more than may be open");
    }
}
