//! What can be seen over HTTP while databases are replicated: metrics, health and readiness.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walstream_test_support::http::{Response, request};
use walstream_test_support::replica::{OutOfReach, bytes_below, file_url, ltx_files};
use walstream_test_support::{App, Daemon, Moto, Program, Running, Scrape, eventually, wait_until};

use crate::site::{SOON, Site};
use crate::walstream;

/// Any port that is free.
const ADDR: &str = "addr: '127.0.0.1:0'";

/// Where a daemon shows what it does.
pub(crate) struct Shown {
    address: String,
}

impl Shown {
    /// As the daemon says it in its log.
    #[track_caller]
    pub(crate) fn by(log: impl Fn() -> String) -> Shown {
        let address = eventually("it says where it shows its metrics", SOON, || {
            let log = log();
            let (_, after) = log.split_once("url=http://")?;
            Some(after.split_once("/metrics")?.0.to_owned())
        });
        Shown { address }
    }

    fn of(daemon: &Daemon) -> Shown {
        Shown::by(|| daemon.process.stdout())
    }

    #[track_caller]
    fn get(&self, path: &str) -> Response {
        request(&self.address, "GET", path, &[], b"").unwrap()
    }

    /// Status and text.
    #[track_caller]
    pub(crate) fn says(&self, path: &str) -> (u16, String) {
        let Response { status, body, .. } = self.get(path);
        (status, String::from_utf8(body).unwrap())
    }

    #[track_caller]
    pub(crate) fn scrape(&self) -> Scrape {
        let (status, text) = self.says("/metrics");
        assert_eq!(status, 200, "{text}");
        Scrape::parse(&text)
    }

    /// The value of a metric of the only database.
    #[track_caller]
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.scrape().get(name, &[]).unwrap_or_else(|| panic!("{name} is missing"))
    }

    #[track_caller]
    fn wait_until_shipped(&self) {
        wait_until("everything is on the replica", SOON, || {
            let scrape = self.scrape();
            let value = |name| scrape.get(name, &[]);
            value("litestream_replica_lag_seconds") == Some(0.0)
                && value("litestream_replica_txid") == value("litestream_txid")
        });
    }
}

