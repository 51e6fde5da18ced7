//! `walstream list`

use super::control::QuestionArgs;
use crate::error::CliError;
use crate::output;
use crate::socket::messages::ListAnswer;

/// List the databases of a daemon.
///
/// Shows every database that a running daemon has in its list, whether it is replicated or stopped, and until when
/// everything that was committed is on its replica.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream list [flags]", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    question: QuestionArgs,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream list
  $ walstream list -socket /tmp/litestream.sock -json";

/// Asks it.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    args.question.ask("list", text).await
}

fn text(list: &ListAnswer) -> String {
    if list.databases.is_empty() {
        return "No databases configured\n".to_owned();
    }
    let databases = list.databases.iter().map(|database| {
        let last_sync = database.last_sync_at.as_deref().map(output::whole_seconds);
        let last_sync = last_sync.unwrap_or_else(|| "never".to_owned());
        format!("{} [{}] (last sync: {last_sync})\n", database.path, database.status)
    });
    databases.collect()
}
