//! Replicas of Litestream 0.3: the real 0.3.13 makes them of a live application, on every store that it knew. Others
//! hold what somebody copied there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use tempfile::TempDir;
use walstream_test_support::compare::{assert_rows, assert_same_pages, assert_sound, rows};
use walstream_test_support::golden::{Golden, sha256};
use walstream_test_support::replica::files_below;
use walstream_test_support::{
    Azurite, Daemon, Finished, Gcs, Moto, NatsServer, Program, Sshd, WebDav, wait_until,
};

use crate::site::Site;

const DEADLINE: Duration = Duration::from_secs(60);

/// A store that version 0.3 knew, with nothing in it.
enum Store {
    Directory(TempDir),
    S3(Moto),
    Google(Gcs),
    Azure(Azurite),
    Sftp(Sshd),
}

impl Store {
    /// The replica's section of a configuration file, as all versions understand it but for its type.
    fn replica(&self) -> String {
        match self {
            Store::Directory(folder) => {
                format!("{{type: file, path: '{}'}}", folder.path().join("shop").display())
            }
            Store::S3(moto) => format!(
                "{{type: s3, bucket: {}, path: backup/shop, endpoint: '{}', region: us-east-1}}",
                Moto::BUCKET,
                moto.endpoint()
            ),
            Store::Google(_) => format!("{{type: gs, bucket: {}, path: backup/shop}}", Gcs::BUCKET),
            Store::Azure(azurite) => format!(
                "{{type: abs, account-name: {}, bucket: {}, path: backup/shop, endpoint: '{}'}}",
                Azurite::ACCOUNT,
                Azurite::CONTAINER,
                azurite.endpoint()
            ),
            Store::Sftp(server) => server.replica("shop"),
        }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Store::Google(gcs) => gcs.environment().into(),
            Store::Azure(_) => Azurite::environment().into(),
            Store::Directory(_) | Store::S3(_) | Store::Sftp(_) => Vec::new(),
        }
    }

    /// Whether Litestream 0.5 looks for replicas of version 0.3 there.
    fn is_read_by_litestream(&self) -> bool {
        matches!(self, Store::Directory(_) | Store::S3(_))
    }
}

/// A moment between two commits, when everything was on the replica.
struct Moment {
    time: String,
    rows: Vec<String>,
}

/// A live application, and Litestream 0.3 beside it.
struct Shop<'a> {
    site: Site<'a>,
    version_03: Program,
    replica: String,
    moments: Vec<Moment>,
}

impl Shop<'_> {
    fn on(store: &Store) -> Shop<'_> {
        let site = Site::by_config(&store.replica(), Vec::new).with(store.environment());
        let version_03 = Program::litestream_03().with(store.environment());
        // What is called so since 0.5.
        let replica = store.replica().replace("type: gs,", "type: gcs,").replace('}', "");
        Shop { site, version_03, replica, moments: Vec::new() }
    }

    fn config(&self) -> PathBuf {
        self.site.folder.path().join("0.3.yml")
    }

    /// Starts it; the WAL is restarted after some 20 pages.
    fn replicate(&self, keys: &str) -> Daemon {
        let (path, replica) = (self.site.app.path().display(), &self.replica);
        let config = format!(
            "dbs:\n  - path: {path}\n    monitor-interval: 50ms\n    min-checkpoint-page-count: 20\n    replicas:\n      \
             - {replica}, sync-interval: 50ms{keys}}}\n"
        );
        fs::write(self.config(), config).unwrap();
        self.version_03.replicate_config(&self.config())
    }

    /// A command of version 0.3 about the database.
    fn ask_03(&self, command: &str, flags: &[&str]) -> Finished {
        let (config, path) = (self.config(), self.site.app.path());
        let mut arguments = vec![command, "-config", config.to_str().unwrap()];
        arguments.extend(flags);
        arguments.push(path.to_str().unwrap());
        self.version_03.run(arguments)
    }

    /// The different values in a column of such a command's table.
    fn count_03(&self, command: &str, column: usize) -> usize {
        let table = self.ask_03(command, &[]).success().stdout;
        let mut values: Vec<&str> =
            table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(column)).collect();
        values.sort_unstable();
        values.dedup();
        values.len()
    }

    /// What version 0.3 itself restores; it overwrites nothing.
    fn restore_03(&self, flags: &[&str]) -> Option<PathBuf> {
        let output = self.site.folder.path().join("by-0.3.db");
        let _ = fs::remove_file(&output);
        let flags = [&["-o", output.to_str().unwrap()], flags].concat();
        self.ask_03("restore", &flags).status.success().then_some(output)
    }

    /// A commit, and the wait until version 0.3 itself restores it.
    fn sell(&self) {
        self.site.app.sell(30, 4000);
        let expected = self.site.app.query(SOLD);
        wait_until("the commit is on the replica", DEADLINE, || {
            self.restore_03(&[]).and_then(|output| sold(&output)).as_ref() == Some(&expected)
        });
    }

    /// A commit, and a moment after it that lies before the next.
    fn sell_and_note(&mut self) {
        self.sell();
        let time = self.site.app.query("SELECT strftime('%Y-%m-%dT%H:%M:%fZ')");
        self.moments.push(Moment { time, rows: rows(self.site.app.path()) });
        wait_for_the_next_second();
    }

    /// The application's own checkpoint, which copies what it can: version 0.3 reads all the time, and restarts the WAL
    /// itself.
    fn truncate(&self) {
        let app = &self.site.app;
        app.connection().busy_timeout(Duration::ZERO).unwrap();
        app.checkpoint("TRUNCATE");
        app.connection().busy_timeout(DEADLINE).unwrap();
    }

    /// Version 0.3 follows the application for a while: WALs that are restarted, a stop and a start, a fresh snapshot, and
    /// a second generation, because it has lost its local state.
    fn live(&mut self) {
        let daemon = self.replicate("");
        for _ in 0..3 {
            self.sell_and_note();
            self.truncate();
        }
        self.sell();
        daemon.stop();

        let daemon = self.replicate(", snapshot-interval: 2s");
        self.sell();
        wait_until("a fresh snapshot", DEADLINE, || self.count_03("snapshots", 2) > 1);
        self.sell_and_note();
        self.sell();
        daemon.stop();
        assert_eq!(self.count_03("generations", 1), 1);
        assert!(self.count_03("wal", 2) > 3, "{:#?}", self.ask_03("wal", &[]));

        fs::remove_dir_all(self.site.folder.path().join(".shop.db-litestream")).unwrap();
        self.site.app.checkpoint("TRUNCATE");
        wait_for_the_next_second();
        let daemon = self.replicate("");
        for _ in 0..2 {
            self.sell_and_note();
        }
        self.sell();
        daemon.stop();
        assert_eq!(self.count_03("generations", 1), 2);
    }
}

