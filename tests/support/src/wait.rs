//! Waiting for something to become true, with a deadline.

use std::time::{Duration, Instant};

const STEP: Duration = Duration::from_millis(10);

/// Asks again and again until `probe` answers `Some`, and panics with `what` when `deadline` has passed.
pub fn eventually<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(STEP);
    }
}

/// Waits until `condition` holds, and panics with `what` when `deadline` has passed.
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    eventually(what, deadline, || condition().then_some(()));
}
