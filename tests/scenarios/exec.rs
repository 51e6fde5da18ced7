//! `replicate -exec`: the child's fate is ours, and its last commit is shipped whatever that fate is.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;
use tempfile::TempDir;
use walstream_test_support::compare::assert_same_rows;
use walstream_test_support::replica::{file_url, newest_txid};
use walstream_test_support::{App, Finished, Running, wait_until};

use crate::walstream;

const DEADLINE: Duration = Duration::from_secs(45);

/// A daemon with a child, next to an application that is this test.
struct Shop {
    folder: TempDir,
    app: App,
    process: Running,
}

impl Shop {
    /// `child` is a shell script; it may wait for the file `$go` by `until [ -e $go ]; do sleep 0.02; done`, use the
    /// `$database`, and make the file `$ready`.
    fn open(child: &str) -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path().join("shop.db"));
        app.sell(10, 100);
        let script = folder.path().join("child.sh");
        let go = folder.path().join("go");
        let database = app.path().to_str().unwrap();
        let ready = folder.path().join("ready");
        let variables = format!("go={} database={database} ready={}", go.display(), ready.display());
        std::fs::write(&script, format!("{variables}\n{child}\n")).unwrap();
        let command_line = format!("sh '{}'", script.display());
        let url = file_url(&folder.path().join("replica"));
        let mut command = walstream().command(["replicate", "-exec", &command_line, database, &url]);
        // A group of its own, as a shell makes one for each job.
        let process = Running::start(command.process_group(0));
        let shop = Shop { folder, app, process };
        wait_until("the replica has the start", DEADLINE, || newest_txid(&shop.replica()) > 0);
        shop
    }

    fn replica(&self) -> PathBuf {
        self.folder.path().join("replica")
    }

    /// Once the child has made its file `$ready`.
    fn ready(self) -> Shop {
        wait_until("the child is ready", DEADLINE, || self.folder.path().join("ready").exists());
        self
    }

    /// One last commit, and at once the end of the child by `end`; everything must have been shipped.
    #[track_caller]
    fn ends_with(self, end: impl FnOnce(&Running, &PathBuf)) -> Finished {
        self.ends_restored(end).0
    }

    /// The same, and the folder with what was restored.
    #[track_caller]
    fn ends_restored(self, end: impl FnOnce(&Running, &PathBuf)) -> (Finished, TempDir) {
        self.app.sell(1, 1);
        let (replica, restored) = (self.replica(), self.folder.path().join("restored.db"));
        end(&self.process, &self.folder.path().join("go"));
        let finished = self.process.wait(DEADLINE);
        walstream().restore(&file_url(&replica), &restored, &[]);
        assert_same_rows(self.app.path(), &restored);
        (finished, self.folder)
    }
}

fn let_go(_: &Running, go: &PathBuf) {
    std::fs::write(go, "").unwrap();
}

fn terminate(process: &Running, _: &PathBuf) {
    process.signal(rustix::process::Signal::TERM);
}

#[test]
fn a_child_that_succeeds() {
    let finished = Shop::open("until [ -e $go ]; do sleep 0.02; done").ends_with(let_go);
    assert_eq!(finished.status.code(), Some(0), "{finished:#?}");
}

#[test]
fn a_child_that_fails() {
    let finished = Shop::open("until [ -e $go ]; do sleep 0.02; done; exit 3").ends_with(let_go);
    assert_eq!(finished.status.code(), Some(3), "{finished:#?}");
}

#[test]
fn a_child_that_handles_the_forwarded_signal_and_fails() {
    let finished = Shop::open("trap 'exit 7' TERM; while :; do sleep 0.02; done").ends_with(terminate);
    assert_eq!(finished.status.code(), Some(7), "{finished:#?}");
}

#[test]
fn a_child_that_handles_the_forwarded_signal_and_succeeds() {
    let finished = Shop::open("trap 'exit 0' TERM; while :; do sleep 0.02; done").ends_with(terminate);
    assert_eq!(finished.status.code(), Some(0), "{finished:#?}");
}

#[test]
fn a_child_that_dies_of_the_forwarded_signal() {
    let finished = Shop::open("exec sleep 60").ends_with(terminate);
    assert_eq!(finished.status.code(), Some(128 + 15), "{finished:#?}");
}

/// An application that commits a row when it is asked to end, and ends with 143 then. It counts the signals.
const LAST_WORDS: &str = "exec python3 -c '
import signal, sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=30)
def end(number, frame):
    database.execute(\"INSERT INTO item(name, body) VALUES (?, zeroblob(9))\", (\"last words\",))
    database.commit()
    time.sleep(0.1)
    sys.exit(128 + number)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
open(sys.argv[2], \"w\").close()
while True:
    time.sleep(0.02)
' $database $ready";

fn last_words(restored: &Path) -> String {
    let restored = App::open(restored);
    restored.query("SELECT count(*) FROM item WHERE name = 'last words'")
}

#[test]
fn a_child_that_commits_at_the_signal_and_ends_with_143() {
    let (finished, restored) = Shop::open(LAST_WORDS).ready().ends_restored(terminate);
    assert_eq!(finished.status.code(), Some(143), "{finished:#?}");
    assert_eq!(last_words(&restored.path().join("restored.db")), "1");
}

#[test]
fn a_signal_to_the_whole_group_ends_both_and_loses_nothing() {
    // As a terminal does at Ctrl-C: the child has it from there, and once more from its parent.
    let to_group = |process: &Running, _: &PathBuf| {
        let group = Pid::from_raw(process.id().cast_signed()).unwrap();
        rustix::process::kill_process_group(group, rustix::process::Signal::INT).unwrap();
    };
    let (finished, restored) = Shop::open(LAST_WORDS).ready().ends_restored(to_group);
    assert_eq!(finished.status.code(), Some(130), "{finished:#?}");
    assert_ne!(last_words(&restored.path().join("restored.db")), "0");
}

#[test]
fn a_child_that_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path().join("shop.db"));
    let url = file_url(&folder.path().join("replica"));
    let finished =
        walstream().run(["replicate", "-exec", "/no/such/program", app.path().to_str().unwrap(), &url]);
    crate::refusal::assert_refused(&finished, &["/no/such/program"]);
}
