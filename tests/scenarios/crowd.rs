//! Hundreds of databases that all need their first snapshot at the same moment.

use std::fs;

use walstream_test_support::replica::ltx_files;
use walstream_test_support::{App, Daemon, wait_until};

use crate::site::{SOON, Site};
use crate::walstream;

const DATABASES: usize = 500;
/// What docs/operations.md promises.
const OPENED_AT_ONCE: usize = 32;
const SNAPSHOTS_AT_ONCE: usize = 8;

/// Small databases in `shops`, and a daemon that says what it does.
fn crowd(site: &Site) -> Daemon {
    let first = site.path("first.db");
    App::open(&first).sell(5, 100);
    fs::create_dir(site.path("shops")).unwrap();
    for number in 0..DATABASES {
        fs::copy(&first, site.path(&format!("shops/{number}.db"))).unwrap();
    }
    let config = site.path("config.yml");
    let text = format!(
        "logging: {{level: debug}}\ndbs: [{{dir: {}, pattern: '*.db', replica: {{path: {}}}}}]\n",
        site.path("shops").display(),
        site.replica().display()
    );
    fs::write(&config, text).unwrap();
    walstream().replicate_config(&config).ready()
}

/// How many were under way at the same moment at most, by the lines with which they begin and end.
fn most_at_once(log: &str, begins: &str, ends: &str) -> usize {
    let step = |under_way: &mut usize, line: &str| {
        *under_way += usize::from(line.contains(begins));
        *under_way -= usize::from(line.contains(ends));
        Some(*under_way)
    };
    log.lines().scan(0, step).max().unwrap_or(0)
}

#[test]
fn a_start_with_hundreds_of_databases_goes_step_by_step() {
    let site = Site::new();
    let daemon = crowd(&site);
    let has_snapshot = |number: usize| !ltx_files(&site.replica().join(format!("{number}.db")), 9).is_empty();
    wait_until("each has its first snapshot", 6 * SOON, || (0..DATABASES).all(has_snapshot));
    let log = daemon.stop().stdout;
    let snapshots = most_at_once(&log, "msg=\"snapshot begins\"", "msg=\"snapshot complete\"");
    assert!((1..=SNAPSHOTS_AT_ONCE).contains(&snapshots), "{snapshots} at once");
    // Its turn is over a moment before a database says that it is open.
    let opened = most_at_once(&log, "msg=\"opening database\"", "msg=\"initialized db\"");
    assert!((1..2 * OPENED_AT_ONCE).contains(&opened), "{opened} at once");
    let complete = log.lines().filter(|line| line.contains("msg=\"snapshot complete\"")).count();
    assert_eq!(complete, DATABASES, "one each");
}
