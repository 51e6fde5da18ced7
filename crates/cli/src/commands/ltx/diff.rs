//! `walstream ltx diff`

use std::ffi::OsString;

use serde::Serialize;
use walstream_engine::restore::{ChangedObject, ComparedState, Comparison, Rows, Target, compare};
use walstream_ltx::Txid;

use crate::args::ConfigArgs;
use crate::commands::Source;
use crate::commands::restore::{start_logging, txid_text};
use crate::connect::connect;
use crate::error::CliError;
use crate::moment;
use crate::output;
use crate::signals::{self, Signals};

/// Show what differs between two states of a replica.
///
/// Shows how many pages differ, which tables and indexes they belong to, and how many rows each of these tables has
/// gained or lost. Rows that were changed in place show in the pages and not in the rows. FROM and TO are TXIDs
/// of 16 hexadecimal digits, times such as 2026-01-31T12:00:00Z, or how long ago, such as -1h30m.
///
/// Fetches the pages that differ and what leads to them, not the whole database. The rows of a large table are only
/// counted with -count.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "walstream ltx diff [flags] FROM TO DB_PATH\nwalstream ltx diff [flags] FROM TO REPLICA_URL",
    after_help = EXAMPLES
)]
pub(crate) struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,

    /// Count the rows of all tables that differ, for which they are read as a whole.
    #[arg(long)]
    count: bool,

    #[command(flatten)]
    config: ConfigArgs,

    #[arg(hide = true)]
    arguments: Vec<OsString>,
}

const EXAMPLES: &str = "\
Examples:
  # What has changed in the last hour.
  $ walstream ltx diff -1h -0s s3://bucket/db

  # The same, with how many rows the tables have.
  $ walstream ltx diff -count -1h -0s s3://bucket/db

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
    bytes_fetched: u64,
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
    rows_change: Option<i64>,
    #[serde(skip)]
    rows: [Rows; 2],
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
    let client = connect(&source.replica, &source.limits)?;
    let folder = tempfile::tempdir()
        .map_err(|error| CliError::new(format!("cannot create a temporary folder: {error}")))?;
    let mut signals = Signals::shutdown()?;
    let report = tokio::select! {
        compared = compare(&client, [from, to], folder.path(), args.count) => Report::from(compared?),
        // Ending here, and not by the signal itself, removes the temporary folder.
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

impl From<Comparison> for Report {
    fn from(compared: Comparison) -> Self {
        let Comparison { states: [from, to], differences, bytes_fetched } = compared;
        Report {
            from: from.into(),
            to: to.into(),
            pages: differences.pages,
            other_pages: differences.other_pages,
            objects: differences.objects.into_iter().map(Object::from).collect(),
            bytes_fetched,
        }
    }
}

impl From<ComparedState> for State {
    fn from(state: ComparedState) -> Self {
        State {
            txid: txid_text(state.txid),
            timestamp: output::millis(state.created_at),
            pages: state.commit.get(),
        }
    }
}

impl From<ChangedObject> for Object {
    fn from(object: ChangedObject) -> Self {
        Object {
            name: object.name,
            r#type: if object.is_table { "table" } else { "index" },
            pages: object.pages,
            rows_before: object.rows[0].counted(),
            rows_after: object.rows[1].counted(),
            rows_change: object.change,
            rows: object.rows,
        }
    }
}

impl Report {
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
        let row = |o: &Object| {
            let [before, after] = o.rows.map(rows_text);
            let change = o.rows_change.map_or("-".to_owned(), |change| format!("{change:+}"));
            [o.name.clone(), o.r#type.to_owned(), o.pages.to_string(), change, before, after]
        };
        let rows: Vec<_> = self.objects.iter().map(row).collect();
        let names = ["name", "type", "pages", "row change", "rows before", "rows after"];
        format!("{head}\n{}", output::table(names, &rows))
    }
}

fn rows_text(rows: Rows) -> String {
    match rows {
        Rows::None => "-".to_owned(),
        Rows::Counted(rows) => rows.to_string(),
        Rows::Uncounted => "?".to_owned(),
    }
}
