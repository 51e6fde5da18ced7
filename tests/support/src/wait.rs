//! Waiting for something to become true, with a deadline.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
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

/// A loopback port that nobody listens on, for a server that cannot choose one itself and that comes back to it. They
/// are from a range that the system does not give to clients, and every test process begins at another place in it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    // Each test is a process of its own, so they begin at different places.
    let start = u16::try_from(std::process::id() * 7 % u32::from(COUNT)).unwrap();
    loop {
        let offset = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = FIRST + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
