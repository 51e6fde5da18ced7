//! Where the program is process 1, as in a container, or as good as that, nobody stays a zombie.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod common;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use common::{application, until, wait, walstream};
use rustix::process::{getpid, set_child_subreaper};

/// A child whose children outlive their parents by a moment, and that ends with 7 when it is let go.
const CHILD: &str = "for i in 1 2 3; do (sh -c 'echo $$ >> orphans; exec sleep 0.3' &); done
    while [ ! -e go ]; do sleep 0.05; done; exit 7";

/// State and parent of a process, while it is there.
fn look(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

fn orphans(folder: &Path) -> Vec<u32> {
    let text = fs::read_to_string(folder.join("orphans")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[test]
fn orphans_are_let_go_and_the_childs_exit_code_is_still_ours() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    fs::write(folder.path().join("child.sh"), CHILD).unwrap();
    let mut command = walstream();
    command.current_dir(folder.path()).args(["replicate", "-exec", "sh child.sh", "app.db"]);
    command.arg(format!("file://{}/r", folder.path().display()));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let become_heir = || set_child_subreaper(Some(getpid())).map_err(Into::into);
    // SAFETY: it makes one system call, and allocates nothing.
    unsafe { command.pre_exec(become_heir) };
    let daemon = command.spawn().unwrap();
    until("they are its own", || {
        let orphans = orphans(folder.path());
        orphans.len() == 3
            && orphans.iter().all(|&pid| look(pid).is_some_and(|(_, parent)| parent == daemon.id()))
    });
    let orphans = orphans(folder.path());
    until("they are gone", || orphans.iter().all(|&pid| look(pid).is_none()));
    fs::write(folder.path().join("go"), "").unwrap();
    let run = wait(daemon);
    assert_eq!(run.code, Some(7), "{run:?}");
}

#[test]
fn process_1_lets_orphans_go() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    fs::write(folder.path().join("child.sh"), PROCESS_1).unwrap();
    let program = walstream().get_program().to_owned();
    let mut command = std::process::Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"])
        .arg(program);
    command.current_dir(folder.path()).args(["replicate", "-exec", "sh child.sh", "app.db"]);
    command.arg(format!("file://{}/r", folder.path().display()));
    let run = wait(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    assert_eq!(run.code, Some(7), "{run:?}");
    let seen = fs::read_to_string(folder.path().join("seen")).unwrap();
    assert_eq!(seen, "parent 1\ngone\n", "{run:?}");
}

/// Looks at an orphan in a namespace of its own until it is gone.
const PROCESS_1: &str = "(sh -c 'echo $$ > orphan; exec sleep 0.3' &)
    while [ ! -s orphan ]; do :; done
    status=/proc/$(cat orphan)/status
    while ! grep -q '^PPid:.1$' $status; do [ -e $status ] || exit 3; done
    echo parent 1 > seen
    for i in $(seq 200); do
        [ -e $status ] || { echo gone >> seen; exit 7; }
        sleep 0.05
    done
    exit 4";