/// Many servers tell times in whole seconds, rounded down: what they are to tell apart must not be of the same.
fn wait_for_the_next_second() {
    let part = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_millis();
    std::thread::sleep(Duration::from_millis(u64::from(1010 - part)));
}

const SOLD: &str = "SELECT value FROM setting WHERE key = 'sold'";

/// How much was sold in a restored database, if it is one.
fn sold(database: &Path) -> Option<String> {
    let connection = Connection::open(database).ok()?;
    connection.query_row(SOLD, [], |row| row.get::<_, i64>(0)).ok().map(|sold| sold.to_string())
}

/// The latest state is the application's to the byte. At each moment the state is what it was, and the file the same to
/// the byte as that of version 0.3, and of 0.5 where it looks: all of them let SQLite apply the same WALs. (For moments
/// between two generations their rules differ; there are none here.)
fn every_version_restores_the_same(store: &Store) {
    let mut shop = Shop::on(store);
    shop.live();
    let site = &shop.site;
    let restored = |program: &Program, flags: &[&str]| {
        let output = site.folder.path().join(format!("by-{}.db", program.name));
        site.restore(program, &output, flags);
        output
    };
    let latest = restored(&site.walstream(), &[]);
    assert_same_pages(site.app.path(), &latest);
    assert_sound(&latest);
    for Moment { time, rows } in &shop.moments {
        let flags = ["-timestamp", time.as_str()];
        let ours = restored(&site.walstream(), &flags);
        let expected = fs::read(&ours).unwrap();
        let mut theirs = vec![shop.restore_03(&flags).unwrap()];
        if store.is_read_by_litestream() {
            theirs.push(restored(&site.litestream(), &flags));
        }
        for theirs in theirs {
            assert!(fs::read(&theirs).unwrap() == expected, "{time}: {} differs", theirs.display());
        }
        assert_rows(rows, &ours);
        assert_sound(&ours);
    }
}

#[test]
fn litestream_03_to_walstream_in_a_directory() {
    every_version_restores_the_same(&Store::Directory(tempfile::tempdir().unwrap()));
}

#[test]
fn litestream_03_to_walstream_on_s3() {
    every_version_restores_the_same(&Store::S3(Moto::start()));
}

#[test]
fn litestream_03_to_walstream_on_google_cloud_storage() {
    every_version_restores_the_same(&Store::Google(Gcs::start()));
}

#[test]
fn litestream_03_to_walstream_on_azure() {
    every_version_restores_the_same(&Store::Azure(Azurite::start()));
}

#[test]
fn litestream_03_to_walstream_on_sftp() {
    every_version_restores_the_same(&Store::Sftp(Sshd::start()));
}

/// Somebody copied a replica to a store that version 0.3 did not know.
fn a_copy_is_restored(url: &str, put: impl Fn(&str, &[u8])) {
    let golden = Golden::copy("v3-a");
    for file in files_below(&golden.replica()) {
        let name = file.strip_prefix(golden.replica()).unwrap().to_str().unwrap();
        put(&format!("backup/shop/{name}"), &fs::read(&file).unwrap());
    }
    crate::walstream().restore(&format!("{url}/backup/shop"), &golden.output(), &[]);
    assert_eq!(Some(sha256(&golden.output()).as_str()), golden.final_sha256());
}

#[test]
fn a_copy_of_version_03_on_webdav() {
    for server in [WebDav::nginx(), WebDav::wsgidav(), WebDav::rclone()] {
        let url = server.replica_url("");
        a_copy_is_restored(url.trim_end_matches('/'), |name, content| server.put(name, content));
    }
}

#[test]
fn a_copy_of_version_03_on_nats() {
    let server = NatsServer::start();
    a_copy_is_restored(&server.replica_url(), |name, content| {
        server.put_chunks(name, &content.chunks(1000).collect::<Vec<_>>());
    });
}
