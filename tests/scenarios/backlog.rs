//! A store that is away for a while: everything is captured, little is said, and what waited goes up as few files.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use walstream_test_support::compare::assert_same_pages;
use walstream_test_support::replica::{OutOfReach, file_url, ltx_files, newest_txid, txids};
use walstream_test_support::{App, Daemon, wait_until};

use crate::walstream;

const DEADLINE: Duration = Duration::from_secs(60);
/// So many captures wait in the end. Fewer would not be worth merging for a directory.
const WAITING: u64 = 100;

struct Shop {
    folder: TempDir,
    app: App,
}

impl Shop {
    fn open() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path().join("shop.db"));
        app.sell(500, 300);
        let shop = Shop { folder, app };
        let dbs = format!(
            "dbs: [{{path: {}, replica: {{url: '{}', sync-interval: 20ms}}}}]",
            shop.app.path().display(),
            file_url(&shop.replica())
        );
        fs::write(shop.config(), dbs).unwrap();
        shop
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> PathBuf {
        self.path().join("config.yml")
    }

    fn replica(&self) -> PathBuf {
        self.path().join("replica")
    }

    fn captured(&self) -> u64 {
        newest_txid(&self.path().join(".shop.db-litestream"))
    }

    fn start(&self) -> Daemon {
        walstream().replicate_config(&self.config()).ready()
    }

    /// A daemon whose replica has all that there is.
    fn replicated(&self) -> Daemon {
        let daemon = self.start();
        let replica = self.replica();
        wait_until("the replica is whole", DEADLINE, || {
            !ltx_files(&replica, 9).is_empty() && newest_txid(&replica) > 1
        });
        daemon
    }

    /// Many commits that come one by one.
    fn trade(&self) {
        for _ in 0..WAITING {
            let before = self.captured();
            self.app.sell(2, 300);
            wait_until("the capture", DEADLINE, || self.captured() > before);
        }
    }

    /// The level-0 files of the replica lead without a gap to all that is captured, and each state can be restored.
    fn assert_whole(&self) {
        let (replica, restored) = (self.replica(), self.path().join("restored.db"));
        assert_eq!(newest_txid(&replica), self.captured());
        for txid in txids(&replica) {
            walstream().restore(
                &file_url(&replica),
                &restored,
                &["-force", "-txid", &format!("{txid:016x}")],
            );
        }
        walstream().restore(&file_url(&replica), &restored, &["-force"]);
        assert_same_pages(self.app.path(), &restored);
    }
}

#[test]
fn what_waited_goes_up_as_few_files() {
    let shop = Shop::open();
    let daemon = shop.replicated();
    let outage = OutOfReach::take(&shop.replica());
    let before = shop.captured();
    shop.trade();
    drop(outage);
    wait_until("everything on the replica", DEADLINE, || newest_txid(&shop.replica()) == shop.captured());
    let files = ltx_files(&shop.replica(), 0).into_iter().filter(|&(_, last, _)| last > before).count();
    assert!(files < 10, "{files} files for {WAITING} captures");

    let said = daemon.stop().stdout;
    let lines = |words: &str| said.lines().filter(|line| line.contains(words)).count();
    assert_eq!(lines("upload failed, trying again"), 1, "{said}");
    assert_eq!(lines("oldest_unshipped="), 1, "{said}");
    assert_eq!(lines("replica sync recovered"), 1, "{said}");
    shop.assert_whole();
}

#[test]
fn a_backlog_survives_the_daemon() {
    let shop = Shop::open();
    let daemon = shop.replicated();
    let outage = OutOfReach::take(&shop.replica());
    shop.trade();
    daemon.kill_9();
    drop(outage);
    shop.app.sell(3, 300);
    shop.start().stop();
    shop.assert_whole();
}
