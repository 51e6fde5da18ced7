//! `walstream demo`: the main job from end to end, with the code of `replicate` and `restore`.

mod shop;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use tracing_subscriber::filter::LevelFilter;
use walstream_engine::restore::Target;
use walstream_ltx::{Level, Timestamp, Txid};
use walstream_storage::{FileConfig, Limits, ReplicaConfig, TimestampSource};

use self::shop::{Contents, Shop, inspect};
use super::restore::restore_quietly;
use crate::config::{DatabaseConfig, ShutdownSettings, expand_path};
use crate::connect::connect;
use crate::daemon;
use crate::error::CliError;
use crate::http::Observed;
use crate::logging::{self, LogOptions};
use crate::output::{human_size, print};
use crate::signals::Signals;

/// Watch it work on a small database of its own.
///
/// Makes a shop database in a temporary folder, sells things in it while it is replicated to a directory, loses
/// the database, and restores it: the latest state and an earlier one. Touches nothing else.
#[derive(Debug, clap::Args)]
#[command(override_usage = "walstream demo [flags]", after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder to work in, which must not exist or be empty. Default: a new temporary folder.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  $ walstream demo
  $ walstream demo -dir /tmp/shop";

/// Time of business before and after the mistake.
const BUSINESS: Duration = Duration::from_millis(2000);
const LATE_BUSINESS: Duration = Duration::from_millis(300);
/// Nothing is sold in this time, so that "before the mistake" is one state and not a moment between two.
const PAUSE: Duration = Duration::from_millis(500);

/// What the shop remembers of its life, and a restored database has to match.
struct Story {
    sold: u32,
    sold_later: u32,
    before_mistake: DateTime<Utc>,
    contents_before_mistake: Contents,
    contents_at_loss: Contents,
}

/// Shows the main job.
pub(crate) async fn run(args: Args) -> Result<(), CliError> {
    logging::start(LogOptions { stderr: true, level: LevelFilter::WARN, ..LogOptions::default() }, None);
    let folder = folder(args.dir.as_deref())?;
    let database_path = folder.join("shop.db");
    let replica_path = folder.join("replica");
    let replica = ReplicaConfig::File(FileConfig { path: Some(replica_path.clone()), access: None });
    let database = DatabaseConfig::new(database_path.clone(), replica.clone());
    print(&format!(
        "1. A small shop opens. Its database is   {}\n   and is replicated, while in use, to   {}\n",
        database_path.display(),
        replica_path.display()
    ))?;

    let story = do_business(&database).await?;
    let time = story.before_mistake.to_rfc3339_opts(SecondsFormat::Millis, true);
    print(&format!(
        "2. {} things are sold, each in a transaction of its own. At {time} all is well.\n\
         3. Then somebody runs DELETE FROM orders by mistake, and {} more are sold.\n",
        story.sold, story.sold_later
    ))?;

    lose(&database)?;
    let (files, bytes) = stored(&replica).await?;
    print(&format!(
        "4. The machine burns down: the database is gone. Left is the replica: {files} files, {}.\n",
        human_size(bytes)
    ))?;

    let latest = folder.join("restored-latest.db");
    let earlier = folder.join("restored-earlier.db");
    let at = Target::At(Timestamp::from_millis(story.before_mistake.timestamp_millis()));
    let took = restore_and_compare(&replica, &latest, Target::Latest, &story.contents_at_loss).await?;
    print(&format!(
        "5. Restored the latest state in {took:.0?}: {} orders, row for row what the shop had.\n   {}\n",
        story.contents_at_loss.orders(),
        latest.display()
    ))?;
    let took = restore_and_compare(&replica, &earlier, at, &story.contents_before_mistake).await?;
    print(&format!(
        "6. Restored the time before the mistake in {took:.0?}: all {} orders are back.\n   {}\n",
        story.contents_before_mistake.orders(),
        earlier.display()
    ))?;
    print(&what_next(&replica_path, &time))?;
    Ok(())
}

