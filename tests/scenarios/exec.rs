//! `replicate -exec`: the child's fate is ours, and its last commit is shipped whatever that fate is.

use std::path::PathBuf;
use std::time::Duration;

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
    /// `child` is a shell script; it may wait for the file `$go` by `until [ -e $go ]; do sleep 0.02; done`.
    fn open(child: &str) -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path().join("shop.db"));
        app.sell(10, 100);
        let script = folder.path().join("child.sh");
        let go = folder.path().join("go");
        std::fs::write(&script, format!("go={}\n{child}\n", go.display())).unwrap();
        let command_line = format!("sh '{}'", script.display());
        let url = file_url(&folder.path().join("replica"));
        let database = app.path().to_str().unwrap();
        let process =
            Running::start(&mut walstream().command(["replicate", "-exec", &command_line, database, &url]));
        let shop = Shop { folder, app, process };
        wait_until("the replica has the start", DEADLINE, || newest_txid(&shop.replica()) > 0);
        shop
    }

    fn replica(&self) -> PathBuf {
        self.folder.path().join("replica")
    }

    /// One last commit, and at once the end of the child by `end`; everything must have been shipped.
    #[track_caller]
    fn ends_with(self, end: impl FnOnce(&Running, &PathBuf)) -> Finished {
        self.app.sell(1, 1);
        let (replica, restored) = (self.replica(), self.folder.path().join("restored.db"));
        end(&self.process, &self.folder.path().join("go"));
        let finished = self.process.wait(DEADLINE);
        walstream().restore(&file_url(&replica), &restored, &[]);
        assert_same_rows(self.app.path(), &restored);
        finished
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

#[test]
fn a_child_that_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path().join("shop.db"));
    let url = file_url(&folder.path().join("replica"));
    let finished =
        walstream().run(["replicate", "-exec", "/no/such/program", app.path().to_str().unwrap(), &url]);
    crate::refusal::assert_refused(&finished, &["/no/such/program"]);
}
