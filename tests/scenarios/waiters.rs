//! Those who wait until their commits are safe: they are told when it is so, and cost nothing by waiting.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use walstream_test_support::replica::{OutOfReach, ltx_files, newest_txid};

use crate::site::{SOON, Site};
use crate::socket::{Controlled, parsed};
use crate::walstream;

const INTERVAL: Duration = Duration::from_millis(500);
const WAITERS: usize = 100;
/// Not so many that the WAL is checkpointed meanwhile, which captures what it finds.
const ROUNDS: usize = 2;

#[test]
fn a_hundred_who_wait_cost_one_upload_in_each_interval() {
    let controlled = Controlled::new();
    let config = controlled.config("", "");
    let text =
        std::fs::read_to_string(&config).unwrap().replace("sync-interval: 100ms", "sync-interval: 500ms");
    std::fs::write(&config, text).unwrap();
    let daemon = controlled.daemon_of(&walstream(), &config);
    let (database, replica) = (controlled.site.database(), controlled.site.replica());
    let request = json!({"path": database, "timeout": 20});
    assert_eq!(controlled.post("/wait", &request).status, 200);

    let before = ltx_files(&replica, 0).len();
    let started = Instant::now();
    // A connection of SQLite is for one thread at a time.
    let (app, others) = (Mutex::new(controlled.site.app()), controlled.socket());
    let longest = thread::scope(|scope| {
        let wait = || {
            let mut longest = Duration::ZERO;
            for _ in 0..ROUNDS {
                app.lock().unwrap().sell(1, 10);
                let asked = Instant::now();
                let body = request.to_string();
                let answer = walstream_test_support::http::request_by_socket(
                    &others,
                    "POST",
                    "/wait",
                    body.as_bytes(),
                );
                let answer = answer.unwrap();
                assert_eq!(answer.status, 200, "{}", parsed(&answer));
                longest = longest.max(asked.elapsed());
                let txid = parsed(&answer)["txid"].as_u64().unwrap();
                assert!(newest_txid(&replica) >= txid, "what it waited for is on the replica");
            }
            longest
        };
        let waiters: Vec<_> = (0..WAITERS).map(|_| scope.spawn(wait)).collect();
        waiters.into_iter().map(|waiter| waiter.join().unwrap()).max().unwrap()
    });
    let (elapsed, uploads) = (started.elapsed(), ltx_files(&replica, 0).len() - before);
    println!("{} waits: {uploads} uploads in {elapsed:?}, the longest wait {longest:?}", WAITERS * ROUNDS);
    let intervals = elapsed.div_duration_f64(INTERVAL).ceil() as usize;
    assert!(uploads >= 1 && uploads <= intervals + 1, "{uploads} uploads in {intervals} intervals");
    daemon.stop();
    controlled.site.assert_restores();
}

#[test]
fn who_waits_for_a_txid_is_told_when_it_is_there() {
    let controlled = Controlled::new();
    let daemon = controlled.daemon();
    let database = controlled.site.database();
    let reached = controlled.post("/wait", &json!({"path": database, "timeout": 20}));
    let next = parsed(&reached)["txid"].as_u64().unwrap() + 1;
    let too_soon = controlled.post("/wait", &json!({"path": database, "txid": next, "timeout": 1}));
    assert_eq!(too_soon.status, 504, "{}", parsed(&too_soon));
    let socket = controlled.socket();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_for(&socket, &database, next));
        controlled.app.sell(1, 10);
        assert_eq!(waiter.join().unwrap(), next);
    });
    assert_eq!(wait_for(&socket, &database, 1), 1, "it has been there");
    daemon.stop();
}

fn wait_for(socket: &std::path::Path, database: &std::path::Path, txid: u64) -> u64 {
    let body = json!({"path": database, "txid": txid, "timeout": 20}).to_string();
    let answer =
        walstream_test_support::http::request_by_socket(socket, "POST", "/wait", body.as_bytes()).unwrap();
    let answer = parsed(&answer);
    assert!(answer["replicated_txid"].as_u64().unwrap() >= txid, "{answer}");
    answer["txid"].as_u64().unwrap()
}

#[test]
fn who_waits_while_the_replica_is_away_is_told_so() {
    let controlled = Controlled::new();
    let database = controlled.site.database();
    let daemon = controlled.daemon();
    controlled.site.wait_until_caught_up(&controlled.app);
    let away = OutOfReach::take(&controlled.site.replica());
    controlled.app.sell(1, 10);
    let answer = controlled.post("/wait", &json!({"path": database, "timeout": 1}));
    assert_eq!(answer.status, 504);
    let error = parsed(&answer)["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("not done within 1 s, and still under way"), "{error}");
    drop(away);
    assert_eq!(controlled.post("/wait", &json!({"path": database, "timeout": 20})).status, 200);
    daemon.stop();
}

#[test]
fn a_commit_right_after_an_upload_is_uploaded_when_its_turn_comes() {
    let site = Site::new();
    let app = site.app();
    let config = site.config("", "");
    let text = std::fs::read_to_string(&config).unwrap().replace("sync-interval: 100ms", "sync-interval: 3s");
    std::fs::write(&config, text).unwrap();
    let daemon = walstream().replicate_config(&config).ready();
    site.wait_until_caught_up(&app);
    app.sell(1, 10);
    site.wait_until_caught_up(&app);
    // Whoever looked at it for a second after the capture has stopped by the time it may go up.
    app.sell(1, 10);
    let committed = Instant::now();
    site.wait_until_caught_up(&app);
    assert!(committed.elapsed() < SOON / 2, "{:?}", committed.elapsed());
    daemon.stop();
}
