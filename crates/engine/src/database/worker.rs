//! The capture of one database, at work on blocking threads.
//!
//! Invariant: one task owns the capture. It lends it to a blocking thread for one piece of work at a time and
//! gets it back with the result.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::capture::session::Capture;
use crate::error::EngineError;

/// Owns the capture of one database.
pub(crate) struct Worker {
    capture: Option<Capture>,
    /// Bounds how many databases work at the same time.
    permits: Arc<Semaphore>,
}

impl Worker {
    pub(crate) fn new(capture: Capture, permits: Arc<Semaphore>) -> Self {
        Worker { capture: Some(capture), permits }
    }

    /// Does a piece of work that may block.
    pub(crate) async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Capture) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let permits = Arc::clone(&self.permits);
        let _permit = permits.acquire().await.map_err(|_| lost())?;
        let mut capture = self.capture.take().ok_or_else(lost)?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut capture);
            (capture, result)
        });
        let (capture, result) = done.await?;
        self.capture = Some(capture);
        result
    }

    /// Closes the capture; there is no work for it any more.
    pub(crate) async fn close(&mut self) -> Result<(), EngineError> {
        let capture = self.capture.take();
        Ok(tokio::task::spawn_blocking(move || drop(capture)).await?)
    }

    /// Whether there is no capture any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.capture.is_none()
    }

    /// Looks at the capture, for questions that are answered without waiting.
    pub(crate) fn ask<T>(
        &self,
        question: impl FnOnce(&Capture) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        question(self.capture.as_ref().ok_or_else(lost)?)
    }

    /// Gives back what an idle database does not need.
    pub(crate) fn rest(&mut self) {
        if let Some(capture) = &mut self.capture {
            capture.rest();
        }
    }

    /// Changes something that takes no time.
    pub(crate) fn tell<T>(
        &mut self,
        change: impl FnOnce(&mut Capture) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        change(self.capture.as_mut().ok_or_else(lost)?)
    }
}

fn lost() -> EngineError {
    EngineError::TaskLost("capture".into())
}
