//! `walstream ltx diff`

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use walstream_engine::restore::{Differences, Restored, Target, compare};
use walstream_ltx::Txid;
use walstream_storage::ReplicaClient;

use crate::args::ConfigArgs;
use crate::commands::Source;
use crate::commands::restore::{restore_quietly, start_logging, txid_text};
use crate::connect::connect;
use crate::error::CliError;
use crate::moment;
use crate::output;
use crate::signals::{self, Signals};

/// Show what differs between two states of a replica.
///
/// Shows how many pages differ, which tables and indexes they belong to, and how many rows each of these tables has
/// in either state. Rows that were changed in place show in the pages and not in the rows. FROM and TO are TXIDs
/// of 16 hexadecimal digits, times such as 2026-01-31T12:00:00Z, or how long ago, such as -1h30m.
///
/// Restores both states to temporary files, so there must be room for both in $TMPDIR, and counts the rows of
/// changed tables one by one.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "walstream ltx diff [flags] FROM TO DB_PATH\nwalstream ltx diff [flags] FROM TO REPLICA_URL",
    after_help = EXAMPLES
)]
pub(crate) struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    config: ConfigArgs,

    #[arg(hide = true)]
    arguments: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # What has changed in the last hour.
  $ walstream ltx diff -1h -0s s3://bucket/db

  # What one TXID has changed.
  $ walstream ltx diff 000000000000005a 000000000000005b /path/to/db";

/// What `-json` prints.
#[derive(Serialize)]
struct Report {
    from: State,
    to: State,
    pages: usize,
    other_pages: usize,
    objects: Vec<Object>,
}

#[derive(Serialize)]
struct State {
    txid: String,
    timestamp: String,
    pages: u32,
}

#[derive(Serialize)]
struct Object {
    name: String,
    r#type: &'static str,
    pages: usize,
    rows_before: Option<u64>,
    rows_after: Option<u64>,
}

/// Compares the two states.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    const EXAMPLE: &str = "walstream ltx diff 0000000000000001 0000000000000002 s3://bucket/prefix";
    let [from, to, source @ ..] = &args.arguments[..] else {
        return Err(CliError::new("two states and a database path or replica URL required").with_try(EXAMPLE));
    };
    let (from, to) = (target(from)?, target(to)?);
    let source = Source::read(source, &args.config, EXAMPLE)?;
    start_logging(&source, true);
    let client = connect(&source.replica)?;
    let folder = tempfile::tempdir()
        .map_err(|error| CliError::new(format!("cannot create a temporary folder: {error}")))?;
    let mut signals = Signals::shutdown()?;
    let report = tokio::select! {
        report = report(&client, [from, to], folder.path()) => report?,
        // Ending here, and not by the signal itself, removes the temporary files.
        signal = signals.next_shutdown() => {
            return Err(CliError::new(format!("interrupted by signal: {}", signals::name(signal))));
        }
    };
    output::print(&if args.json { output::json(&report) } else { report.text() })?;
    Ok(())
}

fn target(argument: &OsString) -> Result<Target, CliError> {
    let text = argument.to_string_lossy();
    match (text.to_ascii_lowercase().parse::<Txid>(), moment::parse(&text)) {
        (Ok(txid), _) => Ok(Target::Txid(txid)),
        (_, Ok(time)) => Ok(Target::At(time)),
        (_, Err(wanted)) => Err(CliError::new(format!(
            "{text:?} is no TXID of 16 hexadecimal digits, and as a time you {wanted}"
        ))),
    }
}

async fn report(
    client: &Arc<dyn ReplicaClient>,
    [from, to]: [Target; 2],
    folder: &Path,
) -> Result<Report, CliError> {
    let (before, after) = (folder.join("before.db"), folder.join("after.db"));
    let from = restore_quietly(Arc::clone(client), &before, from).await?;
    let to = restore_quietly(Arc::clone(client), &after, to).await?;
    let (old, new) = (from.page_size, to.page_size);
    if old != new {
        return Err(CliError::new(format!(
            "the size of a page changed from {old} to {new}, so that every page differs"
        ))
        .with_hint("restore both states, and compare them with sqldiff"));
    }
    let compared = tokio::task::spawn_blocking(move || compare(&before, &after, new.bytes())).await;
    let differences = compared.map_err(walstream_engine::EngineError::from)??;
    Ok(Report::new(&from, &to, differences))
}

impl Report {
    fn new(from: &Restored, to: &Restored, differences: Differences) -> Report {
        let state = |restored: &Restored| State {
            txid: txid_text(restored.txid),
            timestamp: output::millis(restored.created_at),
            pages: restored.commit.get(),
        };
        let objects = differences.objects.into_iter().map(|object| Object {
            name: object.name,
            r#type: if object.is_table { "table" } else { "index" },
            pages: object.pages,
            rows_before: object.rows[0],
            rows_after: object.rows[1],
        });
        Report {
            from: state(from),
            to: state(to),
            pages: differences.pages,
            other_pages: differences.other_pages,
            objects: objects.collect(),
        }
    }

    fn text(&self) -> String {
        let state = |state: &State| format!("{} {} {} pages", state.txid, state.timestamp, state.pages);
        let head = format!(
            "from: {}\nto:   {}\n\n{} pages differ, {} of them free or SQLite's own\n",
            state(&self.from),
            state(&self.to),
            self.pages,
            self.other_pages
        );
        if self.objects.is_empty() {
            return head;
        }
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        let row = |o: &Object| {
            let (before, after) = (number(o.rows_before), number(o.rows_after));
            [o.name.clone(), o.r#type.to_owned(), o.pages.to_string(), before, after]
        };
        let rows: Vec<_> = self.objects.iter().map(row).collect();
        format!("{head}\n{}", output::table(["name", "type", "pages", "rows before", "rows after"], &rows))
    }
}
