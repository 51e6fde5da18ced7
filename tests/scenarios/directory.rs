//! A watched directory: databases come and go while the daemon runs, and nobody tells it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use walstream_test_support::compare::assert_same_rows;
use walstream_test_support::replica::{
    file_url, files, files_below, ltx_files, newest_txid, reachable_txids,
};
use walstream_test_support::{App, Daemon, wait_until};

use crate::walstream;

const DEADLINE: Duration = Duration::from_secs(30);

/// A folder `tenants`, watched with everything below it, and its replica.
struct Tenants {
    folder: tempfile::TempDir,
}

impl Tenants {
    fn new() -> Tenants {
        let tenants = Tenants { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(tenants.database("")).unwrap();
        tenants
    }

    fn start(&self) -> Daemon {
        let config = self.folder.path().join("litestream.yml");
        let (dir, replica) = (self.database(""), self.replica(""));
        let entry = format!(
            "dir: {}, pattern: '*.db', recursive: true, watch: true, replica: {{path: {}}}",
            dir.display(),
            replica.display()
        );
        fs::write(&config, format!("dbs: [{{{entry}}}]")).unwrap();
        let mut daemon = walstream().replicate_config(&config);
        daemon.process.wait_for_output("watching directory", DEADLINE);
        daemon
    }

    fn database(&self, name: &str) -> PathBuf {
        self.folder.path().join("tenants").join(name)
    }

    /// The replica of a database.
    fn replica(&self, name: &str) -> PathBuf {
        self.folder.path().join("replica").join(name)
    }

    /// A tenant moves in.
    fn open(&self, name: &str) -> App {
        let path = self.database(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        App::open(path)
    }

    fn is_replicated(&self, name: &str) -> bool {
        !ltx_files(&self.replica(name), 9).is_empty() && newest_txid(&self.replica(name)) > 0
    }

    #[track_caller]
    fn wait_until_replicated(&self, name: &str) {
        wait_until(&format!("{name} is replicated"), DEADLINE, || self.is_replicated(name));
    }

    #[track_caller]
    fn assert_restores_to(&self, name: &str, app: &App) {
        let restored = self.folder.path().join("restored.db");
        walstream().restore(&file_url(&self.replica(name)), &restored, &["-force"]);
        assert_same_rows(app.path(), &restored);
    }
}

/// Deletes a database as `rm app.db*` does.
fn delete(app: App) {
    let path = app.path().to_owned();
    drop(app);
    for suffix in ["", "-shm", "-wal"] {
        let _ = fs::remove_file(path.with_extension(format!("db{suffix}")));
    }
}

/// What the daemon has open of a database, deleted or not, its metadata folder included.
fn open_files(daemon: &Daemon, database: &Path) -> Vec<PathBuf> {
    let name = database.file_name().unwrap().to_str().unwrap().to_owned();
    let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.process.id())).unwrap();
    let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.unwrap().path()).ok());
    targets
        .filter(|target| target.starts_with(database.parent().unwrap()))
        .filter(|target| target.to_string_lossy().contains(&name))
        .collect()
}

#[test]
fn a_thousand_databases_appear_within_seconds() {
    let tenants = Tenants::new();
    let daemon = tenants.start();
    let name = |n: usize| if n.is_multiple_of(2) { format!("{n}.db") } else { format!("{n}/sub/{n}.db") };
    let names: Vec<String> = (0..1000).map(name).collect();
    let apps: Vec<App> = names.iter().map(|name| tenants.open(name)).collect();

    let missing = |names: &[String]| names.iter().filter(|name| !tenants.is_replicated(name)).count();
    wait_until("all are replicated", 4 * DEADLINE, || missing(&names) == 0);
    for n in [0, 1, 498, 499, 998, 999] {
        apps[n].sell(3, 100);
    }
    daemon.stop();
    for n in [0, 1, 7, 498, 499, 998, 999] {
        tenants.assert_restores_to(&names[n], &apps[n]);
    }
}

