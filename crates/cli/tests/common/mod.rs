//! Runs the program as a user does, and plays the application beside it.
#![allow(dead_code, clippy::expect_used, reason = "every test binary uses its own part, and may fail loudly")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, with nothing in the environment that could lead it astray.
pub(crate) fn walstream() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walstream"));
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("LITESTREAM_") || name_text.starts_with("AWS_") || name_text == "LOG_LEVEL" {
            command.env_remove(&name);
        }
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true").stdin(Stdio::null());
    command
}

/// Runs to the end. The arguments are separated by spaces.
pub(crate) fn run(folder: &Path, arguments: &str) -> Run {
    wait(start(folder, arguments))
}

/// Starts with both outputs caught.
pub(crate) fn start(folder: &Path, arguments: &str) -> Child {
    start_words(folder, &arguments.split_whitespace().collect::<Vec<_>>())
}

/// [`start`] for arguments that hold spaces.
pub(crate) fn start_words(folder: &Path, arguments: &[&str]) -> Child {
    let mut command = walstream();
    command.current_dir(folder).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

/// Waits for the end and collects what was printed.
pub(crate) fn wait(child: Child) -> Run {
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes| String::from_utf8(bytes).expect("the output is text");
    Run { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Sends a signal.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).expect("the program runs");
}

/// Waits until something is so, for at most 20 seconds.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An application's database in WAL mode, `app.db`, with one table and one row.
pub(crate) fn application(folder: &Path) -> Connection {
    let connection = Connection::open(folder.join("app.db")).expect("open");
    connection
        .execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (x INTEGER); INSERT INTO t VALUES (1);")
        .expect("create");
    connection
}

/// How many rows a database holds.
pub(crate) fn rows(path: &Path) -> i64 {
    let connection = Connection::open(path).expect("open");
    connection.query_row("SELECT count(*) FROM t", (), |row| row.get(0)).expect("count")
}

/// The files of a level of a directory replica, in order.
pub(crate) fn files(replica: &Path, level: u8) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(replica.join(format!("ltx/{level}"))) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("list").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ltx"));
    files.sort();
    files
}

impl Run {
    /// A mistake of the user's is answered with one sentence and at most one line of advice.
    pub(crate) fn assert_refused(&self, sentence: &str) {
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(lines.first().is_some_and(|line| line.starts_with("Error: ")), "{self:?}");
        assert!(lines.len() <= 2, "{self:?}");
        assert!(lines.get(1).is_none_or(|l| l.starts_with("Try: ") || l.starts_with("Hint: ")), "{self:?}");
        assert!(lines[0].contains(sentence), "expected {sentence:?} in {self:?}");
    }
}
