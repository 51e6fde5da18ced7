//! One replica is the replica of one database. Who comes to it without a past goes on where it ends, because that is
//! what a restored or moved database does; whoever wrote there before and was not asked is then refused, for as long as
//! his own past disagrees with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use walstream_test_support::compare::{assert_rows, assert_same_rows, rows};
use walstream_test_support::replica::{file_url, newest_txid, txids};
use walstream_test_support::{App, Finished, wait_until};

use crate::refusal::assert_refused;
use crate::walstream;

const DEADLINE: Duration = Duration::from_secs(60);
const REFUSED: &str = "belongs to another writer";

/// A replica, and what was in which database when it got a TXID.
struct Shared {
    folder: TempDir,
    states: Vec<(u64, Vec<String>)>,
}

impl Shared {
    fn new() -> Shared {
        Shared { folder: tempfile::tempdir().unwrap(), states: Vec::new() }
    }

    fn replica(&self) -> PathBuf {
        self.folder.path().join("replica")
    }

    fn url(&self) -> String {
        file_url(&self.replica())
    }

    /// A database on a host of its own.
    fn app(&self, host: &str) -> App {
        fs::create_dir_all(self.folder.path().join(host)).unwrap();
        let app = App::open(self.folder.path().join(host).join("shop.db"));
        app.sell(10, 100);
        app
    }

    fn once(&self, app: &App) -> Finished {
        walstream().run(["replicate", "-once", app.path().to_str().unwrap(), &self.url()])
    }

    #[track_caller]
    fn succeeds(&mut self, app: &App) {
        self.once(app).success();
        self.states.push((newest_txid(&self.replica()), rows(app.path())));
    }

    #[track_caller]
    fn is_refused(&self, app: &App) {
        let before = txids(&self.replica());
        assert_refused(&self.once(app), &[REFUSED]);
        assert_eq!(txids(&self.replica()), before, "a refused writer wrote");
    }

    /// Whatever was there at any time is there still.
    #[track_caller]
    fn keeps_everything(&self) {
        let restored = self.folder.path().join("restored.db");
        for (txid, rows) in &self.states {
            walstream().restore(&self.url(), &restored, &["-force", "-txid", &format!("{txid:016x}")]);
            assert_rows(rows, &restored);
        }
        for txid in txids(&self.replica()) {
            walstream().restore(&self.url(), &restored, &["-force", "-txid", &format!("{txid:016x}")]);
        }
    }
}

fn metadata_folder(app: &App) -> PathBuf {
    app.path().with_file_name(".shop.db-litestream")
}

#[test]
fn in_turns_the_one_who_came_later_stays_and_the_other_is_refused() {
    let mut shared = Shared::new();
    let (first, second) = (shared.app("a"), shared.app("b"));
    shared.succeeds(&first);
    shared.succeeds(&second);
    for _ in 0..2 {
        first.sell(1, 100);
        shared.is_refused(&first);
        second.sell(1, 100);
        shared.succeeds(&second);
    }
    shared.keeps_everything();

    // The operator decides for the first one.
    fs::remove_dir_all(metadata_folder(&first)).unwrap();
    shared.succeeds(&first);
    shared.is_refused(&second);
    shared.keeps_everything();
}

#[test]
fn a_refused_host_goes_on_after_it_restored_what_the_other_wrote() {
    let mut shared = Shared::new();
    let (first, second) = (shared.app("a"), shared.app("b"));
    shared.succeeds(&first);
    shared.succeeds(&second);
    shared.is_refused(&first);
    let path = first.path().to_owned();
    drop(first);
    walstream().restore(&shared.url(), &path, &["-force"]);
    let restored = App::open(path);
    let before = newest_txid(&shared.replica());
    shared.succeeds(&restored);
    assert_eq!(newest_txid(&shared.replica()), before, "nothing was to be uploaded");
    restored.sell(1, 100);
    shared.succeeds(&restored);
    shared.keeps_everything();
}

/// Both are alive and write; exactly one of them goes on, whoever that is, and the other stays refused.
fn one_of_two_daemons_goes_on(shared: &mut Shared, first: &App, second: &App) {
    let url = shared.url();
    let mut daemons = [first, second].map(|app| (app, walstream().replicate(app.path(), &url).ready()));
    wait_until("one of them is refused", DEADLINE, || {
        first.sell(1, 100);
        second.sell(1, 100);
        daemons.iter().any(|(_, daemon)| daemon.process.stdout().contains(REFUSED))
    });
    std::thread::sleep(Duration::from_secs(2));
    daemons.sort_by_key(|(_, daemon)| daemon.process.stdout().contains(REFUSED));
    let [(winner, going_on), (loser, refused)] = daemons;
    assert!(!going_on.process.stdout().contains(REFUSED), "both were refused");
    winner.sell(1, 100);
    going_on.stop();
    assert_eq!(refused.process.stop(DEADLINE).status.code(), Some(1));

    let restored = shared.folder.path().join("restored.db");
    walstream().restore(&url, &restored, &["-force"]);
    assert_same_rows(winner.path(), &restored);
    shared.is_refused(loser);
    shared.succeeds(winner);
    shared.keeps_everything();
}

#[test]
fn two_daemons_with_different_databases() {
    let mut shared = Shared::new();
    let (first, second) = (shared.app("a"), shared.app("b"));
    shared.succeeds(&first);
    one_of_two_daemons_goes_on(&mut shared, &first, &second);
}

#[test]
fn two_daemons_with_copies_of_one_database() {
    let mut shared = Shared::new();
    let first = shared.app("a");
    first.checkpoint("TRUNCATE");
    shared.succeeds(&first);
    let copy = copied(first.path(), &shared.folder.path().join("b"));
    let second = App::open(copy);
    one_of_two_daemons_goes_on(&mut shared, &first, &second);
}

#[test]
fn two_daemons_with_copies_of_one_database_and_of_its_past() {
    let mut shared = Shared::new();
    let first = shared.app("a");
    first.checkpoint("TRUNCATE");
    shared.succeeds(&first);
    let copy = copied(first.path(), &shared.folder.path().join("b"));
    let past = metadata_folder(&first);
    assert!(Command::new("cp").arg("-r").arg(past).arg(copy.parent().unwrap()).status().unwrap().success());
    let second = App::open(copy);
    one_of_two_daemons_goes_on(&mut shared, &first, &second);
}

/// Copied by another process, because closing a file of the application's would end its locks.
fn copied(database: &Path, to: &Path) -> PathBuf {
    fs::create_dir_all(to).unwrap();
    assert!(Command::new("cp").arg(database).arg(to).status().unwrap().success());
    to.join("shop.db")
}
