//! `walstream restore`

mod plan;
mod points;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;
use walstream_engine::EngineError;
use walstream_engine::restore::{IntegrityCheck, RestoreOptions, Restored, Target, Unwatched, restore};
use walstream_ltx::{Timestamp, Txid};
use walstream_storage::ReplicaClient;

use super::{Source, follow};
use crate::args::ConfigArgs;
use crate::config::GoDuration;
use crate::connect::connect;
use crate::error::CliError;
use crate::http::Address;
use crate::logging;
use crate::moment;
use crate::output;
use crate::progress::RestoreProgress;
use crate::signals::{self, Signals};

/// Restore a database from its replica.
///
/// Writes the database anew, checks it, and only then puts it in place: on any error nothing is left behind.
/// Without -txid or -timestamp, the latest state is restored.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "walstream restore [flags] DB_PATH\nwalstream restore -o PATH [flags] REPLICA_URL",
    after_help = EXAMPLES
)]
pub(crate) struct Args {
    /// Where to write the database. Needed with REPLICA_URL; with DB_PATH, the default is DB_PATH.
    #[arg(long = "o", value_name = "PATH")]
    output: Option<PathBuf>,

    /// Restore the state after this transaction ID, 16 hexadecimal digits as "walstream ltx" shows them.
    #[arg(long, value_name = "TXID", value_parser = parse_txid)]
    txid: Option<Txid>,

    /// Restore the state at this time, such as 2026-01-31T12:00:00Z, or so long ago, such as -5m, -1h30m or -2d.
    #[arg(long, value_name = "TIME", value_parser = moment::parse)]
    timestamp: Option<Timestamp>,

    /// Overwrite an existing database, with its -wal, -shm and -journal files.
    #[arg(long)]
    force: bool,

    /// With -force: fetch only the pages that differ from the database that is overwritten, if that is in a state that
    /// the replica knows. The result is verified as ever.
    #[arg(long)]
    delta: bool,

    /// Do nothing, successfully, if the database exists already.
    #[arg(long)]
    if_db_not_exists: bool,

    /// Do nothing, successfully, if there is no backup.
    #[arg(long)]
    if_replica_exists: bool,

    /// Show which files would be read, and stop.
    #[arg(long)]
    dry_run: bool,

    /// Show every state that can be restored, the newest last, and stop. Needs no -o.
    #[arg(long)]
    list: bool,

    /// Print the result as JSON on stdout; logs go to stderr.
    #[arg(long)]
    json: bool,

    /// Check the restored database with SQLite: none, quick or full. What was captured is verified by
    /// checksums in any case. Default none.
    #[arg(long, value_name = "MODE", default_value = "none")]
    integrity_check: CheckArg,

    /// How many requests may be under way at once. Default 8.
    #[arg(long, value_name = "NUM", default_value_t = PARALLELISM, value_parser = parse_parallelism)]
    parallelism: usize,

    #[command(flatten)]
    config: ConfigArgs,

    /// Restore what is not there yet, and then keep it as new as the replica, while applications read it.
    #[arg(long = "f")]
    follow: bool,

    /// How often -f looks at the replica. Default 1s.
    #[arg(long, value_name = "DURATION")]
    follow_interval: Option<GoDuration>,

    /// With -f, run this command beside it, and exit with its exit code. Signals are passed on to it.
    #[arg(long, value_name = "CMD")]
    exec: Option<String>,

    /// With -f, show metrics, health and readiness by HTTP at this host:port. Default: the addr of the configuration
    /// file, if the database is named by its path.
    #[arg(long, value_name = "ADDR")]
    addr: Option<Address>,

    #[arg(hide = true)]
    source: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # Restore a database of the configuration file to its own place.
  $ walstream restore /path/to/db

  # Restore from a bucket.
  $ walstream restore -o /tmp/db s3://bucket/db

  # Restore the state of yesterday noon beside the live database.
  $ walstream restore -timestamp 2026-01-31T12:00:00Z -o /tmp/db /path/to/db

  # See which states there are, and restore the one of ten minutes ago.
  $ walstream restore -list s3://bucket/db
  $ walstream restore -timestamp -10m -o /tmp/db s3://bucket/db

