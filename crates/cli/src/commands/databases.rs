//! `walstream databases`

use serde::Serialize;

use crate::args::ConfigArgs;
use crate::config;
use crate::error::CliError;
use crate::output;

/// List the databases of the configuration file.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream databases [flags]", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,

    #[arg(hide = true)]
    rest: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream databases
  $ walstream databases -config litestream.yml -json";

#[derive(Serialize)]
struct Row {
    path: String,
    replica: &'static str,
}

/// Lists them.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if !args.rest.is_empty() {
        return Err(CliError::new("too many arguments"));
    }
    let config = config::load(&args.config)?;
    config.print_warnings();
    let rows: Vec<Row> = (config.databases()?.iter())
        .map(|database| Row { path: database.path.display().to_string(), replica: database.replica.kind() })
        .collect();
    output::print(&match args.json {
        true => output::json(&rows),
        false => {
            let rows: Vec<_> = rows.into_iter().map(|row| [row.path, row.replica.to_owned()]).collect();
            output::table(["path", "replica"], &rows)
        }
    })?;
    Ok(())
}
