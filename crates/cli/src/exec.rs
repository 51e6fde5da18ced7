//! The child process of `replicate -exec`: it lives inside the daemon's life.
//!
//! Invariant: whatever way the child ends, the daemon learns of it and goes on to its final sync; the child's
//! own exit code becomes the daemon's.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::SignalKind;

use crate::error::CliError;

/// A running child.
pub(crate) struct Child(tokio::process::Child);

impl Child {
    /// Starts a command line, split like a shell splits words, without a shell. The child has our
    /// environment, stdin, stdout and stderr. Arguments may hold secrets, so no error repeats them.
    pub(crate) fn spawn(command_line: &str) -> Result<Self, CliError> {
        let words = shell_words::split(command_line)
            .map_err(|error| CliError::new(format!("cannot parse exec command: {error}")))?;
        let [program, arguments @ ..] = words.as_slice() else {
            return Err(CliError::new("cannot exec: the command is empty"));
        };
        let child = Command::new(program)
            .args(arguments)
            .spawn()
            .map_err(|error| CliError::new(format!("cannot start exec command {program:?}: {error}")))?;
        Ok(Child(child))
    }

    /// Waits for the end. May be dropped and called again.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.wait().await
    }

    /// Gone once the child has been waited for, so no other process can be hit.
    pub(crate) fn id(&self) -> Option<Pid> {
        Pid::from_raw(self.0.id()?.try_into().ok()?)
    }

    /// Hands a signal on. A child that has just ended gets none, which is fine.
    pub(crate) fn forward(&self, signal: SignalKind) {
        if let (Some(pid), Some(signal)) = (self.id(), Signal::from_named_raw(signal.as_raw_value()))
            && let Err(error) = kill_process(pid, signal)
        {
            tracing::warn!(%error, "cannot signal exec process");
        }
    }
}

/// What a shell would report: the child's code, or 128 and the number of the signal that killed it.
pub(crate) fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn run(command_line: &str) -> u8 {
        exit_code(Child::spawn(command_line).unwrap().wait().await.unwrap())
    }

    #[tokio::test]
    async fn the_exit_code_is_the_childs() {
        assert_eq!(run("true").await, 0);
        assert_eq!(run("sh -c 'exit 7'").await, 7);
        assert_eq!(run("sh -c 'kill -9 $$'").await, 137);
    }

    #[tokio::test]
    async fn signals_reach_the_child() {
        let mut child = Child::spawn("sleep 60").unwrap();
        child.forward(SignalKind::terminate());
        assert_eq!(exit_code(child.wait().await.unwrap()), 143);
        child.forward(SignalKind::terminate());
    }

    #[tokio::test]
    async fn a_command_that_cannot_start_is_named() {
        let message = |line: &str| Child::spawn(line).err().unwrap().to_string();
        assert!(message("/no/such/program x").starts_with("cannot start exec command \"/no/such/program\""));
        assert!(message("sh -c 'open").starts_with("cannot parse exec command"));
        assert_eq!(message("  "), "cannot exec: the command is empty");
    }
}
