//! Running the commands of this program for the tools.
//!
//! Invariant: bounded, in processes and in memory. Whoever goes away before the end takes the command along.

use std::io;
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::args::ConfigArgs;

/// This program, whatever has become of the file that it was started from.
const PROGRAM: &str = "/proc/self/exe";
/// So many commands at the same time.
const AT_ONCE: usize = 4;
/// More than this is not handed on.
const MAX_OUTPUT: u64 = 1 << 20;

/// Runs commands. Cheap to clone.
#[derive(Clone)]
pub(super) struct Runner {
    config: ConfigArgs,
    permits: Arc<Semaphore>,
}

/// What a command said, and whether it failed.
#[derive(Default)]
pub(super) struct Said {
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) failed: bool,
}

impl Runner {
    pub(super) fn new(config: ConfigArgs) -> Self {
        Runner { config, permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Whether the configuration file is to be read as it is.
    pub(super) fn no_expand_env(&self) -> bool {
        self.config.no_expand_env
    }

    /// Runs a command line to its end. Where it names no configuration file, the daemon's counts.
    pub(super) async fn run(&self, words: &[String]) -> io::Result<Said> {
        // Never closed; if it were, there would be no bound and nothing worse.
        let _permit = self.permits.acquire().await;
        let mut command = Command::new(PROGRAM);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(config) = &self.config.config {
            command.env("LITESTREAM_CONFIG", std::path::absolute(config)?);
        }
        // The service manager is not to hear from it.
        let mut child = command.env_remove("NOTIFY_SOCKET").kill_on_drop(true).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (stdout, stderr) = tokio::try_join!(read(stdout), read(stderr))?;
        let status = child.wait().await?;
        Ok(Said { stdout, stderr, failed: !status.success() })
    }
}

/// Reads to the end, or as much as is handed on; the command cannot write more then, and ends.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_OUTPUT).read_to_end(&mut bytes).await?;
    }
    let cut = if bytes.len() as u64 == MAX_OUTPUT { "\n… there is more\n" } else { "" };
    Ok(String::from_utf8_lossy(&bytes).into_owned() + cut)
}