fn folder(wanted: Option<&Path>) -> Result<PathBuf, CliError> {
    let Some(wanted) = wanted else {
        let folder = tempfile::Builder::new().prefix("walstream-demo-").tempdir();
        return folder.map(|folder| folder.keep()).map_err(|error| failed("make a temporary folder", &error));
    };
    let folder = expand_path(wanted.as_os_str())?;
    fs::create_dir_all(&folder).map_err(|error| failed(&format!("make {}", folder.display()), &error))?;
    match fs::read_dir(&folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(folder),
        Ok(false) => Err(CliError::new(format!("the folder {} is not empty", folder.display()))),
        Err(error) => Err(failed(&format!("read {}", folder.display()), &error)),
    }
}

fn failed(what: &str, error: &dyn std::error::Error) -> CliError {
    CliError::new(format!("demo: cannot {what}: {error}"))
}

/// Replicates as the daemon does, while a thread uses the database as an application does.
async fn do_business(database: &DatabaseConfig) -> Result<Story, CliError> {
    let mut signals = Signals::shutdown()?;
    let path = database.path.clone();
    // The application is there first, as it mostly is in life.
    let shop = tokio::task::spawn_blocking(move || Shop::open(&path)).await;
    let mut shop = flatten(shop)?;
    let fleet = daemon::start(std::slice::from_ref(database), &Observed::default()).await?;
    let business = tokio::task::spawn_blocking(move || {
        let sold = shop.sell_for(BUSINESS)?;
        std::thread::sleep(PAUSE);
        let before_mistake = Utc::now();
        let contents_before_mistake = shop.contents()?;
        std::thread::sleep(PAUSE);
        shop.delete_every_order()?;
        let sold_later = shop.sell_for(LATE_BUSINESS)?;
        let contents_at_loss = shop.contents()?;
        Ok(Story { sold, sold_later, before_mistake, contents_before_mistake, contents_at_loss })
    });
    let story = tokio::select! {
        story = business => flatten(story),
        _ = signals.next_shutdown() => Err(CliError::new("demo: interrupted")),
    };
    let unshipped = daemon::shut_down(fleet, ShutdownSettings::default(), &mut signals, None).await;
    let story = story?;
    daemon::all_shipped(&unshipped)?;
    Ok(story)
}

fn flatten<T>(result: Result<rusqlite::Result<T>, tokio::task::JoinError>) -> Result<T, CliError> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed("use the shop database", &error)),
        Err(error) => Err(failed("run the shop", &error)),
    }
}

/// Deletes the database and everything that belongs to it.
fn lose(database: &DatabaseConfig) -> Result<(), CliError> {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = database.path.clone().into_os_string();
        path.push(suffix);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(failed(&format!("remove {}", path.display()), &error));
            }
            _ => {}
        }
    }
    fs::remove_dir_all(&database.meta_path)
        .map_err(|error| failed(&format!("remove {}", database.meta_path.display()), &error))
}

/// Number and size of all files of a replica.
async fn stored(replica: &ReplicaConfig) -> Result<(usize, u64), CliError> {
    let client = connect(replica, &Limits::default())?;
    let (mut files, mut bytes) = (0, 0);
    for level in Level::all() {
        let listing = client.list(level, Txid::ZERO, TimestampSource::Listing).await?;
        files += listing.len();
        bytes += listing.iter().map(|file| file.size).sum::<u64>();
    }
    Ok((files, bytes))
}

async fn restore_and_compare(
    replica: &ReplicaConfig,
    output: &Path,
    target: Target,
    expected: &Contents,
) -> Result<Duration, CliError> {
    let started = Instant::now();
    restore_quietly(connect(replica, &Limits::default())?, output, target).await?;
    let took = started.elapsed();
    let contents = inspect(output).map_err(|error| failed("read the restored database", &error))?;
    match contents == *expected {
        true => Ok(took),
        false => Err(CliError::new(format!("demo: {} differs from what was replicated", output.display()))),
    }
}

fn what_next(replica: &Path, time: &str) -> String {
    // `cargo run` does not put the program on the path; this is what works in the same shell.
    let program = std::env::args().next().unwrap_or_else(|| "walstream".to_owned());
    let replica = replica.display();
    format!(
        "
Look at it:
  {program} ltx -level all file://{replica}
  {program} restore -dry-run -timestamp {time} -o again.db file://{replica}
Do it with a database of your own, while your application uses it:
  {program} replicate app.db file:///path/to/backup
  {program} restore -o restored.db file:///path/to/backup
"
    )
}
