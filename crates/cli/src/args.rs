//! The command line: which commands there are, and from arguments to one of them.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{CommandFactory, Parser, Subcommand};

use crate::argv::{Arguments, normalise};
use crate::commands::{
    config_check, databases, demo, info, list, ltx, manual, register, replicate, reset, restore, snapshot,
    start, status, stop, sync, unregister, verify, version,
};
use crate::error::{CliError, nearest};
use crate::help;

/// walstream replicates SQLite databases to a directory or a bucket while they are in use, and restores
/// them to any point in time
#[derive(Debug, Parser)]
#[command(
    name = "walstream",
    args_override_self = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    disable_version_flag = true,
    after_help = MAIN_EXAMPLES
)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

const MAIN_EXAMPLES: &str = "\
Examples:
  # See it work, without any set-up.
  $ walstream demo

  # Replicate one database to a directory, and get it back.
  $ walstream replicate app.db file:///backup/app
  $ walstream restore -o restored.db file:///backup/app

  # Replicate the databases of a configuration file.
  $ walstream replicate -config /etc/litestream.yml

\"walstream COMMAND -help\" tells more about a command. Flags may be written with
one dash or with two.";

/// What to do.
#[derive(Debug, Subcommand)]
#[command(disable_help_flag = true)]
pub(crate) enum Command {
    Replicate(replicate::Args),
    Restore(restore::Args),
    #[command(alias = "wal")]
    Ltx(ltx::Args),
    #[command(name = "ltx verify", hide = true)]
    LtxVerify(ltx::verify::Args),
    #[command(name = "ltx dump", hide = true)]
    LtxDump(ltx::dump::Args),
    #[command(name = "ltx apply", hide = true)]
    LtxApply(ltx::apply::Args),
    #[command(name = "ltx diff", hide = true)]
    LtxDiff(ltx::diff::Args),
    Databases(databases::Args),
    #[command(name = "config check")]
    ConfigCheck(config_check::Args),
    Status(status::Args),
    Reset(reset::Args),
    Info(info::Args),
    List(list::Args),
    Register(register::Args),
    Unregister(unregister::Args),
    Start(start::Args),
    Stop(stop::Args),
    Sync(sync::Args),
    Snapshot(snapshot::Args),
    Verify(verify::Args),
    Demo(demo::Args),
    #[command(hide = true)]
    Manual(manual::Args),
    Version(version::Args),
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ConfigArgs {
    /// Configuration file. Without this flag, $LITESTREAM_CONFIG or else /etc/litestream.yml.
    #[arg(long, value_name = "PATH")]
    pub(crate) config: Option<PathBuf>,

    /// Leave $NAME and ${NAME} in the configuration file as they are.
    #[arg(long)]
    pub(crate) no_expand_env: bool,
}

/// What the arguments ask for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Run a command.
    Run(Command),
    /// Print a text on stdout; `success` decides the exit code.
    Print { text: String, success: bool },
}

/// Reads the arguments after the program's own name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, CliError> {
    let mut arguments = arguments.into_iter().peekable();
    let program = definition();
    let Some(name) = next_name(&program, &mut arguments) else {
        return Ok(Invocation::Print { text: help::main_page(&program), success: false });
    };
    match name.to_str() {
        Some("help" | "-h" | "-help" | "--help") => {
            let name = next_name(&program, &mut arguments);
            return help_for(&program, name);
        }
        Some(flag) if flag.starts_with('-') => {
            return Err(CliError::new(format!("{flag} must be positioned after a command"))
                .with_try("walstream help"));
        }
        _ => {}
    }
    let command = find(&program, &name)?;
    let normal = match normalise(command, arguments)? {
        Arguments::Help => return Ok(Invocation::Print { text: help::command_page(command), success: true }),
        Arguments::Normal(normal) => normal,
    };
    let whole = ["walstream".into(), OsString::from(command.get_name())].into_iter().chain(normal);
    match Program::try_parse_from(whole) {
        Ok(program) => Ok(Invocation::Run(program.command)),
        Err(error) => Err(explain(&error)),
    }
}

/// The whole command line, as clap knows it.
pub(crate) fn definition() -> clap::Command {
    let mut program = Program::command();
    program.build();
    program
}

