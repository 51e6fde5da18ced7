//! The control socket: HTTP on a Unix socket, by which commands reach a running daemon.
//!
//! Invariant: replication does not depend on it. A socket that cannot be listened on is said, and the daemon goes on. Whoever
//! may open the socket file may do everything that it offers, so its permissions are the only lock.
//!
//! | what | module |
//! |---|---|
//! | what is said, by both sides | [`messages`] |
//! | the socket file | `listen` |
//! | the daemon's side | `desk` |
//! | the commands' side | [`client`] |

pub(crate) mod client;
mod desk;
mod listen;
pub(crate) mod messages;

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::listen::SocketFile;
use crate::config::SocketSettings;
use crate::daemon::Roster;
use crate::http::Observed;

/// Answers that are under way at the end may take this much longer.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A socket that is listened on.
pub(crate) struct ControlSocket {
    file: SocketFile,
    closing: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Begins to take commands; nothing if that is not wanted or not possible.
pub(crate) async fn open(
    settings: Option<&SocketSettings>,
    roster: &Roster,
    observed: &Observed,
) -> Option<ControlSocket> {
    let settings = settings?;
    let path = settings.path.display();
    let (listener, file) = match listen::listen(settings).await {
        Ok(listening) => listening,
        Err(error) => {
            tracing::warn!(%path, %error, "failed to start control server");
            return None;
        }
    };
    tracing::info!(%path, "control socket listening");
    let (closing, closed) = watch::channel(false);
    let router = desk::router(roster.clone(), observed.clone());
    let task = tokio::spawn(async move {
        let mut closed = closed;
        let end = async move { drop(closed.wait_for(|&closed| closed).await) };
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
            tracing::error!(%error, "control server ended");
        }
    });
    Some(ControlSocket { file, closing, task })
}

impl ControlSocket {
    /// Takes no new requests. Those that are under way go on.
    pub(crate) fn close(&self) {
        self.file.remove();
        self.closing.send_replace(true);
    }

    /// Waits a moment for the last answers.
    pub(crate) async fn finish(self) {
        let _ = tokio::time::timeout(LAST_ANSWERS, self.task).await;
    }
}
