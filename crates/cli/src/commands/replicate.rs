//! `walstream replicate`

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::sync::Arc;

use tracing_subscriber::filter::LevelFilter;
use walstream_engine::OnceOptions;
use walstream_storage::ReplicaConfig;

use crate::args::ConfigArgs;
use crate::config::{self, DatabaseConfig, expand_path};
use crate::daemon::{self, Job, Reread};
use crate::error::CliError;
use crate::logging;
use crate::mcp::Mcp;

/// Replicate databases for as long as it runs.
///
/// Follows every database of the configuration file, or the one database that is named, and writes each change
/// to its replica. Applications need no change and may start and stop at any time. On SIGINT or SIGTERM
/// everything is written to the replica before the program ends; a second signal ends it at once.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "walstream replicate [flags]\nwalstream replicate [flags] DB_PATH REPLICA_URL",
    after_help = EXAMPLES
)]
pub(crate) struct Args {
    #[command(flatten)]
    config: ConfigArgs,

    /// Run this command as a child process, replicate for as long as it runs, and exit with its exit code.
    /// Signals are passed on to it.
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,

    /// Write everything that is new to the replicas, then exit.
    #[arg(long)]
    once: bool,

    /// Also write a full snapshot of every database. Needs -once.
    #[arg(long)]
    force_snapshot: bool,

    /// Also delete what is older than the retention. Needs -once.
    #[arg(long)]
    enforce_retention: bool,

    /// Before it starts, restore every database that does not exist and has a backup.
    #[arg(long)]
    restore_if_db_not_exists: bool,

    /// Least important messages to log: trace, debug, info, warn or error. Wins over $LOG_LEVEL and over the
    /// configuration file.
    #[arg(long, value_name = "LEVEL", value_parser = logging::level_flag)]
    log_level: Option<LevelFilter>,

    #[arg(hide = true)]
    databases: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # Every database of /etc/litestream.yml.
  $ walstream replicate

  # One database, without a configuration file.
  $ walstream replicate /path/to/db s3://bucket/db

  # Start an application together with its replication, as in a container.
  $ walstream replicate -exec \"myapp -port 8080\" /path/to/db s3://bucket/db

  # Bring the replicas up to date from a cron job.
  $ walstream replicate -once -config litestream.yml";

/// Replicates until it is told to end, or once.
pub(crate) async fn run(args: Args) -> Result<ExitCode, CliError> {
    let log_level = args.log_level;
    let once = once_options(&args)?;
    let mut job = job(&args)?;
    if once.is_some() && job.exec.is_some() {
        return Err(CliError::new("cannot specify -once flag with -exec"));
    }
    logging::start(job.logging, log_level);
    for warning in job.warnings.drain(..) {
        tracing::warn!("{warning}");
    }
    match once {
        Some(once) => daemon::run_once(&job, once).await.map(|()| ExitCode::SUCCESS),
        None => daemon::run(job).await,
    }
}

fn once_options(args: &Args) -> Result<Option<OnceOptions>, CliError> {
    for (flag, given) in
        [("-force-snapshot", args.force_snapshot), ("-enforce-retention", args.enforce_retention)]
    {
        if given && !args.once {
            return Err(CliError::new(format!("cannot specify {flag} flag without -once")));
        }
    }
    let options =
        OnceOptions { force_snapshot: args.force_snapshot, enforce_retention: args.enforce_retention };
    Ok(args.once.then_some(options))
}

/// What to replicate: the configuration file, or the one database on the command line.
fn job(args: &Args) -> Result<Job, CliError> {
    let mut job = match args.databases.as_slice() {
        [] => Job { reread: Some(reread(args)), ..job_of_file(&args.config)? },
        [database, replicas @ ..] => {
            let replica = only_replica(args, database, replicas)?;
            let database = DatabaseConfig::new(expand_path(database)?, replica);
            Job { databases: vec![database], ..Job::default() }
        }
    };
    if let Some(exec) = &args.exec {
        job.exec = Some(exec.clone());
    }
    restore_if_missing(&mut job, args.restore_if_db_not_exists);
    Ok(job)
}

fn restore_if_missing(job: &mut Job, wanted: bool) {
    for database in &mut job.databases {
        database.settings.restore_if_missing |= wanted;
    }
}

/// Reads the file again as it is read at the start.
fn reread(args: &Args) -> Reread {
    let (config, restore) = (args.config.clone(), args.restore_if_db_not_exists);
    Arc::new(move || {
        let mut job = job_of_file(&config)?;
        restore_if_missing(&mut job, restore);
        Ok(job)
    })
}

fn job_of_file(arguments: &ConfigArgs) -> Result<Job, CliError> {
    let config = config::load(arguments)?;
    Ok(Job {
        databases: config.databases()?,
        entries: config.entries,
        exec: config.exec,
        addr: config.addr,
        mcp: config.mcp_addr.map(|address| Mcp { address, config: arguments.clone() }),
        heartbeat: config.heartbeat,
        socket: config.socket,
        defaults: config.defaults,
        reread: None,
        logging: config.logging,
        shutdown: config.shutdown,
        warnings: config.warnings,
    })
}

fn only_replica(args: &Args, database: &OsStr, replicas: &[OsString]) -> Result<ReplicaConfig, CliError> {
    let [replica, rest @ ..] = replicas else {
        let database = database.display();
        return Err(CliError::new(format!("must specify at least one replica URL for {database}"))
            .with_try(format!("walstream replicate {database} file:///path/to/backup")));
    };
    if args.config.config.is_some() {
        return Err(CliError::new("cannot specify a replica URL and the -config flag"));
    }
    if !rest.is_empty() {
        return Err(CliError::new("multiple replicas on a single database are no longer supported"));
    }
    let url = replica.to_str().ok_or_else(|| CliError::new("the replica URL is not UTF-8"))?;
    Ok(config::from_url(url)?)
}
