//! A watchman who hears of walstream for as long as all is well.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use walstream_test_support::{App, eventually};

use crate::metrics::Shown;
use crate::site::{SOON, Site};
use crate::walstream;

/// It is looked every 15 seconds whether a heartbeat is due.
const LOOK: Duration = Duration::from_secs(15);

/// Answers requests, one after the other.
struct Watchman {
    listener: TcpListener,
}

impl Watchman {
    fn new() -> Watchman {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Watchman { listener }
    }

    /// What to write into a configuration file.
    fn keys(&self) -> String {
        let address = self.listener.local_addr().unwrap();
        format!("heartbeat-url: http://{address}/ping/secret\nheartbeat-interval: 1m")
    }

    /// The first line of a request that has come, which is answered.
    fn hear(&self, answer: &str) -> Option<String> {
        let (mut stream, _) = match self.listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            accepted => accepted.unwrap(),
        };
        stream.set_nonblocking(false).unwrap();
        let (mut request, mut piece) = (Vec::new(), [0; 1024]);
        while !request.windows(4).any(|window| window == b"\r\n\r\n") {
            let taken = stream.read(&mut piece).unwrap();
            assert!(taken > 0, "the request ends early");
            request.extend(&piece[..taken]);
        }
        write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        Some(String::from_utf8(request).unwrap().lines().next().unwrap().to_owned())
    }
}

#[test]
fn a_heartbeat_is_sent_while_everything_is_in_sync() {
    let (site, watchman) = (Site::new(), Watchman::new());
    let _app = site.app();
    let started = Instant::now();
    let daemon = site.daemon_with("", &format!("addr: '127.0.0.1:0'\n{}", watchman.keys()));
    let request = eventually("a heartbeat comes", SOON + LOOK, || watchman.hear("204 No Content"));
    assert_eq!(request, "GET /ping/secret HTTP/1.1");
    assert!(started.elapsed() >= LOOK);
    let shown = Shown::by(|| daemon.process.stdout());
    eventually("it is counted", SOON, || {
        shown.scrape().get("litestream_heartbeat_last_success_timestamp_seconds", &[])
    });
    let scrape = shown.scrape();
    assert_eq!(scrape.get("litestream_heartbeat_count", &[]), Some(1.0));
    assert_eq!(scrape.get("litestream_heartbeat_error_count", &[]), Some(0.0));
    daemon.stop();
}

#[test]
fn a_watchman_who_refuses_is_an_error_in_the_log_without_his_address() {
    let (site, watchman) = (Site::new(), Watchman::new());
    let _app = site.app();
    let mut daemon = site.daemon_with("", &watchman.keys());
    eventually("a heartbeat comes", SOON + LOOK, || watchman.hear("500 Internal Server Error"));
    daemon.process.wait_for_output("heartbeat failed", SOON);
    let log = daemon.stop().stdout;
    let line = log.lines().find(|line| line.contains("heartbeat failed")).unwrap();
    assert!(line.contains("level=ERROR") && line.contains("500"), "{line}");
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn one_database_that_is_not_in_sync_keeps_all_of_them_silent() {
    let (site, watchman) = (Site::new(), Watchman::new());
    let _app = site.app();
    let (broken, replica) = (site.path("broken.db"), site.path("elsewhere"));
    App::open(&broken).execute("SELECT 1");
    let config = site.config("", &watchman.keys());
    let more = format!("  - {{path: {}, replica: {{path: {}}}}}\n", broken.display(), replica.display());
    let text = fs::read_to_string(&config).unwrap();
    let (head, entry) = text.split_once("dbs: [").unwrap();
    let entry = entry.trim_end().strip_suffix(']').unwrap();
    fs::write(&config, format!("{head}dbs:\n  - {entry}\n{more}")).unwrap();
    // It is no database any more, and cannot be opened.
    fs::write(&broken, "this is no database, whatever it was before".repeat(100)).unwrap();
    let mut daemon = walstream().replicate_config(&config).ready();
    std::thread::sleep(LOOK + Duration::from_secs(4));
    assert_eq!(watchman.hear("204 No Content"), None);
    assert!(daemon.process.is_running());
    daemon.process.kill_9();
}
