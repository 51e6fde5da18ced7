//! One cluster and login. All replicas there share its connection.
//!
//! Invariant: there is at most one connection in use at a time; one that is given up is replaced by whoever needs it
//! next.

use std::future::Future;
use std::sync::{Arc, LazyLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Mutex;

use super::bucket::Bucket;
use super::connection::Connection;
use super::failure::Failure;
use super::settings::Settings;
use crate::config::NatsConfig;
use crate::error::StorageError;

/// Pauses between tries: together some three seconds. More patience is the caller's, who can say meanwhile that the
/// server is away.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
];

pub(super) struct Server {
    pub(super) settings: Arc<Settings>,
    current: Mutex<Option<Arc<Connection>>>,
    /// Chunks of uploads that came to nothing, and could not be removed at the time.
    left_over: std::sync::Mutex<Vec<(Bucket, String)>>,
}

impl Server {
    /// The server of a configuration: the one in use already, if another replica logs in there in the same way.
    pub(super) fn shared(config: &NatsConfig) -> Result<Arc<Self>, StorageError> {
        type InUse = std::sync::Mutex<Vec<(NatsConfig, Weak<Server>)>>;
        static IN_USE: LazyLock<InUse> = LazyLock::new(InUse::default);

        let key = NatsConfig { bucket: None, path: None, ..config.clone() };
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|(_, server)| server.strong_count() > 0);
        if let Some(server) =
            in_use.iter().find(|(known, _)| *known == key).and_then(|(_, weak)| weak.upgrade())
        {
            return Ok(server);
        }
        let settings = Arc::new(Settings::resolve(config)?);
        let server =
            Arc::new(Server { settings, current: Mutex::default(), left_over: std::sync::Mutex::default() });
        in_use.push((key, Arc::downgrade(&server)));
        Ok(server)
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
        let mut tries = Tries::default();
        loop {
            let done = match self.connection().await {
                Ok(connection) => work(connection).await,
                Err(failure) => Err(failure),
            };
            match done {
                Err(failure) if failure.may_pass() && tries.again().await => {}
                done => return done,
            }
        }
    }
}

/// How often something was tried.
#[derive(Default)]
pub(super) struct Tries(usize);

impl Tries {
    /// Waits a little; `false` if it was tried often enough.
    pub(super) async fn again(&mut self) -> bool {
        let Some(pause) = PAUSES.get(self.0) else { return false };
        self.0 += 1;
        tokio::time::sleep(*pause).await;
        true
    }
}