#[test]
fn the_numbers_are_those_of_the_database_and_of_its_replica() {
    let site = Site::new();
    let app = site.app();
    let daemon = site.daemon_with("checkpoint-interval: 200ms", ADDR);
    let shown = Shown::of(&daemon);
    let mut txids = Vec::new();
    for _ in 0..10 {
        app.sell(20, 500);
        txids.push(shown.value("litestream_txid"));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(txids.is_sorted() && txids[0] < txids[9], "{txids:?}");
    site.wait_until_caught_up(&app);
    shown.wait_until_shipped();
    wait_until("the WAL is checkpointed", SOON, || {
        let passive = shown.scrape().get("litestream_checkpoint_count", &[("mode", "PASSIVE")]);
        passive.is_some_and(|count| count > 0.0)
    });

    let scrape = shown.scrape();
    let value = |name| scrape.get(name, &[]).unwrap_or_else(|| panic!("{name} is missing"));
    let listed = walstream().run(["ltx", &site.url()]).success().stdout;
    let newest = listed.lines().last().unwrap().split_whitespace().nth(2).unwrap().to_owned();
    let newest = u64::from_str_radix(&newest, 16).unwrap();
    assert_eq!(value("litestream_txid"), newest as f64);
    assert_eq!(value("litestream_replica_txid"), newest as f64);
    assert_eq!(value("litestream_replica_backlog_bytes"), 0.0);
    assert_eq!(value("litestream_ready"), 1.0);
    assert_eq!(scrape.get("litestream_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert_eq!(value("litestream_db_size"), app.path().metadata().unwrap().len() as f64);
    let captured: u64 = ltx_files(&site.replica(), 0).iter().map(|(_, _, path)| wal_bytes(path)).sum();
    assert!(
        value("litestream_total_wal_bytes") >= captured as f64,
        "a snapshot may stand for the first file"
    );
    assert!(value("litestream_wal_size") > 0.0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let age = now - value("litestream_replica_txid_timestamp_seconds");
    assert!((0.0..30.0).contains(&age), "captured {age} s ago");
    let of_puts = |name| scrape.get(name, &[("replica_type", "file"), ("operation", "PUT")]);
    assert_eq!(of_puts("litestream_replica_operation_bytes"), Some(bytes_below(&site.replica()) as f64));
    assert_eq!(
        of_puts("litestream_replica_operation_duration_seconds_count"),
        of_puts("litestream_replica_operation_total")
    );
    for name in ["litestream_sync_error_count", "litestream_disk_full", "litestream_compaction_error_count"] {
        assert_eq!(value(name), 0.0, "{name}");
    }
    assert!(value("litestream_sync_count") > 1.0 && value("litestream_sync_seconds") > 0.0);
    daemon.stop();
}

/// Bytes of WAL that went into a level-0 file, as its header says.
fn wal_bytes(file: &Path) -> u64 {
    let bytes = fs::read(file).unwrap();
    u64::from_be_bytes(bytes[56..64].try_into().unwrap())
}

#[test]
fn the_lag_grows_while_the_replica_is_away_and_falls_to_nothing_when_it_is_back() {
    let site = Site::new();
    let app = site.app();
    let daemon = site.daemon_with("", ADDR);
    let shown = Shown::of(&daemon);
    shown.wait_until_shipped();
    let away = OutOfReach::take(&site.replica());
    app.sell(10, 100);
    wait_until("the lag grows", SOON, || shown.value("litestream_replica_lag_seconds") > 1.5);
    app.sell(10, 100);
    wait_until("two captures wait", SOON, || {
        let scrape = shown.scrape();
        scrape.get("litestream_txid", &[]).unwrap()
            >= scrape.get("litestream_replica_txid", &[]).unwrap() + 2.0
    });
    let scrape = shown.scrape();
    assert!(scrape.get("litestream_replica_backlog_bytes", &[]).unwrap() > 100.0);
    let failed = [("operation", "PUT"), ("replica_type", "file"), ("code", "io")];
    assert!(
        scrape.get("litestream_replica_operation_errors_total", &failed).is_some_and(|count| count > 0.0)
    );
    assert_eq!(shown.says("/readyz"), (200, "ok\n".into()), "its first sync was long ago");
    drop(away);
    shown.wait_until_shipped();
    assert_eq!(shown.value("litestream_replica_backlog_bytes"), 0.0);
    daemon.stop();
}

#[test]
fn a_commit_that_waits_for_its_turn_is_lag_too() {
    let site = Site::new();
    let app = site.app();
    let config = site.config("", ADDR);
    let text = fs::read_to_string(&config).unwrap().replace("sync-interval: 100ms", "sync-interval: 1h");
    fs::write(&config, text).unwrap();
    let daemon = walstream().replicate_config(&config).ready();
    let shown = Shown::of(&daemon);
    shown.wait_until_shipped();
    app.sell(1, 10);
    wait_until("the first commit is captured", SOON, || shown.value("litestream_sync_count") > 1.0);
    app.sell(1, 10);
    wait_until("the second one is lag", SOON, || shown.value("litestream_replica_lag_seconds") > 1.0);
    daemon.stop();
}

#[test]
fn it_is_ready_once_every_database_has_had_its_first_sync() {
    let site = Site::new();
    fs::create_dir(site.replica()).unwrap();
    let config = site.config("", ADDR);
    let mut daemon = walstream().replicate_config(&config);
    let shown = Shown::by(|| daemon.process.stdout());
    let line = |reason: &str| format!("{}: {reason}\n", site.database().display());
    assert_eq!(shown.says("/healthz"), (200, "ok\n".into()));
    wait_until("it waits for the database", SOON, || {
        shown.says("/readyz") == (503, line("does not exist yet"))
    });
    assert_eq!(shown.value("litestream_ready"), 0.0);
    assert_eq!(shown.value("litestream_replica_lag_seconds"), 0.0, "there is nothing to replicate");
    let away = OutOfReach::take(&site.replica());
    let _app = site.app();
    wait_until("it waits for the replica", SOON, || {
        let (status, text) = shown.says("/readyz");
        status == 503 && text.starts_with(line("cannot be replicated yet: cannot ").trim_end())
    });
    drop(away);
    wait_until("it is ready", SOON, || shown.says("/readyz") == (200, "ok\n".into()));
    assert!(site.snapshots() > 0);
    assert_eq!(shown.value("litestream_ready"), 1.0);
    assert_eq!(shown.says("/healthz"), (200, "ok\n".into()));
    assert!(daemon.process.is_running());
    daemon.stop();
}

#[test]
fn a_database_that_is_another_writers_is_not_ready() {
    let (site, other) = (Site::new(), Site::new());
    site.app().sell(1, 10);
    let _other_app = other.app();
    site.replicate_once();
    site.app().sell(1, 10);
    let daemon = other.daemon_with("", ADDR);
    let shown = Shown::of(&daemon);
    shown.wait_until_shipped();
    drop(daemon.stop());

    // It comes back with local state, and to the replica of somebody else.
    let config = other.config("", ADDR);
    let text = fs::read_to_string(&config).unwrap().replace(&other.url(), &site.url());
    fs::write(&config, text).unwrap();
    let daemon = walstream().replicate_config(&config);
    let shown = Shown::of(&daemon);
    wait_until("replication has stopped", SOON, || {
        let (status, text) = shown.says("/readyz");
        status == 503 && text.contains("is no longer replicated: replica") && text.lines().count() == 1
    });
    assert!(shown.value("litestream_replica_lag_seconds") > 0.0);
}

#[test]
fn there_is_nothing_else_at_that_address() {
    let site = Site::new();
    let _app = site.app();
    let daemon = site.daemon_with("", ADDR);
    let shown = Shown::of(&daemon);
    for path in ["/", "/debug/pprof/", "/metrics/", "/metricsx", "/%00"] {
        assert_eq!(shown.get(path).status, 404, "{path}");
    }
    assert_eq!(request(&shown.address, "POST", "/metrics", &[], b"x").unwrap().status, 405);
    daemon.stop();
}

#[test]
fn an_address_that_is_taken_is_said_and_replication_goes_on() {
    let site = Site::new();
    let app = site.app();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut daemon = site.daemon_with("", &format!("addr: '{address}'"));
    daemon.process.wait_for_output("cannot start metrics server", SOON);
    let log = daemon.process.stdout();
    assert!(log.contains("level=ERROR") && log.contains(&format!("addr={address}")), "{log}");
    app.sell(1, 10);
    site.wait_until_caught_up(&app);
    drop(taken);
    daemon.process.wait_for_output("serving metrics on", SOON);
    assert_eq!(Shown::of(&daemon).says("/healthz").0, 200);
    daemon.stop();
}

#[test]
fn an_address_needs_a_port() {
    let site = Site::new();
    let config = site.config("", "addr: localhost");
    let refused = walstream().run(["replicate".as_ref(), "-config".as_ref(), config.as_os_str()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused.stderr.contains("must specify port for bind address: \"localhost\""),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_database_that_is_gone_leaves_no_series_behind() {
    let folder = tempfile::tempdir().unwrap();
    let tenants = folder.path().join("tenants");
    fs::create_dir(&tenants).unwrap();
    let config = folder.path().join("litestream.yml");
    let (dir, replica) = (tenants.display(), file_url(&folder.path().join("replica")));
    let entry = format!("dir: {dir}, pattern: '*.db', watch: true, replica: {{url: '{replica}'}}");
    fs::write(&config, format!("{ADDR}\ndbs: [{{{entry}}}]")).unwrap();
    let daemon = walstream().replicate_config(&config);
    let shown = Shown::of(&daemon);
    assert_eq!(shown.says("/readyz").0, 200, "nothing is to be replicated yet");
    let paths: Vec<PathBuf> = ["a.db", "b \"q\".db"].map(|name| tenants.join(name)).into();
    for path in &paths {
        App::open(path).sell(1, 10);
    }
    let databases = || -> BTreeSet<PathBuf> {
        let scrape = shown.scrape();
        scrape.samples().filter_map(|sample| sample.labels.get("db")).map(PathBuf::from).collect()
    };
    wait_until("both are there", SOON, || databases() == paths.iter().cloned().collect());
    wait_until("both are ready", SOON, || shown.says("/readyz").0 == 200);
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", paths[0].display()));
    }
    wait_until("only the other one is left", SOON, || databases() == paths[1..].iter().cloned().collect());
    daemon.stop();
}

#[test]
fn validations_are_counted_with_what_they_found() {
    let site = Site::new();
    site.app().sell(20, 300);
    let daemon = site.daemon_with("", &format!("{ADDR}\nvalidation: {{interval: 200ms}}"));
    let shown = Shown::of(&daemon);
    let value = |name| shown.scrape().get(name, &[]);
    let last_success = || value("litestream_validation_last_success_timestamp_seconds");
    wait_until("a validation found nothing wrong", SOON, || last_success().is_some());
    assert_eq!(value("litestream_validation_error_count"), Some(0.0));
    let snapshot = ltx_files(&site.replica(), 9).pop().unwrap().2;
    let mut bytes = fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&snapshot, bytes).unwrap();
    wait_until("a validation found damage", SOON, || {
        value("litestream_validation_error_count").is_some_and(|count| count > 0.0)
    });
    let scrape = shown.scrape();
    let failed = scrape.get("litestream_validation_error_count", &[]);
    assert!(failed < scrape.get("litestream_validation_count", &[]));
    daemon.stop();
}

#[test]
fn a_follower_shows_how_far_it_is_behind() {
    let site = Site::new();
    let app = site.app();
    app.sell(20, 300);
    site.replicate_once();
    let (copy, url) = (site.path("copy.db"), site.url());
    let copy = copy.to_str().unwrap();
    let arguments =
        ["restore", "-f", "-follow-interval", "50ms", "-addr", "127.0.0.1:0", "-o", copy, url.as_str()];
    let follower = Running::start(&mut walstream().command(arguments));
    let shown = Shown::by(|| follower.stdout());
    wait_until("the copy is ready", SOON, || shown.says("/readyz") == (200, "ok\n".into()));
    assert_eq!(shown.says("/healthz"), (200, "ok\n".into()));
    app.sell(5, 100);
    site.replicate_once();
    wait_until("the copy has the newest state", SOON, || {
        shown.value("litestream_follower_txid") == site.newest_txid() as f64
    });
    let scrape = shown.scrape();
    let of_copy = |name| scrape.get(name, &[("db", copy)]).unwrap_or_else(|| panic!("{name} is missing"));
    assert!(of_copy("litestream_follower_lag_seconds") < 1.0);
    assert!(of_copy("litestream_follower_step_count") >= 1.0);
    assert!(of_copy("litestream_follower_txid_timestamp_seconds") > 1.6e9);
    assert_eq!(of_copy("litestream_follower_error_count"), 0.0);
    assert_eq!(scrape.get("litestream_restore_duration_seconds_count", &[]), Some(1.0));
    let gets = [("replica_type", "file"), ("operation", "GET")];
    assert!(scrape.get("litestream_replica_operation_bytes", &gets).is_some_and(|bytes| bytes > 100.0));

    let away = OutOfReach::take(&site.replica());
    wait_until("it falls behind", SOON, || shown.value("litestream_follower_lag_seconds") > 1.5);
    assert!(shown.value("litestream_follower_error_count") > 0.0);
    drop(away);
    wait_until("it follows again", SOON, || shown.value("litestream_follower_lag_seconds") < 1.0);
    follower.stop(SOON).success();
}

#[test]
fn a_follower_takes_the_address_of_the_configuration_file() {
    let site = Site::new();
    site.app().sell(1, 10);
    site.replicate_once();
    let (copy, config) = (site.path("copy.db"), site.config("", ADDR));
    let (copy, config, database) = (copy.to_str().unwrap(), config.to_str().unwrap(), site.database());
    let arguments = ["restore", "-f", "-config", config, "-o", copy, database.to_str().unwrap()];
    let follower = Running::start(&mut walstream().command(arguments));
    let shown = Shown::by(|| follower.stdout());
    wait_until("the copy is ready", SOON, || shown.says("/readyz").0 == 200);
    follower.stop(SOON).success();
    let refused = walstream().try_restore(&site.url(), &site.path("other.db"), &["-addr", ":9090"]);
    assert!(refused.stderr.contains("cannot specify -addr flag without -f"), "{}", refused.stderr);
}

/// A database that is written to for a while, with everything that has metrics of its own at work.
fn scrape_beside(program: &Program) -> Scrape {
    let (site, moto) = (Site::new(), Moto::start());
    let app = site.app();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let global = format!(
        "addr: '127.0.0.1:{port}'\nlevels: [{{interval: 1s}}]\nl0-retention: 1s\n\
         l0-retention-check-interval: 500ms\nverify-compaction: true"
    );
    let config = site.config("checkpoint-interval: 500ms", &global);
    let text = fs::read_to_string(&config).unwrap().replace(&site.url(), &moto.replica_url("shop"));
    fs::write(&config, text).unwrap();
    let daemon = program.replicate_config(&config).ready();
    let shown = Shown { address: format!("127.0.0.1:{port}") };
    let deleted = [("replica_type", "s3"), ("operation", "DELETE")];
    let scrape = eventually("files were deleted, and the WAL checkpointed", SOON * 2, || {
        app.sell(5, 300);
        std::thread::sleep(Duration::from_millis(200));
        let scrape = Scrape::parse(&shown.says("/metrics").1);
        let is_there = |name, labels| scrape.get(name, labels).is_some_and(|value| value > 0.0);
        let all = is_there("litestream_replica_operation_total", &deleted)
            && is_there("litestream_checkpoint_count", &[("mode", "PASSIVE")]);
        all.then_some(scrape)
    });
    daemon.stop();
    scrape
}

#[test]
fn every_metric_of_litestream_is_there_with_its_type_and_labels_on_moto() {
    let (theirs, ours) = (scrape_beside(&Program::litestream()), scrape_beside(&walstream()));
    let of_litestream = theirs.families.iter().filter(|(name, _)| name.starts_with("litestream_"));
    let mut compared = 0;
    for (name, family) in of_litestream {
        let same = ours.families.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(family.kind, same.kind, "{name}");
        assert_eq!(family.labels(), same.labels(), "{name}");
        for sample in &family.samples {
            let values = |label: &str| -> BTreeSet<&String> {
                same.samples.iter().filter_map(|sample| sample.labels.get(label)).collect()
            };
            for label in ["mode", "status", "replica_type", "operation", "le"] {
                let value = sample.labels.get(label);
                assert!(value.is_none_or(|value| values(label).contains(value)), "{name} {sample:?}");
            }
        }
        compared += 1;
    }
    println!("{compared} metrics of Litestream compared");
    assert!(compared >= 15, "{compared}");
}