  # Keep a copy for readers as new as the replica, and run them beside it.
  $ walstream restore -f -exec \"myreader /tmp/db\" -o /tmp/db s3://bucket/db

  # See what would be read.
  $ walstream restore -dry-run -o /tmp/db file:///backup/db";

const PARALLELISM: usize = 8;

/// How thoroughly SQLite looks at the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CheckArg {
    None,
    Quick,
    Full,
}

/// Empty for a backup of version 0.3, which has no TXIDs.
pub(crate) fn txid_text(txid: Txid) -> String {
    if txid.is_zero() { String::new() } else { txid.to_string() }
}

fn parse_txid(text: &str) -> Result<Txid, &'static str> {
    text.to_ascii_lowercase().parse().map_err(|_| "invalid txid format: write 16 hexadecimal digits")
}

fn parse_parallelism(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|n| (1..=1024).contains(n)).ok_or("write a number from 1 to 1024")
}

impl From<CheckArg> for IntegrityCheck {
    fn from(check: CheckArg) -> Self {
        match check {
            CheckArg::None => IntegrityCheck::None,
            CheckArg::Quick => IntegrityCheck::Quick,
            CheckArg::Full => IntegrityCheck::Full,
        }
    }
}

/// What `-json` prints after a restore.
#[derive(Serialize)]
struct Report {
    db_path: String,
    replica: &'static str,
    txid: String,
    timestamp: String,
    bytes_fetched: u64,
    duration_ms: u128,
    integrity_check: &'static str,
}

