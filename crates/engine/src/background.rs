//! Work that must not get in the way of captures, nor of the application.
//!
//! Invariant: it runs on a thread of its own at a low priority. The threads of the runtime's blocking pool serve
//! everybody, and a thread that has lowered its priority may not raise it again.

use tokio::sync::oneshot;

use crate::error::EngineError;

/// As `nice` has it: a tenth of what others get where there is not enough for all.
const NICE: i32 = 10;

/// Does a piece of work that blocks and is in no hurry.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    let (done, result) = oneshot::channel();
    let thread = std::thread::Builder::new().name("walstream-background".into());
    let spawned = thread.spawn(move || {
        // On Linux this is about the calling thread; where it is refused the work is done all the same.
        let _ = rustix::process::setpriority_process(None, NICE);
        // Whoever waits no longer does not need the result.
        let _ = done.send(work());
    });
    let lost = |reason: String| EngineError::TaskLost(reason);
    spawned.map_err(|error| lost(format!("no thread for background work: {error}")))?;
    result.await.map_err(|_| lost("background work".into()))
}
