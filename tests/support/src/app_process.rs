//! An application in a process of its own.
//!
//! POSIX locks belong to a process: an application inside the test process would share them with an engine under
//! test there, and lose them whenever the engine closes a file. So beside an in-process engine the application is
//! this, and it can be killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Stranger;
use crate::tools::own_program;

/// A process that holds one SQLite connection and runs what it is told.
pub struct AppProcess {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl AppProcess {
    /// Opens (or creates) a database in a new process; it is left in SQLite's defaults, journal mode included.
    pub fn open(database: &Path) -> AppProcess {
        AppProcess::start(Command::new(own_program("walstream-test-app")).arg(database))
    }

    /// [`AppProcess::open`], by another user.
    pub fn open_as(stranger: Stranger, database: &Path) -> AppProcess {
        let mut command = Command::new(own_program("walstream-test-app"));
        stranger.runs(command.arg(database));
        AppProcess::start(&mut command)
    }

    fn start(command: &mut Command) -> AppProcess {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test application starts");
        let requests = child.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        AppProcess { child, requests, answers }
    }

    /// Runs a script of SQL on its connection. The answer is the first value of the last row, if any statement gave
    /// rows, else "ok".
    #[track_caller]
    pub fn execute(&mut self, sql: &str) -> String {
        self.try_execute(sql).unwrap_or_else(|reason| panic!("{sql}: {reason}"))
    }

    /// Like [`AppProcess::execute`], with SQLite's error as a value.
    pub fn try_execute(&mut self, sql: &str) -> Result<String, String> {
        writeln!(self.requests, "{}", sql.replace('\n', " ")).expect("the test application reads");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the test application answers");
        let answer = answer.trim_end();
        match answer.split_once(' ') {
            Some(("row", value)) => Ok(value.to_owned()),
            Some(("error", reason)) => Err(reason.to_owned()),
            _ if answer == "ok" => Ok(answer.to_owned()),
            _ => panic!("the test application died; its last words were {answer:?}"),
        }
    }

    /// Ends it as a crash would: no connection is closed, no WAL is folded in.
    pub fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in order: the connection is closed.
    pub fn close(self) {
        let AppProcess { mut child, requests, answers } = self;
        drop(requests);
        child.wait().unwrap();
        drop(answers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_with_the_last_value_or_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let mut app = AppProcess::open(&folder.path().join("app.db"));
        assert_eq!(app.execute("PRAGMA journal_mode = WAL"), "wal");
        assert_eq!(app.execute("CREATE TABLE t(x); INSERT INTO t VALUES (1), (2)"), "ok");
        assert_eq!(app.execute("SELECT count(*) FROM t"), "2");
        assert!(app.try_execute("SELECT * FROM missing").unwrap_err().contains("no such table"));
        app.kill_9();
    }
}
