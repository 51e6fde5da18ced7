//! How the task of a database ends: at a shutdown, when the file is gone, when the replica is another writer's.
//!
//! Invariant: what is not on the replica at the end is said, TXID by TXID.

use super::super::command::Command;
use super::super::run::{End, Unshipped};
use super::{Running, SLOW_LOOK, fenced};
use crate::error::EngineError;

impl Running<'_> {
    /// The end: a last capture, then uploads until everything is there or time is up.
    pub(super) async fn finish(mut self) -> Result<End, EngineError> {
        if self.is_deleted() {
            return Box::pin(self.outlive()).await;
        }
        let mut reason = String::new();
        match self.sync(|capture| capture.capture_all()).await {
            Ok(_) => {}
            Err(_) if self.is_deleted() => return Box::pin(self.outlive()).await,
            Err(error) => {
                tracing::error!(path = %self.options.path.display(), %error, "last capture failed");
                reason = error.to_string();
            }
        }
        self.publish()?;
        self.callers.waiters.captured(*self.captured.borrow());
        self.hurry();
        let mut made = self.snapshot_made.subscribe();
        let mut fence = self.uploaded.clone();
        while reason.is_empty() && !self.all_shipped() {
            self.answer_waiters();
            tokio::select! {
                fenced = fenced(&mut fence) => reason = fenced,
                out_of_time = self.shared.out_of_time() => reason = out_of_time.into(),
                contact = &mut self.contact, if !self.in_contact => if !self.contacted(contact)? {
                    reason = "the replica is ahead of the local state".into();
                },
                Some(command) = self.inbox.recv() => Box::pin(self.answer(command)).await,
                Ok(()) = self.uploaded.changed() => {}
                Ok(()) = made.changed() => {}
            }
        }
        self.answer_waiters();
        if reason.is_empty() {
            Box::pin(self.close()).await;
            return Ok(End::Shutdown(None));
        }
        Ok(End::Shutdown(Some(Box::pin(self.give_up(reason)).await)))
    }

    /// From now on an upload that fails is tried again soon.
    fn hurry(&self) {
        self.hurry.send_replace(self.shared.ending().map(|shutdown| shutdown.retry_interval));
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.options.path.try_exists().is_ok_and(|exists| !exists)
    }

    /// The database was deleted. What was captured is uploaded, until the end if need be; of the database itself
    /// nothing is held open any more, unless a snapshot must still be read from it.
    pub(super) async fn outlive(mut self) -> Result<End, EngineError> {
        tracing::info!(path = %self.options.path.display(), "database was deleted");
        self.wake.listen();
        let (mut made, mut fence) = (self.snapshot_made.subscribe(), self.uploaded.clone());
        let mut in_a_hurry = false;
        while !self.all_shipped() {
            if !self.is_deleted() {
                Box::pin(self.close()).await;
                return Ok(End::Reopen("the file is back"));
            }
            self.let_go().await?;
            tokio::select! {
                reason = fenced(&mut fence) => return Ok(End::Shutdown(Some(Box::pin(self.give_up(reason)).await))),
                () = self.shared.end(), if !in_a_hurry => {
                    in_a_hurry = true;
                    self.hurry();
                }
                reason = self.shared.out_of_time() => {
                    return Ok(End::Shutdown(Some(self.give_up(reason.into()).await)));
                }
                contact = &mut self.contact, if !self.in_contact => if !self.contacted(contact)? {
                    // What is there is older than what the replica holds.
                    break;
                },
                Some(command) = self.inbox.recv() => if let Err(error) = self.answer_last(command).await {
                    tracing::warn!(
                        path = %self.options.path.display(), %error,
                        "database was deleted before a snapshot of it could be made"
                    );
                    break;
                },
                Ok(()) = self.uploaded.changed() => {}
                Ok(()) = made.changed() => {}
                () = self.wake.wait() => {}
                () = tokio::time::sleep(SLOW_LOOK) => {}
            }
        }
        Box::pin(self.close()).await;
        Ok(End::Deleted)
    }

    /// Closes what is open of a deleted database and no longer needed.
    async fn let_go(&mut self) -> Result<(), EngineError> {
        let worker = &mut self.opened.worker;
        if !self.in_contact || worker.is_closed() {
            return Ok(());
        }
        let snapshot_missing = *self.snapshot_made.borrow() < self.snapshot_wanted;
        if !snapshot_missing {
            self.upkeep.drain(..).for_each(|helper| helper.abort());
        }
        if !snapshot_missing || worker.ask(|capture| Ok(capture.is_pinned()))? {
            worker.close().await?;
        }
        Ok(())
    }

    /// Answers a command of a helper after the database was deleted. An error: the snapshot that was asked for cannot
    /// be made any more.
    async fn answer_last(&mut self, command: Command) -> Result<(), EngineError> {
        match command {
            Command::Sync(answer) => {
                let _ = answer.send(self.opened.worker.ask(|capture| Ok(capture.position())));
            }
            Command::Snapshot(answer) => {
                let (snapshot, _) = self.opened.worker.run(|capture| capture.snapshot()).await?;
                let _ = answer.send(Ok(snapshot));
            }
            Command::SaveMap(_) => {}
        }
        Ok(())
    }

    /// Closes the database and says what is not on the replica.
    pub(super) async fn give_up(self, reason: String) -> Unshipped {
        let shipped = self.in_contact.then(|| self.uploaded.borrow().txid);
        let captured = *self.captured.borrow();
        let path = self.options.path.clone();
        Box::pin(self.close()).await;
        Unshipped { path, shipped, captured, reason }
    }

    /// Whether everything that is captured can be restored from the replica.
    fn all_shipped(&self) -> bool {
        self.in_contact
            && self.uploaded.borrow().txid >= *self.captured.borrow()
            && *self.snapshot_made.borrow() >= self.snapshot_wanted
    }

    /// Ends the helpers, stores the map and closes the database on a blocking thread. Nothing is stored for a database
    /// that was deleted: its folder may be about to be deleted too, and the level-0 files lead to the map.
    pub(super) async fn close(mut self) {
        self.helpers.shutdown().await;
        let map_wanted = !self.opened.worker.is_closed() && !self.is_deleted();
        if map_wanted && let Err(error) = self.opened.worker.run(|capture| capture.save_map()).await {
            tracing::warn!(path = %self.options.path.display(), %error, "page map not stored; it will be rebuilt");
        }
        let opened = self.opened;
        // Nothing is left to do if the runtime itself is ending.
        let _ = tokio::task::spawn_blocking(move || drop(opened)).await;
    }
}
