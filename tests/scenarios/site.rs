//! A database with its replica, in a folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use walstream_test_support::compare::{assert_same_pages, assert_same_rows, assert_sound, rows, with_suffix};
use walstream_test_support::replica::{file_url, ltx_files, newest_txid, txids};
use walstream_test_support::{App, Daemon, Finished, wait_until};

use crate::walstream;

/// The longest that anything may take that should be a matter of a second or two.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A folder with `shop.db`, what replication keeps beside it, and `replica`.
pub(crate) struct Site {
    folder: TempDir,
}

/// The restored file of every TXID that a replica listed at some moment.
pub(crate) type History = BTreeMap<u64, Vec<u8>>;

impl Site {
    pub(crate) fn new() -> Site {
        Site { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.path("shop.db")
    }

    /// The metadata folder.
    pub(crate) fn meta(&self) -> PathBuf {
        self.path(".shop.db-litestream")
    }

    pub(crate) fn replica(&self) -> PathBuf {
        self.path("replica")
    }

    pub(crate) fn url(&self) -> String {
        file_url(&self.replica())
    }

    /// The application.
    pub(crate) fn app(&self) -> App {
        App::open(self.database())
    }

    /// The application, with some mebibytes of items, so that a full copy cannot be taken for a small change.
    pub(crate) fn app_with_mebibytes(&self, mebibytes: u32) -> App {
        let app = self.app();
        app.sell(mebibytes * 1000, 1000);
        app
    }

    pub(crate) fn replicate_once(&self) -> Finished {
        walstream().replicate_once(&self.database(), &self.url())
    }

    /// A daemon with the default settings.
    pub(crate) fn daemon(&self) -> Daemon {
        walstream().replicate(&self.database(), &self.url()).ready()
    }

    /// A daemon with some keys of its own for the database, such as `checkpoint-interval: 100ms, meta-path: /x`, and
    /// for everything, such as `l0-retention: 1s`.
    pub(crate) fn daemon_with(&self, keys: &str, global: &str) -> Daemon {
        walstream().replicate_config(&self.config(keys, global)).ready()
    }

    /// The configuration file of [`Site::daemon_with`].
    pub(crate) fn config(&self, keys: &str, global: &str) -> PathBuf {
        let (config, database, url) = (self.path("config.yml"), self.database(), self.url());
        let replica = format!("replica: {{url: '{url}', sync-interval: 100ms}}");
        let keys = if keys.is_empty() { String::new() } else { format!("{keys}, ") };
        fs::write(&config, format!("{global}\ndbs: [{{path: {}, {keys}{replica}}}]\n", database.display()))
            .unwrap();
        config
    }

    pub(crate) fn newest_txid(&self) -> u64 {
        newest_txid(&self.replica())
    }

    pub(crate) fn snapshots(&self) -> usize {
        ltx_files(&self.replica(), 9).len()
    }

    /// Bytes on level 0 of the replica, where everything goes that is captured, and where a needless copy would show.
    pub(crate) fn captured(&self) -> u64 {
        ltx_files(&self.replica(), 0).iter().map(|(_, _, path)| path.metadata().unwrap().len()).sum()
    }

    /// Waits until the replica holds what the application has committed.
    #[track_caller]
    pub(crate) fn wait_until_caught_up(&self, app: &App) {
        let (expected, output) = (rows(app.path()), self.path("caught-up.db"));
        wait_until("the replica holds the last commit", SOON, || {
            let restored = walstream().try_restore(&self.url(), &output, &["-force"]);
            restored.status.success() && rows(&output) == expected
        });
    }

    /// Restores the newest state, or what the flags say.
    #[track_caller]
    pub(crate) fn restore(&self, flags: &[&str]) -> PathBuf {
        let output = self.path("restored.db");
        walstream().restore(&self.url(), &output, &[flags, &["-force"]].concat());
        output
    }

    /// The newest state of the replica is the database.
    #[track_caller]
    pub(crate) fn assert_restores(&self) {
        assert_copy(&self.database(), &self.restore(&[]));
    }

    /// Every state that the replica lists; each must be a sound database.
    #[track_caller]
    pub(crate) fn history(&self) -> History {
        let restored = |txid| {
            let output = self.restore(&["-txid", &format!("{txid:016x}")]);
            assert_sound(&output);
            (txid, fs::read(output).unwrap())
        };
        txids(&self.replica()).into_iter().map(restored).collect()
    }

    /// Every state that was listed then is still what it was.
    #[track_caller]
    pub(crate) fn assert_keeps(&self, history: &History) {
        let now = self.history();
        for (txid, content) in history {
            assert!(now.get(txid) == Some(content), "TXID {txid:016x} is lost or another one");
        }
    }

    /// Copies of `names`, for [`Site::set_back`]. A process does it: see [`copy_below`].
    pub(crate) fn copy(&self, names: &[&str]) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| copy_below(&self.path(name), copy.path()));
        copy
    }

    /// What a power cut, or a virtual machine that is set back, does: the files of `copy` are as they were.
    pub(crate) fn set_back(&self, copy: &TempDir) {
        for entry in fs::read_dir(copy.path()).unwrap() {
            let (name, path) = entry.map(|entry| (entry.file_name(), entry.path())).unwrap();
            remove(&self.folder.path().join(&name));
            copy_below(&path, self.folder.path());
            if name == "shop.db" {
                remove(&self.path("shop.db-shm"));
            }
        }
    }

    /// Removes the database with its WAL and wal-index.
    pub(crate) fn remove_database(&self) {
        ["", "-wal", "-shm"].iter().for_each(|suffix| remove(&with_suffix(&self.database(), suffix)));
    }
}

/// The second file holds what the first does: the same pages, or, where the peer has written its own tables in the
/// meantime, the same rows.
#[track_caller]
pub(crate) fn assert_copy(source: &Path, restored: &Path) {
    if walstream().is_peer() {
        assert_same_rows(source, restored);
    } else {
        assert_same_pages(source, restored);
    }
}

/// Copies a file or a folder into a folder, by a process of its own: closing a descriptor here would take the locks of
/// an application in this process with it.
fn copy_below(path: &Path, folder: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(path).arg(folder).status().unwrap();
    assert!(copied.success());
}

/// Removes a file or a folder, if it is there.
pub(crate) fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}
