//! `walstream config check`

use crate::args::ConfigArgs;
use crate::config;
use crate::connect::connect;
use crate::error::CliError;
use crate::output;

/// Check the configuration file, and show what it comes to.
///
/// Reads the configuration file as a start of "walstream replicate" would, without starting anything, and prints it
/// with every default and every path in full. What is printed is a configuration file too. Passwords and keys are shown
/// as ***. Exits with 1 if the file cannot be used.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream config check [flags]", after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    #[arg(hide = true)]
    rest: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream config check
  $ walstream config check -config litestream.yml";

/// Checks it.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if !args.rest.is_empty() {
        return Err(CliError::new("too many arguments"));
    }
    let config = config::load(&args.config)?;
    config.print_warnings();
    for database in config.databases()? {
        connect(&database.replica, &database.settings.limits)?;
    }
    output::print(&config.effective()?)?;
    Ok(())
}
