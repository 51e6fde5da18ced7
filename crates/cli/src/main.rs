//! `walstream`: streaming replication for SQLite.
//!
//! | question | module |
//! |---|---|
//! | what was typed | `args`, `argv`, `moment`, `help` |
//! | what it does | `commands`, one file each |
//! | what the configuration file says | `config` |
//! | keeping databases replicated | `daemon`, `connect` |
//! | what can be seen of it meanwhile | `http`, `heartbeat`, `systemd` |
//! | what can be asked of it meanwhile | `socket`, `mcp` |
//! | the process around it | `logging`, `signals`, `exec`, `orphans`, `output`, `progress`, `memory` |

mod args;
mod argv;
mod commands;
mod config;
mod connect;
mod daemon;
mod error;
mod exec;
mod heartbeat;
mod help;
mod http;
mod logging;
mod mcp;
mod memory;
mod moment;
mod orphans;
mod output;
mod progress;
mod signals;
mod socket;
mod systemd;

use std::process::ExitCode;
use std::time::Duration;

use args::{Command, Invocation};
use commands::{
    config_check, databases, demo, info, list, ltx, manual, register, replicate, reset, restore, snapshot,
    start, status, stop, sync, unregister, verify, version,
};
use error::CliError;

fn main() -> ExitCode {
    memory::prefer_small();
    let done = args::parse(std::env::args_os().skip(1)).and_then(run);
    logging::finish();
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", error.report());
            ExitCode::FAILURE
        }
    }
}

fn run(invocation: Invocation) -> Result<ExitCode, CliError> {
    let command = match invocation {
        Invocation::Run(command) => command,
        Invocation::Print { text, success } => {
            output::print(&text)?;
            return Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    };
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Replicate(args) => block_on(replicate::run(args)),
        Command::Restore(args) => block_on(restore::run(args)),
        Command::Ltx(args) => block_on(ltx::run(args)).map(done),
        Command::LtxVerify(args) => ltx::verify::run(&args).map(done),
        Command::LtxDump(args) => ltx::dump::run(&args).map(done),
        Command::LtxApply(args) => ltx::apply::run(&args).map(done),
        Command::LtxDiff(args) => block_on(ltx::diff::run(args)).map(done),
        Command::Databases(args) => databases::run(&args).map(done),
        Command::ConfigCheck(args) => config_check::run(&args).map(done),
        Command::Status(args) => status::run(&args).map(done),
        Command::Reset(args) => reset::run(&args).map(done),
        Command::Info(args) => block_on(info::run(args)).map(done),
        Command::List(args) => block_on(list::run(args)).map(done),
        Command::Register(args) => block_on(register::run(args)).map(done),
        Command::Unregister(args) => block_on(unregister::run(args)).map(done),
        Command::Start(args) => block_on(start::run(args)).map(done),
        Command::Stop(args) => block_on(stop::run(args)).map(done),
        Command::Sync(args) => block_on(sync::run(args)).map(done),
        Command::Snapshot(args) => block_on(snapshot::run(args)).map(done),
        Command::Verify(args) => block_on(verify::run(args)).map(done),
        Command::Demo(args) => block_on(demo::run(args)).map(done),
        Command::Manual(args) => manual::run(&args).map(done),
        Command::Version(args) => version::run(&args).map(done),
    }
}

fn block_on<T>(future: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| CliError::new(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(future);
    // A request that hangs in a blocking thread must not keep the process alive.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}
