//! Work that must not get in the way of captures, nor of the application.
//!
//! Invariant: it runs on a thread of its own at a low priority. The threads of the runtime's blocking pool serve
//! everybody, and a thread that has lowered its priority may not raise it again.

use tokio::task::spawn_blocking;

use crate::error::EngineError;

/// As `nice` has it: a tenth of what others get where there is not enough for all.
const NICE: i32 = 10;

/// Does a piece of work that blocks and is in no hurry.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, EngineError> {
    let low = move || {
        // On Linux this is about the calling thread; where it is refused the work is done all the same.
        let _ = rustix::process::setpriority_process(None, NICE);
        work()
    };
    let thread = std::thread::Builder::new().name("walstream-background".into());
    let done = spawn_blocking(move || thread.spawn(low).map(|thread| thread.join())).await?;
    match done {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(_)) => Err(EngineError::TaskLost("background work".into())),
        Err(error) => Err(EngineError::TaskLost(format!("no thread for background work: {error}"))),
    }
}
