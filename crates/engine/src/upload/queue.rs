//! The level-0 files that wait for their upload.
//!
//! Invariant: files go up in TXID order, each once; what is said to be uploaded is durable on the replica.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use walstream_ltx::header::Header;
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{PutBody, PutOutcome, ReplicaClient};

use super::fence;
use crate::error::EngineError;
use crate::shadow::folder::ShadowFolder;

/// After repeated failures an upload is tried again at least this often.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// A lasting failure is said again after this time.
const REMINDER: Duration = Duration::from_secs(60);
/// Small files are read whole and sent as one piece.
const WHOLE: u64 = 1 << 20;

/// How far a database is on the replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uploaded {
    /// Everything up to here is on the replica.
    pub(crate) txid: Txid,
    /// Another writer owns the replica; nothing more is uploaded.
    pub(crate) fenced: Option<String>,
}

/// Uploads one database.
pub(crate) struct Uploader {
    pub(crate) client: Arc<dyn ReplicaClient>,
    pub(crate) shadow: ShadowFolder,
    /// What is captured.
    pub(crate) captured: watch::Receiver<Txid>,
    /// What is uploaded.
    pub(crate) uploaded: watch::Sender<Uploaded>,
    /// At shutdown: how long to wait between tries, in place of the usual pace and backoff.
    pub(crate) hurry: watch::Receiver<Option<Duration>>,
    pub(crate) sync_interval: Duration,
}

impl Uploader {
    /// Uploads until it is cancelled or fenced.
    pub(crate) async fn run(mut self) {
        let mut failures = Failures::default();
        loop {
            if !self.wait_for_work().await {
                return;
            }
            let started = Instant::now();
            let pause = match self.upload_pending().await {
                Ok(()) => {
                    failures.recovered(&self);
                    self.sync_interval
                }
                Err(error @ EngineError::Fenced { .. }) => {
                    tracing::error!(replica = self.client.kind(), %error, "replication stopped");
                    self.uploaded.send_modify(|uploaded| uploaded.fenced = Some(error.to_string()));
                    return;
                }
                Err(error) => failures.failed(&self, &error),
            };
            self.pause_until(started + pause).await;
        }
    }

    /// Waits until something is captured that is not uploaded; false: nobody captures any more.
    async fn wait_for_work(&mut self) -> bool {
        let done = self.uploaded.borrow().txid;
        self.captured.wait_for(|&txid| txid > done).await.is_ok()
    }

    /// Keeps the pace, unless the daemon is about to end.
    async fn pause_until(&mut self, moment: Instant) {
        let hurry = async {
            match self.hurry.wait_for(Option::is_some).await {
                Ok(interval) => interval.unwrap_or_default(),
                Err(_) => Duration::ZERO,
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(moment) => {}
            interval = hurry => tokio::time::sleep_until(moment.min(Instant::now() + interval)).await,
        }
    }

    /// Uploads every captured file that the replica lacks. A file beyond the position may be there too: its capture
    /// failed at the very end, and the next one gives it other content.
    pub(crate) async fn upload_pending(&self) -> Result<(), EngineError> {
        let (done, captured) = (self.uploaded.borrow().txid, *self.captured.borrow());
        let files = self.shadow.files_after(done)?;
        for file in files.into_iter().filter(|&file| file.max() <= captured) {
            self.upload(file).await?;
            self.uploaded.send_modify(|uploaded| uploaded.txid = file.max());
        }
        Ok(())
    }

    async fn upload(&self, txids: TxidRange) -> Result<(), EngineError> {
        let (created_at, size, body) = open_body(&self.shadow, txids).await?;
        match self.client.put(Level::L0, txids, created_at, body).await? {
            PutOutcome::Created => {}
            PutOutcome::AlreadyExists => {
                fence::confirm_ours(self.client.as_ref(), &self.shadow, txids).await?
            }
        }
        tracing::debug!(
            level = 0, minTXID = %txids.min(), maxTXID = %txids.max(), size, replica = self.client.kind(),
            "ltx file uploaded"
        );
        Ok(())
    }
}

/// The header time, the size and the content of a local file.
async fn open_body(
    shadow: &ShadowFolder,
    txids: TxidRange,
) -> Result<(Timestamp, u64, PutBody), EngineError> {
    let path = shadow.path(txids);
    let read = move || {
        use std::io::{Read, Seek};
        let mut file = std::fs::File::open(&path).map_err(EngineError::io("open", &path))?;
        let size = file.metadata().map_err(EngineError::io("read", &path))?.len();
        let mut header = [0; Header::SIZE];
        file.read_exact(&mut header).map_err(EngineError::io("read", &path))?;
        let damaged = |error: walstream_ltx::header::HeaderError| EngineError::Shadow {
            path: path.clone(),
            reason: error.to_string(),
        };
        let created_at = Header::parse(&header).map_err(damaged)?.timestamp;
        if size > WHOLE {
            return Ok((created_at, size, PutBody::File(path)));
        }
        let mut content = Vec::with_capacity(size as usize);
        file.rewind()
            .and_then(|()| file.read_to_end(&mut content))
            .map_err(EngineError::io("read", &path))?;
        Ok((created_at, size, PutBody::Bytes(content.into())))
    };
    tokio::task::spawn_blocking(read).await?
}

/// One line when uploads begin to fail, one a minute while they do, one when they work again.
#[derive(Default)]
struct Failures {
    count: u32,
    since: Option<Instant>,
    said: Option<Instant>,
}

impl Failures {
    /// How long to wait before the next try.
    fn failed(&mut self, uploader: &Uploader, error: &EngineError) -> Duration {
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        if self.said.is_none_or(|said| now - said >= REMINDER) {
            self.said = Some(now);
            let waiting = *uploader.captured.borrow();
            let (replica, uploaded) = (uploader.client.location(), uploader.uploaded.borrow().txid);
            tracing::error!(
                %replica, %error, captured = %waiting, %uploaded, failing_for = ?(now - since),
                "upload failed, trying again"
            );
        }
        self.count = (self.count + 1).min(16);
        (uploader.sync_interval.max(Duration::from_millis(100)) * (1 << (self.count - 1)))
            .min(LONGEST_BACKOFF)
    }

    fn recovered(&mut self, uploader: &Uploader) {
        if let Some(since) = self.since {
            let failing_for = since.elapsed();
            tracing::info!(replica = %uploader.client.location(), previous_errors = self.count, ?failing_for, "replica sync recovered");
        }
        *self = Failures::default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fs::SystemDisk;
    use crate::testing::MemoryReplica;

    #[tokio::test]
    async fn a_file_whose_capture_failed_at_its_very_end_is_not_uploaded() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Arc::new(SystemDisk::like(folder.path()).unwrap());
        let shadow = ShadowFolder::open(folder.path(), folder.path(), disk).unwrap();
        let uncaptured = TxidRange::single(Txid::new(7)).unwrap();
        std::fs::write(shadow.path(uncaptured), b"whole, but its name may not be durable").unwrap();
        let client = Arc::new(MemoryReplica::default());
        let uploader = Uploader {
            client: client.clone(),
            shadow,
            captured: watch::Sender::new(Txid::new(6)).subscribe(),
            uploaded: watch::Sender::new(Uploaded::default()),
            hurry: watch::Sender::new(None).subscribe(),
            sync_interval: Duration::ZERO,
        };
        uploader.upload_pending().await.unwrap();
        assert_eq!(client.names(Level::L0), []);
    }
}
