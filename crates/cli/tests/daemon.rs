//! The life of `replicate`: signals, the child process, exit codes, logs.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Run, application, files, rows, run, signal, start, start_words, until, wait, walstream};
use rustix::process::Signal;

fn url(folder: &Path) -> String {
    format!("file://{}/r", folder.display())
}

/// Starts the daemon and waits until its first snapshot is on the replica.
fn daemon(folder: &Path, arguments: &str) -> Child {
    let child = start(folder, &format!("replicate {arguments} app.db {}", url(folder)));
    until("the first snapshot is made", || !files(&folder.join("r"), 9).is_empty());
    child
}

/// Starts the daemon with a shell script as its child process, and waits until the script says "ready".
fn daemon_with_child(folder: &Path, script: &str) -> Child {
    fs::write(folder.join("child.sh"), script).unwrap();
    let child = start_words(folder, &["replicate", "-exec", "sh child.sh", "app.db", &url(folder)]);
    until("the child is ready", || folder.join("ready").exists());
    child
}

fn restored_rows(folder: &Path) -> i64 {
    let restored = run(folder, &format!("restore -force -o out.db {}", url(folder)));
    assert_eq!(restored.code, Some(0), "{restored:?}");
    rows(&folder.join("out.db"))
}

fn assert_ended(run: &Run, code: i32) {
    assert_eq!(run.code, Some(code), "{run:?}");
    assert!(run.stdout.contains("walstream shut down"), "{run:?}");
}

#[test]
fn a_signal_ends_it_after_the_last_sync() {
    for kind in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().unwrap();
        let app = application(folder.path());
        let daemon = daemon(folder.path(), "");
        app.execute("INSERT INTO t VALUES (2)", ()).unwrap();
        signal(&daemon, kind);
        assert_ended(&wait(daemon), 0);
        assert_eq!(restored_rows(folder.path()), 2);
    }
}

#[test]
fn the_same_signal_twice_at_once_is_one_signal() {
    let folder = tempfile::tempdir().unwrap();
    let app = application(folder.path());
    let daemon = daemon(folder.path(), "");
    app.execute("INSERT INTO t VALUES (2)", ()).unwrap();
    signal(&daemon, Signal::TERM);
    std::thread::sleep(Duration::from_millis(5));
    // It may have ended already.
    let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), Signal::TERM);
    assert_eq!(wait(daemon).code, Some(0));
    assert_eq!(restored_rows(folder.path()), 2);
}

#[test]
fn a_second_signal_ends_the_last_sync_and_the_exit_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let app = application(folder.path());
    let config = "access-key-id: a\nsecret-access-key: b\ndbs: [{path: app.db, replica: {url: \
                  's3://bucket/x?endpoint=http://127.0.0.1:1'}}]";
    fs::write(folder.path().join("c.yml"), config).unwrap();
    // With local state at hand, changes are captured although the store is away.
    let once = format!("replicate -once app.db {}", url(folder.path()));
    assert_eq!(run(folder.path(), &once).code, Some(0));
    let shadow = folder.path().join(".app.db-litestream");
    let captured = files(&shadow, 0).len();
    let daemon = start(folder.path(), "replicate -config c.yml");
    until("a change is captured", || {
        app.execute("INSERT INTO t VALUES (2)", ()).unwrap();
        files(&shadow, 0).len() > captured
    });
    signal(&daemon, Signal::INT);
    std::thread::sleep(Duration::from_millis(400));
    let second = Instant::now();
    signal(&daemon, Signal::INT);
    let run = wait(daemon);
    assert!(second.elapsed() < Duration::from_secs(5), "{:?} {run:?}", second.elapsed());
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.starts_with("Error: not everything reached the replica of"), "{run:?}");
}

#[test]
fn the_exit_code_is_the_childs_and_its_last_commit_is_shipped() {
    let folder = tempfile::tempdir().unwrap();
    let app = application(folder.path());
    let script = "touch ready; while [ ! -e go ]; do sleep 0.05; done; exit 7";
    let daemon = daemon_with_child(folder.path(), script);
    app.execute("INSERT INTO t VALUES (2)", ()).unwrap();
    fs::write(folder.path().join("go"), "").unwrap();
    assert_ended(&wait(daemon), 7);
    assert_eq!(restored_rows(folder.path()), 2);
}

#[test]
fn a_child_that_ends_at_once_leaves_a_replica_that_can_be_restored() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    let ended =
        wait(start_words(folder.path(), &["replicate", "-exec", "true", "app.db", &url(folder.path())]));
    assert_ended(&ended, 0);
    assert_eq!(restored_rows(folder.path()), 1);
}

