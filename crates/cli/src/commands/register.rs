//! `walstream register`

use std::ffi::OsString;

use serde::Serialize;

use super::control::{ControlArgs, wire};
use super::only_database;
use crate::error::CliError;
use crate::socket::messages::{Done, RegisterRequest};

/// Add a database to those of a daemon.
///
/// The daemon replicates it from now on with what its configuration file says for all databases, until it is unregistered
/// or the daemon ends: its configuration file is not changed.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream register -replica URL [flags] DB_PATH", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Where it is replicated to. Must be given.
    #[arg(long, value_name = "URL")]
    replica: Option<String>,

    #[command(flatten)]
    control: ControlArgs,

    /// How many seconds to wait for an answer. Default 30.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: i64,

    #[arg(hide = true)]
    database: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream register -replica s3://bucket/db /path/to/db
  $ walstream register -json -replica file:///backup/db /path/to/db";

const EXAMPLE: &str = "walstream register -replica s3://bucket/prefix /path/to/db";

#[derive(Serialize)]
struct Report {
    status: String,
    db_path: String,
    replica: String,
    socket: String,
}

/// Tells the daemon.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    let path = only_database(&args.database, EXAMPLE)?;
    let replica = args.replica.filter(|url| !url.is_empty());
    let replica = replica.ok_or_else(|| CliError::new("-replica is required").with_try(EXAMPLE))?;
    let client = args.control.connect(args.timeout)?;
    let request = RegisterRequest { path: wire(&path), replica_url: replica.clone() };
    let done: Done = client.post("register", &request).await?;
    let report = Report { status: done.status, db_path: done.path, replica, socket: args.control.name() };
    args.control.print(
        &report,
        &[
            ("status", report.status.replace('_', " ")),
            ("db_path", report.db_path.clone()),
            ("replica", report.replica.clone()),
            ("socket", report.socket.clone()),
        ],
    )
}
