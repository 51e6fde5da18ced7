//! What the service manager hears; here the test is the service manager.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod common;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{application, files, signal, wait, walstream};
use rustix::process::Signal;

/// A configuration whose store is away.
const AWAY: &str = "shutdown-sync-timeout: 1s\naccess-key-id: a\nsecret-access-key: b\ndbs: [{path: app.db, replica: {url: \
                    's3://bucket/x?endpoint=http://127.0.0.1:1'}}]";

/// A service with `Type=notify` and `WatchdogSec=600ms`.
struct Service {
    socket: UnixDatagram,
    process: Child,
    heard: Vec<String>,
}

impl Service {
    fn start(folder: &Path, arguments: &str) -> Service {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut command = walstream();
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "600000");
        command.current_dir(folder).args(arguments.split_whitespace());
        let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Service { socket, process, heard: Vec::new() }
    }

    /// Hears what is told until a line begins like this, and returns that line.
    fn hear(&mut self, beginning: &str) -> String {
        let mut buffer = [0; 4096];
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < deadline, "waited in vain for {beginning}, heard {:?}", self.heard);
            let length = self.socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            self.heard.extend(text.lines().map(str::to_owned));
            if let Some(line) = text.lines().find(|line| line.starts_with(beginning)) {
                return line.to_owned();
            }
        }
    }

    fn was_ready(&self) -> bool {
        self.heard.iter().any(|line| line == "READY=1")
    }

    fn stop(mut self) -> Option<i32> {
        signal(&self.process, Signal::TERM);
        self.hear("STOPPING=1");
        wait(self.process).code
    }
}

#[test]
fn it_is_ready_once_the_first_snapshot_is_on_the_replica_and_then_gives_signs_of_life() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    let url = format!("file://{}/r", folder.path().display());
    let mut service = Service::start(folder.path(), &format!("replicate app.db {url}"));
    service.hear("READY=1");
    assert!(!files(&folder.path().join("r"), 9).is_empty());
    assert!(service.heard.contains(&"STATUS=1 database in sync".to_owned()), "{:?}", service.heard);
    let begun = Instant::now();
    (0..4).for_each(|_| drop(service.hear("WATCHDOG=1")));
    assert!(begun.elapsed() < Duration::from_millis(4 * 600), "{:?}", begun.elapsed());
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn while_the_store_is_away_it_asks_for_time_and_says_what_it_waits_for() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    fs::write(folder.path().join("c.yml"), AWAY).unwrap();
    let mut service = Service::start(folder.path(), "replicate -config c.yml");
    let status = service.hear("STATUS=0 of 1 databases in sync; ");
    assert!(status.contains("app.db"), "{status}");
    (0..3).for_each(|_| drop(service.hear("EXTEND_TIMEOUT_USEC=60000000")));
    assert!(!service.was_ready());
    assert_eq!(service.stop(), Some(1), "the first snapshot is not on the replica");
}

#[test]
fn a_reload_is_told_from_its_beginning_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    let write = |text: &str| fs::write(folder.path().join("c.yml"), text).unwrap();
    let config = "dbs: [{path: app.db, replica: {path: r}}]";
    write(config);
    let mut service = Service::start(folder.path(), "replicate -config c.yml");
    service.hear("READY=1");

    for (text, status) in [
        (config, "STATUS=1 database in sync"),
        ("dbs: [{ptah: app.db}]", "STATUS=configuration not reloaded: "),
        (config, "STATUS=1 database in sync"),
    ] {
        write(text);
        let signalled = monotonic_usec();
        service.heard.clear();
        signal(&service.process, Signal::HUP);
        let said = service.hear("STATUS=");
        assert!(said.starts_with(status), "{said}");
        let told: Vec<&str> =
            service.heard.iter().map(String::as_str).filter(|line| *line != "WATCHDOG=1").collect();
        let &["RELOADING=1", begun, "READY=1", _] = told.as_slice() else { panic!("{told:?}") };
        let begun: i128 = begun.strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(
            (signalled..=monotonic_usec()).contains(&begun),
            "the manager would take it for an earlier one"
        );
    }
    assert_eq!(service.stop(), Some(0));
}

/// The clock by which the manager tells reloads apart.
fn monotonic_usec() -> i128 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is ours for as long as the call lasts.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) }, 0);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000
}

#[test]
fn a_reload_before_the_first_sync_does_not_pass_for_the_end_of_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    fs::write(folder.path().join("c.yml"), AWAY).unwrap();
    let mut service = Service::start(folder.path(), "replicate -config c.yml");
    service.hear("STATUS=0 of 1 databases in sync; ");
    let one_more = AWAY.replace("dbs: [", "dbs: [{path: other.db, replica: {path: r}}, ");
    fs::write(folder.path().join("c.yml"), one_more).unwrap();
    signal(&service.process, Signal::HUP);
    service.hear("STATUS=0 of 2 databases in sync; ");
    (0..3).for_each(|_| drop(service.hear("EXTEND_TIMEOUT_USEC=60000000")));
    assert!(!service.was_ready());
    assert!(!service.heard.iter().any(|line| line.starts_with("RELOADING")), "{:?}", service.heard);
    assert_eq!(service.stop(), Some(1), "the first snapshot is not on the replica");
}

#[test]
fn a_database_that_does_not_exist_yet_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/r", folder.path().display());
    let mut service = Service::start(folder.path(), &format!("replicate app.db {url}"));
    service.hear("READY=1");
    let _app = application(folder.path());
    service.hear("STATUS=1 database in sync");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_copy_that_follows_is_ready_once_it_is_as_new_as_its_replica() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    let url = format!("file://{}/r", folder.path().display());
    assert_eq!(common::run(folder.path(), &format!("replicate -once app.db {url}")).code, Some(0));
    let mut service = Service::start(folder.path(), &format!("restore -f -o copy.db {url}"));
    service.hear("READY=1");
    assert_eq!(common::rows(&folder.path().join("copy.db")), 1);
    assert_eq!(service.stop(), Some(0));
}
