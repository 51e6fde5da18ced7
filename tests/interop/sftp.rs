//! On an SSH server, as configuration files describe it: both programs know the server by its key, and log in with one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walstream_test_support::compare::{assert_same_pages, assert_sound};
use walstream_test_support::replica::{files, last_txids};
use walstream_test_support::{App, Program, Sshd, wait_until};

use crate::{litestream, walstream};

const DEADLINE: Duration = Duration::from_secs(60);

struct Site {
    server: Sshd,
    config: PathBuf,
    app: App,
}

impl Site {
    fn new(folder: &Path) -> Site {
        let (server, config) = (Sshd::start(), folder.join("config.yml"));
        let app = App::open(folder.join("shop.db"));
        let replica = server.replica("shop");
        fs::write(&config, format!("dbs:\n  - path: {}\n    replica: {replica}\n", app.path().display()))
            .unwrap();
        Site { server, config, app }
    }

    fn txids(&self) -> Vec<u64> {
        last_txids(&files(&self.server.files().join("shop")))
    }

    fn newest_txid(&self) -> u64 {
        self.txids().last().copied().unwrap_or(0)
    }

    /// The program runs, the application commits, each commit reaches the replica, the program stops.
    fn work_under(&self, program: &Program) {
        let daemon = program.replicate_config(&self.config);
        for size in [50, 1, 20] {
            let before = self.newest_txid();
            self.app.sell(size, 400);
            wait_until("the replica grows", DEADLINE, || self.newest_txid() > before);
        }
        daemon.stop();
    }

    fn restore(&self, program: &Program, output: &Path, flags: &[&str]) {
        let mut arguments = vec!["restore", "-config", self.config.to_str().unwrap()];
        arguments.extend(["-o", output.to_str().unwrap()]);
        arguments.extend(flags);
        arguments.push(self.app.path().to_str().unwrap());
        let _ = fs::remove_file(output);
        program.run(arguments).success();
    }
}

#[test]
fn take_over_on_sftp() {
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
fn walstream_to_litestream_on_sftp_every_txid() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path());
    site.work_under(&walstream());
    let (ours, theirs) = (folder.path().join("ours.db"), folder.path().join("theirs.db"));
    for txid in site.txids() {
        let txid = format!("{txid:016x}");
        site.restore(&walstream(), &ours, &["-txid", &txid]);
        site.restore(&litestream(), &theirs, &["-txid", &txid]);
        assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "TXID {txid} differs");
    }
}

#[test]
fn litestream_03_to_walstream_on_sftp() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path());
    site.app.sell(50, 400);
    let config = folder.path().join("0.3.yml");
    // It knows lists of replicas only.
    let replica = format!("    replicas:\n      - {}\n", site.server.replica("shop"));
    fs::write(&config, format!("dbs:\n  - path: {}\n{replica}", site.app.path().display())).unwrap();
    let mut daemon = Program::litestream_03().replicate_config(&config);
    daemon.process.wait_for_output("snapshot written", DEADLINE);
    let generations = site.server.files().join("shop/generations");
    let snapshots = || {
        let generation = fs::read_dir(&generations).ok()?.next()?.ok()?.path();
        fs::read_dir(generation.join("snapshots")).ok()?.next()
    };
    wait_until("the snapshot", DEADLINE, || snapshots().is_some());
    daemon.stop();
    let output = folder.path().join("restored.db");
    site.restore(&walstream(), &output, &[]);
    assert_sound(&output);
    assert_same_pages(site.app.path(), &output);
}
