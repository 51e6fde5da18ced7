//! In an object store of NATS JetStream, whose top is the replica: Litestream knows no path there.

use std::fs;
use std::path::Path;
use std::time::Duration;

use walstream_test_support::compare::{assert_same_pages, assert_sound};
use walstream_test_support::replica::last_txids;
use walstream_test_support::{App, NatsServer, Program, wait_until};

use crate::{litestream, walstream};

const DEADLINE: Duration = Duration::from_secs(60);

struct Site {
    server: NatsServer,
    app: App,
}

impl Site {
    fn new(folder: &Path) -> Site {
        Site { server: NatsServer::start(), app: App::open(folder.join("shop.db")) }
    }

    fn newest_txid(&self) -> u64 {
        last_txids(&self.server.files()).last().copied().unwrap_or(0)
    }

    /// The program runs, the application commits, each commit reaches the replica, the program stops.
    fn work_under(&self, program: &Program) {
        let daemon = program.replicate(self.app.path(), &self.server.replica_url());
        for size in [50, 1, 20] {
            let before = self.newest_txid();
            self.app.sell(size, 400);
            wait_until("the replica grows", DEADLINE, || self.newest_txid() > before);
        }
        daemon.stop();
    }

    fn restore(&self, program: &Program, output: &Path, flags: &[&str]) {
        let mut arguments = vec!["restore", "-o", output.to_str().unwrap()];
        arguments.extend(flags);
        let url = self.server.replica_url();
        arguments.push(&url);
        let _ = fs::remove_file(output);
        program.run(arguments).success();
    }
}

#[test]
fn take_over_on_nats() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path());
    let output = folder.path().join("restored.db");
    for program in [litestream(), walstream(), litestream(), walstream()] {
        site.work_under(&program);
        for reader in [litestream(), walstream()] {
            site.restore(&reader, &output, &[]);
            assert_same_pages(site.app.path(), &output);
            assert_sound(&output);
        }
    }
}

#[test]
fn walstream_to_litestream_on_nats_every_txid() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path());
    site.work_under(&walstream());
    let (ours, theirs) = (folder.path().join("ours.db"), folder.path().join("theirs.db"));
    for txid in last_txids(&site.server.files()) {
        let txid = format!("{txid:016x}");
        site.restore(&walstream(), &ours, &["-txid", &txid]);
        site.restore(&litestream(), &theirs, &["-txid", &txid]);
        assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "TXID {txid} differs");
    }
}
