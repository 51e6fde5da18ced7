//! Two daemons on one database would each ship half of it. The second one names the first, waits, and takes over.

use crate::site::{SOON, Site};

#[test]
fn the_second_daemon_waits_and_takes_over() {
    let site = Site::new();
    let app = site.app();
    app.sell(10, 100);
    let first = site.daemon();
    site.wait_until_caught_up(&app);
    let mut second = site.daemon();
    second.process.wait_for_output(&format!("process {}", first.process.id()), SOON);
    app.sell(1, 100);
    site.wait_until_caught_up(&app);

    first.stop();
    let newest = site.newest_txid();
    second.process.wait_for_output("database opened", 2 * SOON);
    app.sell(1, 100);
    site.wait_until_caught_up(&app);
    assert_eq!(site.newest_txid(), newest + 1);
    let said = second.stop();
    let errors = said.stdout.lines().filter(|line| line.contains("level=ERROR")).count();
    assert_eq!(errors, 1, "{}", said.stdout);
    site.assert_restores();
}
