//! The level-0 files that wait for their upload.
//!
//! Invariant: files go up in TXID order, each once, by itself or merged with those after it; what is said to be uploaded
//! is durable on the replica.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use walstream_ltx::{Level, Timestamp, Txid, TxidRange};
use walstream_storage::{PutBody, PutOutcome, ReplicaClient};

use super::backlog::{self, Batch, Merged};
use super::fence;
use super::outage::Outage;
use crate::clock::Clock;
use crate::error::EngineError;
use crate::shadow::folder::ShadowFolder;

/// Small files are read whole and sent as one piece.
const WHOLE: u64 = 1 << 20;

/// How far a database is on the replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uploaded {
    /// Everything up to here is on the replica.
    pub(crate) txid: Txid,
    /// When the state up to there was captured, where that is known.
    pub(crate) captured_at: Option<Timestamp>,
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
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) acquaintance: Acquaintance,
}

/// What an uploader has seen of the replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Acquaintance {
    /// Nothing yet: its first file may meet that of another who comes at the same moment.
    #[default]
    New,
    /// Everything that was sent has arrived.
    Sure,
    /// The last upload failed, but may have arrived all the same.
    InDoubt,
}

impl Uploader {
    /// Uploads until it is cancelled or fenced.
    pub(crate) async fn run(mut self) {
        let mut outage = Outage::of(&self);
        loop {
            if !self.wait_for_work().await {
                return;
            }
            let started = Instant::now();
            // On the heap, so that an idle database keeps no room for it.
            let uploaded = tokio::select! {
                uploaded = Box::pin(self.upload_pending()) => uploaded,
                never = Box::pin(outage.watch()) => match never {},
            };
            let pause = match uploaded {
                Ok(()) => {
                    outage.over();
                    self.sync_interval
                }
                Err(error @ EngineError::Fenced { .. }) => {
                    tracing::error!(replica = self.client.kind(), %error, "replication stopped");
                    self.uploaded.send_modify(|uploaded| uploaded.fenced = Some(error.to_string()));
                    return;
                }
                Err(error) => Box::pin(outage.failed(&error)).await,
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
    pub(crate) async fn upload_pending(&mut self) -> Result<(), EngineError> {
        if self.acquaintance == Acquaintance::InDoubt {
            let reached = fence::reached(self.client.as_ref(), &self.shadow, self.done()).await?;
            self.advance(reached, None);
            self.acquaintance = Acquaintance::Sure;
        }
        let captured = *self.captured.borrow();
        let mut files = self.shadow.files_after(self.done())?;
        files.retain(|&file| file.max() <= captured);
        let uploaded = self.upload_all(&files).await;
        if uploaded.is_err() && self.acquaintance == Acquaintance::Sure {
            self.acquaintance = Acquaintance::InDoubt;
        }
        uploaded?;
        tracing::debug!("txid.replica" = %self.done(), "txid.db" = %captured, "replica sync");
        Ok(())
    }

    /// The first file by itself, then, if many more wait, those as one; and so on.
    async fn upload_all(&mut self, mut files: &[TxidRange]) -> Result<(), EngineError> {
        while let [first, rest @ ..] = files {
            self.upload(*first).await?;
            files = rest;
            if let Some(batch) = backlog::choose(self.client.as_ref(), &self.shadow, rest).await? {
                files = &rest[batch.files.len()..];
                self.upload_merged(&batch).await?;
            }
        }
        Ok(())
    }

    async fn upload(&mut self, txids: TxidRange) -> Result<(), EngineError> {
        let (created_at, size, body) = open_body(&self.shadow, txids).await?;
        let outcome = self.client.put(Level::L0, txids, created_at, body).await?;
        if outcome == PutOutcome::AlreadyExists {
            fence::confirm_ours(self.client.as_ref(), &self.shadow, txids).await?;
        }
        if self.acquaintance == Acquaintance::New {
            self.stand_alone(txids, outcome).await?;
            self.acquaintance = Acquaintance::Sure;
        }
        self.advance(txids.max(), Some(created_at));
        tracing::debug!(
            level = 0, minTXID = %txids.min(), maxTXID = %txids.max(), size, replica = self.client.kind(),
            "ltx file uploaded"
        );
        Ok(())
    }

    async fn upload_merged(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let (txids, files) = (batch.txids(), batch.files.len());
        match backlog::upload(self.client.as_ref(), &self.shadow, batch).await? {
            Merged::Created => self.stand_alone(txids, PutOutcome::Created).await?,
            Merged::Confirmed => self.stand_alone(txids, PutOutcome::AlreadyExists).await?,
            Merged::Refused => {
                for &file in &batch.files {
                    self.upload(file).await?;
                }
                return Ok(());
            }
        }
        self.advance(txids.max(), Some(batch.captured_at()));
        tracing::debug!(
            level = 0, minTXID = %txids.min(), maxTXID = %txids.max(), files, replica = self.client.kind(),
            "ltx files uploaded as one"
        );
        Ok(())
    }

    /// Whether nobody else wrote where we have just written. If somebody did, what we wrote goes again.
    async fn stand_alone(&self, written: TxidRange, outcome: PutOutcome) -> Result<(), EngineError> {
        let client = self.client.as_ref();
        match fence::confirm_alone(client, &self.shadow, Level::L0, written).await {
            Err(error @ EngineError::Fenced { .. }) => {
                if outcome == PutOutcome::Created
                    && let Err(error) = client.delete(&[(Level::L0, written)]).await
                {
                    tracing::warn!(%error, txids = %written, "cannot take back a file from another writer's replica");
                }
                Err(error)
            }
            confirmed => confirmed,
        }
    }

    fn done(&self) -> Txid {
        self.uploaded.borrow().txid
    }

    fn advance(&self, txid: Txid, captured_at: Option<Timestamp>) {
        self.uploaded.send_modify(|uploaded| {
            uploaded.txid = txid;
            uploaded.captured_at = captured_at.or(uploaded.captured_at);
        });
    }
}

/// The header time, the size and the content of a local file.
async fn open_body(
    shadow: &ShadowFolder,
    txids: TxidRange,
) -> Result<(Timestamp, u64, PutBody), EngineError> {
    let shadow = shadow.clone();
    let read = move || {
        let path = shadow.path(txids);
        let Some((header, size)) = shadow.describe(txids)? else {
            return Err(EngineError::Shadow { path, reason: "it is missing or damaged".into() });
        };
        let body = if size > WHOLE {
            PutBody::File(path)
        } else {
            PutBody::Bytes(std::fs::read(&path).map_err(EngineError::io("read", &path))?.into())
        };
        Ok((header.timestamp, size, body))
    };
    tokio::task::spawn_blocking(read).await?
}