#[test]
fn a_child_that_ends_with_an_error_after_a_signal_does_not_cost_the_last_sync() {
    let folder = tempfile::tempdir().unwrap();
    let app = application(folder.path());
    let script = "trap 'touch stopping; while [ ! -e go ]; do sleep 0.05; done; exit 143' TERM; touch ready
        while :; do sleep 0.05; done";
    let daemon = daemon_with_child(folder.path(), script);
    signal(&daemon, Signal::TERM);
    until("the child has got the signal", || folder.path().join("stopping").exists());
    app.execute("INSERT INTO t VALUES (2)", ()).unwrap();
    fs::write(folder.path().join("go"), "").unwrap();
    assert_ended(&wait(daemon), 143);
    assert_eq!(restored_rows(folder.path()), 2);
}

#[test]
fn a_child_that_is_killed_gives_128_and_the_signal() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    let daemon = daemon_with_child(folder.path(), "touch ready; exec sleep 60");
    signal(&daemon, Signal::QUIT);
    assert_ended(&wait(daemon), 128 + 3);
}

#[test]
fn the_child_gets_the_other_signals_and_lives_on() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    let script =
        "trap 'touch got-hup' HUP; trap 'touch got-usr1' USR1; trap 'touch got-usr2' USR2; touch ready
        while [ ! -e go ]; do sleep 0.05; done";
    let daemon = daemon_with_child(folder.path(), script);
    for (kind, file) in [(Signal::HUP, "got-hup"), (Signal::USR1, "got-usr1"), (Signal::USR2, "got-usr2")] {
        signal(&daemon, kind);
        until(file, || folder.path().join(file).exists());
    }
    fs::write(folder.path().join("go"), "").unwrap();
    assert_ended(&wait(daemon), 0);
}

#[test]
fn the_child_has_the_programs_input_and_output() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    let mut command = walstream();
    command.current_dir(folder.path()).args(["replicate", "-exec", "cat", "app.db", &url(folder.path())]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"said to the child\n").unwrap();
    let run = wait(child);
    assert_ended(&run, 0);
    assert!(run.stdout.contains("said to the child"), "{run:?}");
}

#[test]
fn a_missing_database_is_restored_before_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let app = application(folder.path());
    let once = format!("replicate -once -restore-if-db-not-exists app.db {}", url(folder.path()));
    assert_eq!(run(folder.path(), &once).code, Some(0));
    drop(app);
    for name in ["app.db", "app.db-wal", "app.db-shm"] {
        let _ = fs::remove_file(folder.path().join(name));
    }
    fs::remove_dir_all(folder.path().join(".app.db-litestream")).unwrap();
    assert_eq!(run(folder.path(), &once).code, Some(0));
    assert_eq!(rows(&folder.path().join("app.db")), 1);
}

#[test]
fn a_configuration_file_is_replicated_and_restored_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let _app = application(folder.path());
    let config = "logging: {type: json}\ndbs: [{path: app.db, replica: {path: $REPLICA}}]";
    fs::write(folder.path().join("c.yml"), config).unwrap();
    let with_config = |arguments: &str| {
        let output = walstream()
            .current_dir(folder.path())
            .env("REPLICA", folder.path().join("r"))
            .args(arguments.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let log = with_config("replicate -once -config c.yml");
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log}");
    let report = with_config("restore -json -config c.yml -o out.db app.db");
    let report: serde_json::Value = serde_json::from_str(&report).expect("stdout is JSON alone");
    assert_eq!((report["db_path"].as_str(), report["replica"].as_str()), (Some("out.db"), Some("file")));
    assert_eq!(rows(&folder.path().join("out.db")), 1);
    let table = with_config("ltx -config c.yml -level 9 app.db");
    assert!(
        table.starts_with("level  min_txid          max_txid          size  created\n9      00000"),
        "{table}"
    );
    let table = with_config("databases -config c.yml");
    assert_eq!(table.lines().last(), Some(&*format!("{}  file", folder.path().join("app.db").display())));
}

#[test]
fn restore_can_be_told_that_nothing_to_do_is_fine() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(folder.path());
    assert_eq!(run(folder.path(), &format!("restore -if-replica-exists -o out.db {url}")).code, Some(0));
    assert!(!folder.path().join("out.db").exists());
    fs::write(folder.path().join("out.db"), "precious").unwrap();
    assert_eq!(run(folder.path(), &format!("restore -if-db-not-exists -o out.db {url}")).code, Some(0));
    assert_eq!(fs::read_to_string(folder.path().join("out.db")).unwrap(), "precious");
}

#[test]
fn the_demo_tells_its_story() {
    let folder = tempfile::tempdir().unwrap();
    let demo = run(folder.path(), "demo -dir shop");
    assert_eq!((demo.code, demo.stderr.as_str()), (Some(0), ""), "{demo:?}");
    assert!(demo.stdout.contains("orders are back"), "{demo:?}");
    assert!(folder.path().join("shop/restored-earlier.db").exists());
    assert!(!folder.path().join("shop/shop.db").exists());
    run(folder.path(), "demo -dir shop").assert_refused("is not empty");
}
