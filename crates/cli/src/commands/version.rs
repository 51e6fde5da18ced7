//! `walstream version`

use crate::error::CliError;
use crate::output;

/// Print the version.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream version [flags]")]
pub(crate) struct Args {
    /// Also print what this program was built from and for.
    #[arg(long)]
    verbose: bool,
}

/// The version of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints it.
pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let text = match args.verbose {
        false => format!("{VERSION}\n"),
        true => format!(
            "Version:     {VERSION}\nSQLite:      {}\nOS/Arch:     {}/{}\n",
            rusqlite::version(),
            std::env::consts::OS,
            std::env::consts::ARCH
        ),
    };
    output::print(&text)?;
    Ok(())
}
