//! Nothing happens: no TXID, no request, no log line, no work.

use std::fs;
use std::time::Duration;

use walstream_test_support::replica::files_below;
use walstream_test_support::{Daemon, Moto, wait_until};

use crate::site::{SOON, Site};
use crate::walstream;

/// Timers that a daemon with the defaults has in minutes and hours.
const QUICK: &str = "l0-retention: 1s\nl0-retention-check-interval: 200ms\nlevels: [{interval: 300ms}]";
const KEYS: &str = "checkpoint-interval: 200ms, monitor-interval: 200ms";
const WHILE: Duration = Duration::from_secs(4);

/// User and system time of a process in clock ticks, a hundredth of a second each.
fn cpu_ticks(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.process.id())).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// Waits until `state` stays the same for a second, then looks at it again after a while.
#[track_caller]
fn stays<T: PartialEq + std::fmt::Debug>(daemon: &Daemon, state: impl Fn() -> T) {
    let observe = || (state(), daemon.process.stdout());
    wait_until("the start is over", SOON, || {
        let before = observe();
        std::thread::sleep(Duration::from_secs(1));
        observe() == before
    });
    let (before, ticks) = (observe(), cpu_ticks(daemon));
    std::thread::sleep(WHILE);
    assert_eq!(observe(), before);
    let ticks = cpu_ticks(daemon) - ticks;
    assert!(ticks <= 2, "{ticks} ticks of CPU time in {WHILE:?} of rest");
}

#[test]
fn beside_a_directory() {
    let site = Site::new();
    let app = site.app();
    let daemon = site.daemon_with(KEYS, QUICK);
    app.sell(5, 100);
    site.wait_until_caught_up(&app);
    app.sell(5, 100);
    site.wait_until_caught_up(&app);
    stays(&daemon, || files_below(&site.replica()));
    daemon.stop();
}

#[test]
fn beside_a_bucket_on_moto() {
    let (site, moto) = (Site::new(), Moto::start());
    let app = site.app();
    let config = site.config(KEYS, QUICK);
    let text = fs::read_to_string(&config).unwrap().replace(&site.url(), &moto.replica_url("shop"));
    fs::write(&config, text).unwrap();
    let daemon = walstream().replicate_config(&config).ready();
    app.sell(5, 100);
    wait_until("the bucket holds the commit", SOON, || !moto.keys("shop/0000/").is_empty());
    app.sell(5, 100);
    // Looking into the bucket is a request too, so only the server's own log may be asked.
    stays(&daemon, || moto.requests());
    daemon.stop();
}

/// The application copies everything into its database by itself, so that nothing is left to checkpoint.
#[test]
fn after_a_checkpoint_of_the_application() {
    let site = Site::new();
    let app = site.app();
    app.connection().busy_timeout(SOON).unwrap();
    let daemon = site.daemon_with("checkpoint-interval: 3s", QUICK);
    app.sell(5, 100);
    site.wait_until_caught_up(&app);
    app.checkpoint("FULL");
    stays(&daemon, || files_below(&site.replica()));
    daemon.stop();
}