/// The name of a command: one word, or two where there is a command of two.
fn next_name(
    program: &clap::Command,
    arguments: &mut Peekable<impl Iterator<Item = OsString>>,
) -> Option<OsString> {
    let first = arguments.next()?;
    let both = arguments.peek().map(|second| [first.as_os_str(), second].join(OsStr::new(" ")));
    match both.filter(|both| program.find_subcommand(both).is_some()) {
        Some(both) => arguments.next().map(|_| both),
        None => Some(first),
    }
}

fn help_for(program: &clap::Command, name: Option<OsString>) -> Result<Invocation, CliError> {
    let text = match name {
        Some(name) => help::command_page(find(program, &name)?),
        None => help::main_page(program),
    };
    Ok(Invocation::Print { text, success: true })
}

fn find<'a>(program: &'a clap::Command, name: &OsString) -> Result<&'a clap::Command, CliError> {
    if let Some(command) = program.find_subcommand(name) {
        return Ok(command);
    }
    let name = name.to_string_lossy();
    let known = program.get_subcommands().map(clap::Command::get_name);
    let error = CliError::new(format!("walstream {name}: unknown command"));
    Err(match nearest(&name, known) {
        Some(near) => error.with_suggestion(Some(format!("\"walstream {near}\""))),
        None => error.with_try("walstream help"),
    })
}

/// clap has only values left to complain about: flags and their number were looked at before.
fn explain(error: &clap::Error) -> CliError {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let flag = context(ContextKind::InvalidArg).trim_start_matches('-');
    let flag = flag.split([' ', '=']).next().unwrap_or_default();
    let value = context(ContextKind::InvalidValue);
    let reason = match (error.get(ContextKind::ValidValue), std::error::Error::source(error)) {
        (Some(ContextValue::Strings(valid)), _) => format!("write one of {}", valid.join(", ")),
        (_, Some(source)) => source.to_string(),
        _ => return CliError::new(error.kind().to_string()),
    };
    CliError::new(format!("invalid value {value:?} for flag -{flag}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(line: &str) -> String {
        match parse(line.split_whitespace().map(OsString::from)) {
            Ok(Invocation::Print { text, success }) => {
                format!("exit {}\n{text}", if success { 0 } else { 1 })
            }
            Ok(Invocation::Run(command)) => format!("{command:?}"),
            Err(error) => error.report(),
        }
    }

    #[test]
    fn without_a_command_the_usage_is_printed_and_it_is_a_failure() {
        assert!(outcome("").starts_with("exit 1\nwalstream replicates SQLite databases"));
        insta::assert_snapshot!("help-main", outcome("help"));
    }

    #[test]
    fn every_command_explains_itself() {
        let commands =
            ["replicate", "restore", "ltx", "databases", "status", "reset", "verify", "demo", "version"];
        let of_daemons = ["info", "list", "register", "unregister", "start", "stop", "sync", "snapshot"];
        let of_two_words = ["config check", "ltx verify", "ltx dump", "ltx apply", "ltx diff"];
        for command in commands.into_iter().chain(of_daemons).chain(of_two_words) {
            let page = outcome(&format!("{command} -h"));
            insta::assert_snapshot!(format!("help-{}", command.replace(' ', "-")), page);
            assert_eq!(page, outcome(&format!("help {command}")));
            assert!(page.lines().all(|line| line.chars().count() <= 80), "{command} has a long line");
        }
    }

    #[test]
    fn a_flag_that_is_given_twice_has_its_last_value() {
        let twice = outcome("databases -config a -json -config b -json");
        assert_eq!(twice, outcome("databases -config b -json"));
        assert_eq!(outcome("databases -json -json=false"), outcome("databases"));
    }

    #[test]
    fn mistakes_are_answered_with_one_sentence_and_advice() {
        insta::assert_snapshot!(
            [
                "replicat",
                "frobnicate",
                "status",
                "-config x",
                "restore -txid 3 db",
                "restore -timestamp yesterday db",
                "restore -integrity-check some db",
                "restore -parallelism many db",
                "restore -parallelism 0 db",
                "ltx -level 10 db",
                "ltx -level x db",
                "ltx verify -level 0 file",
                "replicate -log-level loud",
                "replicate -confg x",
                "help restor",
            ]
            .map(|line| format!("$ walstream {line}\n{}", outcome(line)))
            .join("\n\n")
        );
    }
}
