//! `restore -f`: a copy that applications read while it follows.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use walstream_test_support::compare::{assert_rows, rows, with_suffix};
use walstream_test_support::{App, AppProcess, Daemon, Place, Program, Running, Seed, wait_until};

use crate::site::{SOON, Site};
use crate::walstream;

/// How long readers read; a longer run says so by `WALSTREAM_TEST_FOLLOW_SECONDS`.
const SECONDS: u64 = 12;
const KILLS: u32 = 10;
const READERS: usize = 5;

fn seconds() -> u64 {
    std::env::var("WALSTREAM_TEST_FOLLOW_SECONDS")
        .map_or(SECONDS, |text| text.parse().expect("a number of seconds"))
}

fn follow(url: &str, copy: &Path, flags: &[&str]) -> Running {
    let copy = copy.to_str().unwrap();
    let arguments = [&["restore", "-f", "-follow-interval", "50ms", "-o", copy], flags, &[url]].concat();
    Running::start(&mut walstream().command(arguments))
}

/// A follower that has said where it is.
fn following(url: &str, copy: &Path) -> Running {
    let mut follower = follow(url, copy, &[]);
    follower.wait_for_output("following", SOON);
    follower
}

/// Two tables that always say the same, and an index.
const ACCOUNTS: &str = "CREATE TABLE account(id INTEGER PRIMARY KEY, cents INTEGER);
    CREATE TABLE entry(id INTEGER PRIMARY KEY, account, cents INTEGER, note);
    CREATE INDEX entry_of_account ON entry(account)";
const BALANCED: &str =
    "SELECT (SELECT coalesce(sum(cents), 0) FROM account) = (SELECT coalesce(sum(cents), 0) FROM entry)";

/// Writes as fast as it can, and now and then deletes and vacuums, until it is told to end.
fn write(app: &App, seed: &mut Seed, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let (account, cents) = (seed.in_range(0..50), seed.in_range(1..1000));
        app.execute(&format!(
            "BEGIN; INSERT INTO account VALUES({account}, {cents}) ON CONFLICT DO UPDATE SET cents = cents + {cents};
             INSERT INTO entry VALUES(NULL, {account}, {cents}, hex(randomblob({}))); COMMIT",
            seed.in_range(10..900)
        ));
        if seed.once_in(400) {
            app.execute(&format!(
                "BEGIN; UPDATE account SET cents = 0; DELETE FROM entry; COMMIT; {}",
                if seed.once_in(3) { "VACUUM" } else { "ANALYZE" }
            ));
        }
    }
}

/// Reads until it is told to end. Every look must find a sound database and books that balance.
fn read(copy: &Path, over: &AtomicBool) -> usize {
    let mut reader = AppProcess::open(copy);
    let mut looks = 0;
    while !over.load(Ordering::Relaxed) {
        assert_eq!(reader.execute(BALANCED), "1", "a mixture of two states");
        assert_eq!(reader.execute("PRAGMA integrity_check"), "ok");
        looks += 1;
    }
    reader.close();
    looks
}

/// Kills a follower again and again, and leaves one that lives.
fn kill_again_and_again(url: &str, copy: &Path, seed: &mut Seed) -> Running {
    let longest = Duration::from_secs(2 * seconds()) / KILLS;
    for _ in 0..KILLS {
        let follower = follow(url, copy, &[]);
        thread::sleep(seed.pause_below(longest));
        follower.kill_9();
    }
    following(url, copy)
}

fn readers_never_see_a_mixture(place: &Place) {
    let site = Site::new();
    let (copy, url) = (site.path("copy.db"), place.url());
    site.app().execute(ACCOUNTS);
    let mut seed = Seed::from_environment();
    walstream().replicate_once(&site.database(), &url);
    let daemon = replicate(&site, &url);
    drop(following(&url, &copy));

    let over = AtomicBool::new(false);
    let (mut writing, mut killing) = (seed.fork(), seed.fork());
    let looks: Vec<usize> = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&site.app(), &mut writing, &over));
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(|| read(&copy, &over))).collect();
        let follower = kill_again_and_again(&url, &copy, &mut killing);
        over.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        let looks = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        wait_until("the copy is what the database is", SOON, || rows(&copy) == rows(&site.database()));
        follower.stop(SOON).success();
        looks
    });
    println!("looks of the readers: {looks:?}");
    assert!(looks.iter().all(|&looks| looks > 3), "{looks:?}");
    daemon.stop();
}

