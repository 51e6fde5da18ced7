//! Restores over lines on which little gets through at a time, or nothing.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use walstream_test_support::compare::assert_same_pages;
use walstream_test_support::{Faults, Line, Moto};

use crate::refusal::assert_refused;
use crate::site::Site;
use crate::walstream;

/// A bucket at the end of this line.
fn replica(endpoint: &str) -> String {
    format!("s3://{}/shop?endpoint={endpoint}&region=us-east-1", Moto::BUCKET)
}

#[test]
fn a_restore_goes_on_where_connections_broke_and_waits_for_a_busy_store_on_moto() {
    const MEBIBYTE: usize = 1 << 20;
    let (site, moto) = (Site::new(), Moto::start());
    let app = site.app();
    app.execute("CREATE TABLE noise (bytes BLOB)");
    for _ in 0..20 {
        app.execute("INSERT INTO noise VALUES (randomblob(1 << 20))");
    }
    let walstream = walstream();
    walstream.replicate_once(app.path(), &replica(&moto.endpoint())).success();

    // Far less than one asks for with one request, and more often than one would try again if nothing came.
    let faults = Faults { ends_after: MEBIBYTE / 4, busy_every: 5 };
    let (line, traffic) = Line::bad(moto.address(), faults);
    let output = site.path("restored.db");
    walstream.restore(&replica(&line.endpoint()), &output, &[]);
    assert_same_pages(app.path(), &output);

    let (connections, bytes) =
        (traffic.connections.load(Ordering::SeqCst), traffic.bytes.load(Ordering::SeqCst));
    println!("{connections} connections brought {} MiB", bytes / MEBIBYTE);
    assert!(connections > 80, "{connections} connections: the line was too good");
    assert!(bytes < 60 * MEBIBYTE, "{} MiB: what was there already was fetched again", bytes / MEBIBYTE);
}

#[test]
fn an_endpoint_where_nobody_listens_is_said_at_once() {
    let site = Site::new();
    let started = Instant::now();
    let walstream = walstream();
    let finished = walstream.try_restore(&replica("http://127.0.0.1:1"), &site.path("restored.db"), &[]);
    assert_refused(&finished, &["cannot connect to http://127.0.0.1:1", "Connection refused"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}