/// Restores.
pub(crate) async fn run(args: Args) -> Result<ExitCode, CliError> {
    let target = target(&args)?;
    let source =
        Source::read(&args.source, &args.config, "walstream restore -o /path/to/db s3://bucket/prefix")?;
    start_logging(&source, args.json || args.list);
    if args.list {
        return list(&args, &source).await.map(|()| ExitCode::SUCCESS);
    }
    let output = output_path(&args, &source)?;
    if args.follow {
        return follow(&args, output, &source).await;
    }
    let done = restore_once(&args, &source, &output, target).await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn restore_once(args: &Args, source: &Source, output: &Path, target: Target) -> Result<(), CliError> {
    if args.if_db_not_exists && output.symlink_metadata().is_ok() {
        tracing::info!(path = %output.display(), "database already exists, skipping");
        return Ok(());
    }
    let client = connect(&source.replica, &source.limits)?;
    let work = async {
        match args.dry_run {
            true => {
                let places = plan::Places { source: &source.name, output };
                plan::show(places, client.as_ref(), &target, args.json).await
            }
            false => restore_to(args, output, Arc::clone(&client), target).await,
        }
    };
    let mut signals = Signals::shutdown()?;
    let outcome = tokio::select! {
        outcome = work => outcome,
        // Ending here, and not by the signal itself, lets the restore clean up.
        signal = signals.next_shutdown() => {
            return Err(CliError::new(format!("interrupted by signal: {}", signals::name(signal))));
        }
    };
    finish(args, outcome)
}

async fn follow(args: &Args, output: PathBuf, source: &Source) -> Result<ExitCode, CliError> {
    let client = connect(&source.replica, &source.limits)?;
    let job = follow::Job {
        options: options(args, output, Target::Latest),
        interval: follow::interval(args.follow_interval),
        exec: args.exec.clone(),
        backup_is_optional: args.if_replica_exists,
        addr: args.addr.clone().or_else(|| source.configured.as_ref()?.1.addr.clone()),
    };
    follow::run(client, job, RestoreProgress::new()).await
}

/// Prints what came out; that there is no backup may be no error.
fn finish(args: &Args, outcome: Result<String, EngineError>) -> Result<(), CliError> {
    match outcome {
        Err(EngineError::NoBackup { location }) if args.if_replica_exists => {
            tracing::info!(replica = location, "no matching backups found");
            Ok(())
        }
        outcome => Ok(output::print(&outcome?)?),
    }
}

async fn list(args: &Args, source: &Source) -> Result<(), CliError> {
    if args.txid.is_some() || args.timestamp.is_some() {
        return Err(CliError::new("-list shows every state: leave -txid and -timestamp out"));
    }
    let client = connect(&source.replica, &source.limits)?;
    finish(args, points::show(client.as_ref(), args.json).await)
}

fn target(args: &Args) -> Result<Target, CliError> {
    if args.follow && (args.txid.is_some() || args.timestamp.is_some()) {
        return Err(CliError::new("cannot specify -f with -txid or -timestamp"));
    }
    if args.follow && args.dry_run {
        return Err(CliError::new("cannot use -dry-run with -f"));
    }
    if args.delta && !args.force {
        return Err(CliError::new("cannot specify -delta flag without -force"));
    }
    if args.exec.is_some() && !args.follow {
        return Err(CliError::new("cannot specify -exec flag without -f"));
    }
    if args.addr.is_some() && !args.follow {
        return Err(CliError::new("cannot specify -addr flag without -f"));
    }
    match (args.txid, args.timestamp) {
        (Some(_), Some(_)) => Err(CliError::new("cannot specify both -txid and -timestamp")),
        (Some(txid), None) => Ok(Target::Txid(txid)),
        (None, Some(time)) => Ok(Target::At(time)),
        (None, None) => Ok(Target::Latest),
    }
}

fn output_path(args: &Args, source: &Source) -> Result<PathBuf, CliError> {
    match (&args.output, &source.configured) {
        (Some(path), _) if !path.as_os_str().is_empty() => Ok(path.clone()),
        (_, Some((path, _))) => Ok(path.clone()),
        _ => Err(CliError::new("-o is required when restoring from a replica URL")
            .with_try(format!("walstream restore -o /path/to/db {}", source.name))),
    }
}

/// JSON has stdout for itself.
pub(crate) fn start_logging(source: &Source, json: bool) {
    let (mut logging, warnings) = match &source.configured {
        Some((_, config)) => (config.logging, config.warnings.as_slice()),
        None => Default::default(),
    };
    logging.stderr |= json;
    logging::start(logging, None);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

fn options(args: &Args, output: PathBuf, target: Target) -> RestoreOptions {
    RestoreOptions {
        output,
        target,
        parallelism: args.parallelism,
        overwrite: args.force,
        delta: args.delta,
        integrity_check: args.integrity_check.into(),
    }
}

async fn restore_to(
    args: &Args,
    output: &Path,
    client: Arc<dyn ReplicaClient>,
    target: Target,
) -> Result<String, EngineError> {
    let started = Instant::now();
    let kind = client.kind();
    let options = options(args, output.to_owned(), target);
    let restored = match args.json {
        true => restore(client, &options, &Unwatched).await?,
        false => restore(client, &options, &RestoreProgress::new()).await?,
    };
    let (txid, timestamp) = (txid_text(restored.txid), output::millis(restored.created_at));
    if restored.newest && matches!(target, Target::At(_)) {
        let oldest = output::millis(restored.oldest);
        tracing::info!(txid, timestamp, oldest, "the replica holds nothing newer than this state");
    }
    let elapsed = started.elapsed();
    tracing::info!(path = %output.display(), txid, timestamp, ?elapsed, "database restored");
    if !args.json {
        return Ok(String::new());
    }
    Ok(output::json(&Report {
        db_path: output.display().to_string(),
        replica: kind,
        txid,
        timestamp,
        bytes_fetched: restored.bytes_fetched,
        duration_ms: elapsed.as_millis(),
        integrity_check: match args.integrity_check {
            CheckArg::None => "none",
            CheckArg::Quick => "quick",
            CheckArg::Full => "full",
        },
    }))
}

/// Restores with the defaults of this command; only the log tells how it goes on.
pub(crate) async fn restore_quietly(
    client: Arc<dyn ReplicaClient>,
    output: &Path,
    target: Target,
) -> Result<Restored, EngineError> {
    let options = RestoreOptions {
        output: output.to_owned(),
        target,
        parallelism: PARALLELISM,
        overwrite: false,
        delta: false,
        integrity_check: IntegrityCheck::None,
    };
    restore(client, &options, &RestoreProgress::logged()).await
}
