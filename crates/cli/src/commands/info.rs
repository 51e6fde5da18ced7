//! `walstream info`

use std::time::Duration;

use super::control::ControlArgs;
use crate::config::GoDuration;
use crate::error::CliError;
use crate::output;
use crate::socket::messages::InfoAnswer;

/// Show what a daemon is.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream info [flags]", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    control: ControlArgs,

    /// How many seconds to wait for an answer. Default 10.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: i64,

    #[arg(hide = true)]
    rest: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream info
  $ walstream info -socket /tmp/litestream.sock -json";

/// Asks it.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    if !args.rest.is_empty() {
        return Err(CliError::new("too many arguments"));
    }
    let info: InfoAnswer = args.control.connect(args.timeout)?.get("info").await?;
    let uptime = GoDuration::from(Duration::from_secs(info.uptime_seconds));
    let started_at = output::whole_seconds(&info.started_at);
    let program = info.program.as_deref().unwrap_or("Litestream");
    let (version, pid, databases) = (&info.version, info.pid, info.database_count);
    let text = format!(
        "{program} {version}\n  PID:        {pid}\n  Uptime:     {uptime}\n  Started at: {started_at}\n  Databases:  {databases}\n"
    );
    output::print(&if args.control.json { output::json(&info) } else { text })?;
    Ok(())
}
