//! Signals to this process, as a stream.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::error::CliError;

/// Signals that are caught from now on, instead of ending the process.
pub(crate) struct Signals(Vec<(SignalKind, Stream)>);

impl Signals {
    /// Catches INT and TERM, which ask for a shutdown.
    pub(crate) fn shutdown() -> Result<Self, CliError> {
        Signals::catch(&[SignalKind::interrupt(), SignalKind::terminate()])
    }

    /// Catches everything that is meant for a child process too.
    pub(crate) fn for_child() -> Result<Self, CliError> {
        Signals::catch(&[
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::hangup(),
            SignalKind::quit(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
        ])
    }

    /// Catches HUP, which asks for the configuration to be read anew.
    pub(crate) fn hangup() -> Result<Self, CliError> {
        Signals::catch(&[SignalKind::hangup()])
    }

    fn catch(kinds: &[SignalKind]) -> Result<Self, CliError> {
        let streams = kinds.iter().map(|&kind| Ok((kind, signal(kind)?))).collect::<std::io::Result<_>>();
        streams.map(Signals).map_err(|error| CliError::new(format!("cannot catch signals: {error}")))
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> SignalKind {
        poll_fn(|context| {
            for (kind, stream) in &mut self.0 {
                if let Poll::Ready(Some(())) = stream.poll_recv(context) {
                    return Poll::Ready(*kind);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for the next INT or TERM.
    pub(crate) async fn next_shutdown(&mut self) -> SignalKind {
        loop {
            let kind = self.next().await;
            if asks_for_shutdown(kind) {
                return kind;
            }
        }
    }
}

/// Whether a signal is INT or TERM.
pub(crate) fn asks_for_shutdown(kind: SignalKind) -> bool {
    kind == SignalKind::interrupt() || kind == SignalKind::terminate()
}

/// The name for logs, as the peer writes it.
pub(crate) fn name(kind: SignalKind) -> &'static str {
    match kind {
        kind if kind == SignalKind::interrupt() => "interrupt",
        kind if kind == SignalKind::terminate() => "terminated",
        kind if kind == SignalKind::hangup() => "hangup",
        kind if kind == SignalKind::quit() => "quit",
        kind if kind == SignalKind::user_defined1() => "user defined signal 1",
        _ => "user defined signal 2",
    }
}
