//! One cluster and login. All replicas there share its connection.
//!
//! Invariant: there is at most one connection in use at a time; one that is given up is replaced by whoever needs it
//! next.

use std::future::Future;
use std::sync::{Arc, PoisonError};

use tokio::sync::Mutex;

use super::bucket::Bucket;
use super::connection::Connection;
use super::failure::Failure;
use super::layout::Layouts;
use super::settings::Settings;
use crate::config::NatsConfig;
use crate::error::StorageError;
use crate::in_use::InUse;
use crate::tries::repeat;

pub(super) struct Server {
    pub(super) settings: Arc<Settings>,
    current: Mutex<Option<Arc<Connection>>>,
    /// Of objects that were read.
    pub(super) layouts: Layouts,
    /// Chunks of uploads that came to nothing, and could not be removed at the time.
    left_over: std::sync::Mutex<Vec<(Bucket, String)>>,
}

impl Server {
    /// The server of a configuration: the one in use already, if another replica logs in there in the same way.
    pub(super) fn shared(config: &NatsConfig) -> Result<Arc<Self>, StorageError> {
        static IN_USE: InUse<NatsConfig, Server> = InUse::none();
        let login = NatsConfig { bucket: None, path: None, ..config.clone() };
        IN_USE.get(login, || Ok(Server::new(Settings::resolve(config)?)))
    }

    fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        Server {
            settings,
            current: Mutex::default(),
            layouts: Layouts::default(),
            left_over: std::sync::Mutex::default(),
        }
    }

    /// The connection in use, or a new one.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let connection = self.current().await?;
        connection.ready().await?;
        Ok(connection)
    }

    async fn current(&self) -> Result<Arc<Connection>, Failure> {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| connection.is_usable()) {
            return Ok(Arc::clone(connection));
        }
        *current = None;
        let connection = Arc::new(Connection::open(&self.settings).await?);
        *current = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Removes the chunks of an upload that came to nothing, now or before the next upload.
    pub(super) async fn remove_chunks(&self, bucket: Bucket, chunks: String) {
        let (of, subject) = (&bucket, &chunks);
        let purge = |connection: Arc<Connection>| async move { of.purge(&connection, subject, None).await };
        let removed = self.ask(purge).await;
        if let Err(failure) = removed {
            tracing::debug!(chunks, ?failure, "cannot remove the chunks of an upload yet");
            self.left_over.lock().unwrap_or_else(PoisonError::into_inner).push((bucket, chunks));
        }
    }

    /// Removes what could not be removed when it was left.
    pub(super) async fn remove_left_over(self: &Arc<Self>) {
        let left_over = std::mem::take(&mut *self.left_over.lock().unwrap_or_else(PoisonError::into_inner));
        for (bucket, chunks) in left_over {
            let server = Arc::clone(self);
            tokio::spawn(async move { server.remove_chunks(bucket, chunks).await });
        }
    }

    /// Does something that may be done twice, again if the connection was lost meanwhile.
    pub(super) async fn ask<T, F>(&self, work: impl Fn(Arc<Connection>) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        repeat(Failure::may_pass, || async { work(self.connection().await?).await }).await
    }
}
