//! Child processes that cannot outlive their test: ended by id on drop, and limited in time.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use crate::wait::eventually;

/// A program that came to its end.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Finished {
    /// Itself, if it ended with exit code 0; else the test fails with everything that the program said.
    #[track_caller]
    pub fn success(self) -> Finished {
        assert!(self.status.success(), "{self:#?}");
        self
    }
}

/// A program that is running, with its output in files, so that a full pipe never blocks it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
}

impl Running {
    /// Starts `command` with its output captured.
    pub fn start(command: &mut Command) -> Running {
        let (stdout, stderr) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout.reopen().unwrap())
            .stderr(stderr.reopen().unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        Running { child, stdout, stderr }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(self.stdout.path())
    }

    /// Everything it has written to standard error so far.
    pub fn stderr(&self) -> String {
        read_lossy(self.stderr.path())
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal; that the process has just ended is no failure.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process id is positive");
        let _ = kill_process(pid, signal);
    }

    /// Ends it as a machine that loses power would: no handler runs.
    pub fn kill_9(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop (SIGTERM) and waits for its end.
    #[track_caller]
    pub fn stop(self, deadline: Duration) -> Finished {
        self.signal(Signal::TERM);
        self.wait(deadline)
    }

    /// Ends a server that `timeout` runs: that hands a TERM on, while the KILL of dropping would hit `timeout` alone.
    pub fn end(&mut self) {
        self.signal(Signal::TERM);
        let ended = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            !self.is_running()
        });
        if !ended {
            eprintln!("process {} did not end within 5 s; `timeout` will end it", self.id());
        }
    }

    /// Waits for its end; past the deadline it is killed and the test fails.
    #[track_caller]
    pub fn wait(mut self, deadline: Duration) -> Finished {
        let start = std::time::Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if start.elapsed() > deadline {
                let said = format!("stdout:\n{}\nstderr:\n{}", self.stdout(), self.stderr());
                panic!("process {} has not ended within {deadline:?}; {said}", self.id());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Finished { status, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Waits until its output (either stream) holds `text`; fails at once if the process ends before.
    #[track_caller]
    pub fn wait_for_output(&mut self, text: &str, deadline: Duration) {
        eventually(&format!("process says {text:?}"), deadline, || {
            let said = self.stdout() + &self.stderr();
            assert!(
                said.contains(text) || self.is_running(),
                "process ended without saying {text:?}:\n{said}"
            );
            said.contains(text).then_some(())
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, within `deadline`.
#[track_caller]
pub fn run(command: &mut Command, deadline: Duration) -> Finished {
    Running::start(command).wait(deadline)
}

fn read_lossy(path: &Path) -> String {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