#[test]
fn a_deleted_database_is_released_at_once_and_its_replica_stays() {
    let tenants = Tenants::new();
    let (stays, goes) = (tenants.open("stays.db"), tenants.open("goes.db"));
    let mut daemon = tenants.start();
    tenants.wait_until_replicated("goes.db");
    goes.sell(20, 100);
    let copy = tenants.folder.path().join("copy.db");
    goes.execute(&format!("VACUUM INTO '{}'", copy.display()));
    assert!(!open_files(&daemon, goes.path()).is_empty());
    let path = goes.path().to_owned();
    // What was committed a moment ago is on its way.
    std::thread::sleep(Duration::from_millis(500));
    delete(goes);

    daemon.process.wait_for_output("database released", DEADLINE);
    assert_eq!(open_files(&daemon, &path), Vec::<PathBuf>::new());
    let restored = tenants.folder.path().join("restored.db");
    walstream().restore(&file_url(&tenants.replica("goes.db")), &restored, &[]);
    assert_same_rows(&copy, &restored);
    stays.sell(3, 100);
    daemon.stop();
    tenants.assert_restores_to("stays.db", &stays);
}

#[test]
fn a_database_that_was_deleted_and_comes_back_goes_on_with_its_history() {
    let tenants = Tenants::new();
    let first = tenants.open("a.db");
    let mut daemon = tenants.start();
    tenants.wait_until_replicated("a.db");
    first.sell(50, 500);
    std::thread::sleep(Duration::from_millis(500));
    delete(first);
    daemon.process.wait_for_output("database released", DEADLINE);
    let before = reachable_txids(&files(&tenants.replica("a.db")));

    let second = tenants.open("a.db");
    second.sell(3, 100);
    let newest = || newest_txid(&tenants.replica("a.db"));
    wait_until("the new content is replicated", DEADLINE, || newest() > *before.last().unwrap());
    daemon.stop();
    tenants.assert_restores_to("a.db", &second);
    let after = reachable_txids(&files(&tenants.replica("a.db")));
    assert!(before.iter().all(|txid| after.contains(txid)), "{before:?} {after:?}");
    assert_eq!(ltx_files(&tenants.replica("a.db"), 9).len(), 1, "a diff and not a full copy");
}

#[test]
fn a_folder_that_is_deleted_goes_without_resistance() {
    let tenants = Tenants::new();
    let daemon = tenants.start();
    let apps = ["x/a.db", "x/b.db", "x/y/c.db"].map(|name| tenants.open(name));
    for name in ["x/a.db", "x/b.db", "x/y/c.db"] {
        tenants.wait_until_replicated(name);
    }
    drop(apps);
    fs::remove_dir_all(tenants.database("x")).unwrap();
    let released = || daemon.process.stdout().matches("database released").count();
    wait_until("all three are released", DEADLINE, || released() == 3);
    assert!(!tenants.database("x").exists(), "nothing is written to a folder that is being deleted");

    let again = tenants.open("x/a.db");
    again.sell(3, 100);
    std::thread::sleep(Duration::from_millis(1500));
    let said = daemon.stop().stdout;
    tenants.assert_restores_to("x/a.db", &again);
    assert!(!said.contains("level=ERROR"), "{said}");
}

#[test]
fn a_database_that_is_moved_in_is_taken_and_one_that_is_moved_out_is_released() {
    let tenants = Tenants::new();
    let mut daemon = tenants.start();
    let outside = tenants.folder.path().join("new.db");
    let app = App::open(&outside);
    app.sell(5, 100);
    app.checkpoint("TRUNCATE");
    drop(app);
    let inside = tenants.database("moved.db");
    fs::rename(&outside, &inside).unwrap();
    tenants.wait_until_replicated("moved.db");
    fs::rename(&inside, &outside).unwrap();
    daemon.process.wait_for_output("database released", DEADLINE);
    assert_eq!(open_files(&daemon, &inside), Vec::<PathBuf>::new());
    daemon.stop();
}

#[test]
fn only_databases_are_taken_and_an_empty_file_once_it_is_one() {
    let tenants = Tenants::new();
    let daemon = tenants.start();
    fs::write(tenants.database("text.db"), "no database, whatever its name says").unwrap();
    fs::write(tenants.database("later.db"), "").unwrap();
    let other = App::open(tenants.database("other.sqlite"));
    let app = tenants.open("a.db");
    tenants.wait_until_replicated("a.db");
    let replicated: Vec<_> =
        fs::read_dir(tenants.replica("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(replicated, ["a.db"]);
    drop(other);

    let later = App::open(tenants.database("later.db"));
    tenants.wait_until_replicated("later.db");
    daemon.stop();
    tenants.assert_restores_to("later.db", &later);
    tenants.assert_restores_to("a.db", &app);
    assert!(
        files_below(&tenants.replica("")).iter().all(|file| file.extension().is_some_and(|e| e == "ltx"))
    );
}
