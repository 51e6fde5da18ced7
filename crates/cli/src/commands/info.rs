//! `walstream info`

use std::time::Duration;

use super::control::QuestionArgs;
use crate::config::GoDuration;
use crate::error::CliError;
use crate::output;
use crate::socket::messages::InfoAnswer;

/// Show what a daemon is.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream info [flags]", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    question: QuestionArgs,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream info
  $ walstream info -socket /tmp/litestream.sock -json";

/// Asks it.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    args.question.ask("info", text).await
}

fn text(info: &InfoAnswer) -> String {
    let uptime = GoDuration::from(Duration::from_secs(info.uptime_seconds));
    let started_at = output::whole_seconds(&info.started_at);
    let program = info.program.as_deref().unwrap_or("Litestream");
    let (version, pid, databases) = (&info.version, info.pid, info.database_count);
    format!(
        "{program} {version}\n  PID:        {pid}\n  Uptime:     {uptime}\n  Started at: {started_at}\n  Databases:  {databases}\n"
    )
}
