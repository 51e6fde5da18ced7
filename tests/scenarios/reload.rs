//! SIGHUP: the configuration file is read anew while the daemon runs.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use tempfile::TempDir;
use walstream_test_support::replica::{file_url, ltx_files};
use walstream_test_support::{App, Daemon, wait_until};

use crate::site::SOON;
use crate::walstream;

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn app(&self, name: &str) -> App {
        let app = App::open(self.path(&format!("{name}.db")));
        app.sell(1, 10);
        app
    }

    /// A configuration of these databases, each with a replica of its own and with the keys that follow its name.
    fn write(&self, global: &str, databases: &[(&str, &str)]) -> PathBuf {
        let entry = |(name, keys): &(&str, &str)| {
            let (path, url) = (self.path(&format!("{name}.db")), file_url(&self.replica(name)));
            format!("- {{path: {}, replica: {{url: '{url}'{keys}}}}}\n", path.display())
        };
        let config = self.path("litestream.yml");
        let databases: String = databases.iter().map(entry).collect();
        fs::write(&config, format!("{global}\ndbs:\n{databases}")).unwrap();
        config
    }

    fn replica(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}-replica"))
    }

    #[track_caller]
    fn wait_until_replicated(&self, name: &str) {
        wait_until("it is on its replica", SOON, || !ltx_files(&self.replica(name), 9).is_empty());
    }
}

fn reload(daemon: &mut Daemon, result: &str) {
    daemon.process.signal(Signal::HUP);
    daemon.process.wait_for_output(result, SOON);
}

fn opened(daemon: &Daemon, path: &Path) -> usize {
    let text = format!("msg=\"initialized db\" path={}", path.display());
    daemon.process.stdout().lines().filter(|line| line.ends_with(&text)).count()
}

#[test]
fn databases_come_go_and_change_and_the_others_are_not_disturbed() {
    let folder = Folder::new();
    let (stays, goes, changes) = (folder.app("stays"), folder.app("goes"), folder.app("changes"));
    let config = folder.write("", &[("stays", ""), ("goes", ""), ("changes", "")]);
    let mut daemon = walstream().replicate_config(&config).ready();
    for name in ["stays", "goes", "changes"] {
        folder.wait_until_replicated(name);
    }
    let _comes = folder.app("comes");
    folder.write("", &[("stays", ""), ("changes", ", sync-interval: 200ms"), ("comes", "")]);
    reload(&mut daemon, "msg=\"configuration reloaded\" added=1 removed=1 changed=1");
    folder.wait_until_replicated("comes");
    wait_until("the one is released", SOON, || {
        daemon.process.stdout().contains(&format!("msg=\"database released\" path={}", goes.path().display()))
    });
    wait_until("the other is opened with its new settings", SOON, || opened(&daemon, changes.path()) == 2);
    assert!(daemon.process.stdout().contains("sync-interval=200ms"));
    assert_eq!(opened(&daemon, stays.path()), 1, "{}", daemon.process.stdout());
    reload(&mut daemon, "added=0 removed=0 changed=0");
    assert_eq!(opened(&daemon, stays.path()), 1);
    stays.sell(1, 10);
    changes.sell(1, 10);
    daemon.stop();
    for app in [&stays, &changes] {
        let name = app.path().file_stem().unwrap().to_str().unwrap().to_owned();
        let restored = folder.path("restored.db");
        walstream().restore(&file_url(&folder.replica(&name)), &restored, &["-force"]);
        crate::site::assert_copy(app.path(), &restored);
    }
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing_and_one_line_says_so() {
    let folder = Folder::new();
    let app = folder.app("app");
    let config = folder.write("", &[("app", "")]);
    let mut daemon = walstream().replicate_config(&config).ready();
    folder.wait_until_replicated("app");
    for (text, reason) in [
        ("dbs:\n  - ptah: /x\n", "unknown key"),
        ("dbs: [{path: /x, replica: {url: 'file:///y', sync-interval: 0s}}]\n", "must be greater than 0"),
    ] {
        fs::write(&config, text).unwrap();
        let before = daemon.process.stdout().lines().count();
        reload(&mut daemon, reason);
        let log = daemon.process.stdout();
        let said: Vec<&str> = log.lines().skip(before).filter(|line| !line.contains("level=INFO")).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("configuration not reloaded, everything stays as it is"), "{said:?}");
    }
    app.sell(1, 10);
    daemon.stop();
    let restored = folder.path("restored.db");
    walstream().restore(&file_url(&folder.replica("app")), &restored, &[]);
    crate::site::assert_copy(app.path(), &restored);
}

#[test]
fn what_needs_a_restart_is_named() {
    let folder = Folder::new();
    let _app = folder.app("app");
    let config = folder.write("", &[("app", "")]);
    let mut daemon = walstream().replicate_config(&config).ready();
    folder.wait_until_replicated("app");
    folder.write("addr: '127.0.0.1:0'\nlogging: {level: debug}", &[("app", "")]);
    reload(&mut daemon, "keys=\"addr, logging\"");
    daemon.stop();
}

#[test]
fn a_watched_directory_may_come_and_go_too() {
    let folder = Folder::new();
    let config = folder.path("litestream.yml");
    fs::create_dir(folder.path("tenants")).unwrap();
    fs::write(&config, "dbs: []").unwrap();
    let mut daemon = walstream().replicate_config(&config);
    daemon.process.wait_for_output("no databases specified", SOON);
    let first = App::open(folder.path("tenants/first.db"));
    let entry = format!(
        "dbs: [{{dir: {}, pattern: '*.db', watch: true, replica: {{url: '{}'}}}}]",
        folder.path("tenants").display(),
        file_url(&folder.path("replica"))
    );
    fs::write(&config, entry).unwrap();
    wait_until("it has begun", SOON, || {
        daemon.process.signal(Signal::HUP);
        daemon.process.stdout().contains("watching directory")
    });
    let second = App::open(folder.path("tenants/second.db"));
    for app in [&first, &second] {
        let replica = folder.path("replica").join(app.path().file_name().unwrap());
        wait_until("it is on its replica", SOON, || !ltx_files(&replica, 9).is_empty());
    }
    daemon.stop();
}
