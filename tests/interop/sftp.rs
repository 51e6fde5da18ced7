//! On an SSH server, as configuration files describe it: both programs know the server by its key, and log in with one.

use std::fs;
use std::time::Duration;

use walstream_test_support::compare::{assert_same_pages, assert_sound};
use walstream_test_support::replica::txids;
use walstream_test_support::{Program, Sshd, wait_until};

use crate::site::Site;

const DEADLINE: Duration = Duration::from_secs(60);

fn on(server: &Sshd) -> Site<'_> {
    Site::by_config(&server.replica("shop"), || txids(&server.files().join("shop")))
}

#[test]
fn take_over_on_sftp() {
    on(&Sshd::start()).programs_take_turns(|_| {});
}

#[test]
fn walstream_to_litestream_on_sftp_every_txid() {
    on(&Sshd::start()).litestream_restores_what_walstream_wrote();
}

#[test]
fn litestream_03_to_walstream_on_sftp() {
    let server = Sshd::start();
    let site = on(&server);
    site.app.sell(50, 400);
    let config = site.folder.path().join("0.3.yml");
    // It knows lists of replicas only.
    let replica = format!("    replicas:\n      - {}\n", server.replica("shop"));
    fs::write(&config, format!("dbs:\n  - path: {}\n{replica}", site.app.path().display())).unwrap();
    let mut daemon = Program::litestream_03().replicate_config(&config);
    daemon.process.wait_for_output("snapshot written", DEADLINE);
    let generations = server.files().join("shop/generations");
    let snapshots = || {
        let generation = fs::read_dir(&generations).ok()?.next()?.ok()?.path();
        fs::read_dir(generation.join("snapshots")).ok()?.next()
    };
    wait_until("the snapshot", DEADLINE, || snapshots().is_some());
    daemon.stop();
    let output = site.folder.path().join("restored.db");
    site.restore(&site.walstream(), &output, &[]);
    assert_sound(&output);
    assert_same_pages(site.app.path(), &output);
}