fn replicate(site: &Site, url: &str) -> Daemon {
    let config = site.path("config.yml");
    let database = site.database();
    let text =
        format!("dbs: [{{path: {}, replica: {{url: '{url}', sync-interval: 100ms}}}}]", database.display());
    std::fs::write(&config, text).unwrap();
    walstream().replicate_config(&config).ready()
}

#[test]
fn readers_never_see_a_mixture_however_often_the_follower_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    readers_never_see_a_mixture(&Place::directory(folder.path()));
}

#[test]
fn readers_of_a_copy_of_a_bucket_never_see_a_mixture_on_moto() {
    readers_never_see_a_mixture(&Place::s3());
}

#[test]
fn commits_come_to_the_copy_one_by_one() {
    let site = Site::new();
    let (app, copy) = (site.app_with_mebibytes(1), site.path("copy.db"));
    site.replicate_once();
    let daemon = site.daemon_with("", "");
    let follower = following(&site.url(), &copy);
    let reader = Connection::open(&copy).unwrap();
    let items = |connection: &Connection| -> i64 {
        connection.query_row("SELECT count(*) FROM item", [], |row| row.get(0)).unwrap()
    };
    let mut lags: Vec<Duration> = (0..20)
        .map(|n| {
            thread::sleep(Duration::from_millis(130 + n * 7));
            let committed = Instant::now();
            app.sell(1, 10);
            let sold = items(app.connection());
            wait_until("the commit is on the copy", SOON, || items(&reader) == sold);
            committed.elapsed()
        })
        .collect();
    lags.sort();
    println!("from commit to copy, median and longest: {:?} {:?}", lags[10], lags[19]);
    follower.stop(SOON).success();
    daemon.stop();
}

#[test]
fn a_command_runs_beside_it_and_decides_the_exit_code() {
    let site = Site::new();
    let (app, copy) = (site.app_with_mebibytes(1), site.path("copy.db"));
    site.replicate_once();
    let script = "test -s \"$0\" && exit 7";
    let command = format!("sh -c '{script}' {}", copy.display());
    let follower = follow(&site.url(), &copy, &["-exec", &command]).wait(SOON);
    assert_eq!(follower.status.code(), Some(7), "{}", follower.stderr);
    assert_rows(&rows(app.path()), &copy);
}

#[test]
fn the_copy_of_a_litestream_follower_is_taken_over() {
    let site = Site::new();
    let (app, copy) = (site.app_with_mebibytes(1), site.path("copy.db"));
    let litestream = Program::litestream();
    litestream.replicate_once(app.path(), &site.url());
    let arguments = ["restore", "-f", "-follow-interval", "50ms", "-o", copy.to_str().unwrap(), &site.url()];
    let theirs = Running::start(&mut litestream.command(arguments));
    wait_until("Litestream has restored its copy", SOON, || note(&copy).exists());
    app.sell(10, 100);
    litestream.replicate_once(app.path(), &site.url());
    wait_until("Litestream has followed", SOON, || rows(&copy) == rows(app.path()));
    theirs.kill_9();
    app.sell(10, 100);
    litestream.replicate_once(app.path(), &site.url());
    let follower = following(&site.url(), &copy);
    wait_until("the copy has followed", SOON, || rows(&copy) == rows(app.path()));
    follower.stop(SOON).success();
}

/// Where Litestream's follower is.
fn note(copy: &Path) -> PathBuf {
    with_suffix(copy, "-txid")
}

#[test]
fn what_cannot_be_followed_is_said() {
    let site = Site::new();
    drop(site.app_with_mebibytes(1));
    site.replicate_once();
    let refused = |flags: &[&str]| {
        let finished =
            walstream().try_restore(&site.url(), &site.path("copy.db"), &[&["-f"], flags].concat());
        assert_eq!(finished.status.code(), Some(1));
        finished.stderr
    };
    assert!(refused(&["-txid", "0000000000000001"]).contains("cannot specify -f with -txid or -timestamp"));
    App::open(site.path("copy.db")).execute("CREATE TABLE other(x)");
    assert!(refused(&[]).contains("is no state of this replica"));
}
