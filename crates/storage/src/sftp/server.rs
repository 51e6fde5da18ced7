//! One server and login. All replicas there share its connection.
//!
//! Invariant: there is at most one connection at a time; a lost one is replaced by whoever needs it next.

use std::future::Future;
use std::sync::{Arc, PoisonError};

use tokio::sync::{Mutex, OnceCell};

use super::connection::Connection;
use super::failure::Failure;
use super::publish::Publishing;
use super::settings::Settings;
use crate::config::SftpConfig;
use crate::error::StorageError;
use crate::in_use::InUse;
use crate::tries::repeat;

pub(super) struct Server {
    pub(super) settings: Settings,
    /// How files get their names here, once that was tried out.
    pub(super) publishing: OnceCell<Publishing>,
    current: Mutex<Option<Arc<Connection>>>,
    /// Temporary files that could not be removed because the connection was lost.
    left_over: std::sync::Mutex<Vec<String>>,
}

impl Server {
    /// The server of a configuration: the one in use already, if another replica logs in there in the same way.
    pub(super) fn shared(config: &SftpConfig) -> Result<Arc<Self>, StorageError> {
        static IN_USE: InUse<SftpConfig, Server> = InUse::none();
        let login = SftpConfig { path: None, ..config.clone() };
        IN_USE.get(login, || Ok(Server::new(Settings::resolve(config, &|name| std::env::var(name).ok())?)))
    }

    pub(super) fn new(settings: Settings) -> Self {
        Server {
            settings,
            publishing: OnceCell::new(),
            current: Mutex::default(),
            left_over: std::sync::Mutex::default(),
        }
    }

    /// The connection in use, or a new one.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, Failure> {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| connection.is_usable()) {
            return Ok(Arc::clone(connection));
        }
        *current = None;
        let connection = Arc::new(Connection::open(&self.settings).await?);
        *current = Some(Arc::clone(&connection));
        let left_over = std::mem::take(&mut *self.left_over.lock().unwrap_or_else(PoisonError::into_inner));
        for path in left_over {
            // What cannot be removed now is found by its age.
            let connection = Arc::clone(&connection);
            tokio::spawn(async move { connection.ask(connection.sftp.remove(path)).await });
        }
        Ok(connection)
    }

    /// Removes a temporary file, over the next connection if this one is lost.
    pub(super) async fn remove_temp(&self, connection: &Connection, path: String) {
        let removed = connection.ask(connection.sftp.remove(&path)).await;
        if !matches!(removed, Err(Failure::Lost(_) | Failure::Silent(_))) {
            return;
        }
        let current = self.current.lock().await;
        match current.as_ref().filter(|connection| connection.is_usable()) {
            Some(next) => drop(next.ask(next.sftp.remove(path)).await),
            None => self.left_over.lock().unwrap_or_else(PoisonError::into_inner).push(path),
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
