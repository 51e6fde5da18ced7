//! The two programs that are compared. They take the same command line, so one type drives both: a test says
//! which of them does what, and never cares how.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::moto::Moto;
use crate::process::{Finished, Running, run};
use crate::tools::{Tool, tool};

/// The longest that any command of these tests may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(240);
/// The longest that a daemon may take to stop; both programs try for 30 s to ship what is left.
const STOP_DEADLINE: Duration = Duration::from_secs(45);

/// Litestream or walstream.
#[derive(Clone, Debug)]
pub struct Program {
    /// For messages, "litestream" or "walstream".
    pub name: &'static str,
    path: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Program {
    /// The peer: the real Litestream 0.5.17.
    pub fn litestream() -> Program {
        Program { name: "litestream", path: tool(Tool::Litestream), environment: Vec::new() }
    }

    /// The real Litestream 0.3.13.
    pub fn litestream_03() -> Program {
        Program { name: "litestream-0.3.13", path: tool(Tool::Litestream03), environment: Vec::new() }
    }

    /// This workspace's program; a test passes `env!("CARGO_BIN_EXE_walstream")`.
    ///
    /// `WALSTREAM_TEST_SUBJECT=litestream` puts the peer in its place, which shows what a test expects of either.
    pub fn walstream(path: &str) -> Program {
        match std::env::var("WALSTREAM_TEST_SUBJECT").as_deref() {
            Ok("litestream") => Program::litestream(),
            _ => Program { name: "walstream", path: path.into(), environment: Vec::new() },
        }
    }

    /// The program with these environment variables too, such as those that lead to a server.
    #[must_use]
    pub fn with(mut self, variables: impl IntoIterator<Item = (&'static str, String)>) -> Program {
        self.environment.extend(variables);
        self
    }

    /// Whether this is the peer.
    pub fn is_peer(&self) -> bool {
        self.name != "walstream"
    }

    /// A command line, in an environment that has nothing of the developer's own but `PATH`.
    pub fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.path);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", "/nonexistent");
        command.envs(Moto::environment()).envs(self.environment.iter().cloned()).args(arguments);
        command
    }

    /// Runs a command line to its end, whatever that is.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        run(&mut self.command(arguments), COMMAND_DEADLINE)
    }

    /// `replicate -once`: ships what the replica lacks. Fails the test if the program does.
    #[track_caller]
    pub fn replicate_once(&self, database: &Path, url: &str) -> Finished {
        self.run(["replicate".as_ref(), "-once".as_ref(), database.as_os_str(), url.as_ref()]).success()
    }

    /// `replicate`: a daemon for one database.
    pub fn replicate(&self, database: &Path, url: &str) -> Daemon {
        self.start(["replicate".as_ref(), database.as_os_str(), url.as_ref()])
    }

    /// `replicate -config`: a daemon as a configuration file describes it.
    pub fn replicate_config(&self, config: &Path) -> Daemon {
        self.start(["replicate".as_ref(), "-config".as_ref(), config.as_os_str()])
    }

    fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Daemon {
        Daemon { process: Running::start(&mut self.command(arguments)) }
    }

    /// `restore -o output [flags] url`, whatever comes of it.
    #[track_caller]
    pub fn try_restore(&self, url: &str, output: &Path, flags: &[&str]) -> Finished {
        let mut arguments: Vec<&OsStr> = vec!["restore".as_ref(), "-o".as_ref(), output.as_os_str()];
        arguments.extend(flags.iter().map(OsStr::new));
        arguments.push(url.as_ref());
        self.run(arguments)
    }

    /// `restore -o output [flags] url`, which must succeed.
    #[track_caller]
    pub fn restore(&self, url: &str, output: &Path, flags: &[&str]) {
        self.try_restore(url, output, flags).success();
    }
}

/// A running `replicate`.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub process: Running,
}

impl Daemon {
    /// Waits until it says that it replicates; before that a signal may still find no handler.
    #[track_caller]
    pub fn ready(mut self) -> Daemon {
        self.process.wait_for_output("replicating to", COMMAND_DEADLINE);
        self
    }

    /// SIGTERM; the daemon ships what is left and must end with exit code 0.
    #[track_caller]
    pub fn stop(self) -> Finished {
        self.process.stop(STOP_DEADLINE).success()
    }

    /// SIGKILL, at once.
    pub fn kill_9(self) {
        self.process.kill_9();
    }
}
