//! What is kept beside the database is damaged or lost while no daemon runs. The next one heals it within one sync, and
//! makes no full copy where the page map or the replica can prove what was captured.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use walstream_test_support::App;
use walstream_test_support::replica::ltx_files;

use crate::site::{Site, remove};

/// More than any of this costs, less than a copy of the database.
const LITTLE: u64 = 1 << 20;

/// A database of 4 MiB with several local level-0 files, whose daemon has stopped.
struct Stopped {
    site: Site,
    app: App,
    /// The metadata folder as it was some commits earlier.
    earlier: TempDir,
}

impl Stopped {
    fn new() -> Stopped {
        let site = Site::new();
        let app = site.app_with_mebibytes(4);
        let mut earlier = None;
        for _ in 0..2 {
            let daemon = site.daemon();
            for _ in 0..2 {
                app.sell(2, 100);
                site.wait_until_caught_up(&app);
            }
            daemon.stop();
            earlier.get_or_insert_with(|| site.copy(&[".shop.db-litestream"]));
        }
        assert!(ltx_files(&site.meta(), 0).len() > 3, "too few local files to damage one");
        Stopped { site, app, earlier: earlier.unwrap() }
    }

    /// The paths of the local level-0 files, oldest first.
    fn local_files(&self) -> Vec<PathBuf> {
        ltx_files(&self.site.meta(), 0).into_iter().map(|(_, _, path)| path).collect()
    }

    fn newest(&self) -> PathBuf {
        self.local_files().pop().unwrap()
    }

    fn map(&self) -> PathBuf {
        self.site.meta().join("walstream.map")
    }
}

/// `damage` is done, and what is in the database goes on. Returns what was uploaded because of that.
#[track_caller]
fn shipped_after(damage: impl FnOnce(&Stopped), change: impl FnOnce(&App)) -> u64 {
    let stopped = Stopped::new();
    let Stopped { site, app, .. } = &stopped;
    let (before, history) = (site.captured(), site.history());
    damage(&stopped);
    change(app);
    let daemon = site.daemon();
    site.wait_until_caught_up(app);
    app.sell(1, 100);
    site.wait_until_caught_up(app);
    daemon.stop();
    site.assert_restores();
    site.assert_keeps(&history);
    site.captured() - before
}

#[track_caller]
fn costs_little(damage: impl Fn(&Stopped)) {
    let unchanged = shipped_after(&damage, |_| {});
    let in_the_wal = shipped_after(&damage, |app| app.sell(1, 100));
    let checkpointed = shipped_after(&damage, |app| {
        app.sell(1, 100);
        app.checkpoint("TRUNCATE");
    });
    let shipped = [unchanged, in_the_wal, checkpointed];
    assert!(shipped.iter().all(|&bytes| bytes < LITTLE), "{shipped:?} bytes for two rows");
}

#[test]
fn the_newest_level_0_file_is_torn() {
    costs_little(|stopped| {
        let path = stopped.newest();
        let content = fs::read(&path).unwrap();
        fs::write(path, &content[..content.len() / 2]).unwrap();
    });
}

#[test]
fn the_newest_level_0_file_is_empty() {
    costs_little(|stopped| fs::write(stopped.newest(), "").unwrap());
}

#[test]
fn the_newest_level_0_file_is_lost() {
    costs_little(|stopped| fs::remove_file(stopped.newest()).unwrap());
}

#[test]
fn a_level_0_file_in_the_middle_is_lost() {
    costs_little(|stopped| {
        let files = stopped.local_files();
        fs::remove_file(&files[files.len() - 2]).unwrap();
    });
}

#[test]
fn all_level_0_files_are_lost() {
    costs_little(|stopped| stopped.local_files().iter().for_each(|path| fs::remove_file(path).unwrap()));
}

/// Without the page map frames in the WAL prove themselves, and so does a database that nobody has written to. Only a
/// checkpoint that took the frames away makes a full copy necessary.
#[track_caller]
fn costs_little_unless_checkpointed(damage: impl Fn(&Stopped)) {
    let unchanged = shipped_after(&damage, |_| {});
    let in_the_wal = shipped_after(&damage, |app| app.sell(1, 100));
    let shipped = [unchanged, in_the_wal];
    assert!(shipped.iter().all(|&bytes| bytes < LITTLE), "{shipped:?} bytes for two rows");
    shipped_after(&damage, |app| {
        app.sell(1, 100);
        app.checkpoint("TRUNCATE");
    });
}

#[test]
fn the_page_map_is_lost() {
    costs_little_unless_checkpointed(|stopped| remove(&stopped.map()));
}

#[test]
fn the_page_map_is_of_an_earlier_time() {
    costs_little(|stopped| {
        let earlier = stopped.earlier.path().join(".shop.db-litestream/walstream.map");
        if earlier.exists() {
            fs::copy(earlier, stopped.map()).unwrap();
        }
    });
}

#[test]
fn the_page_map_is_damaged() {
    costs_little_unless_checkpointed(|stopped| {
        let Ok(mut content) = fs::read(stopped.map()) else { return };
        let middle = content.len() / 2;
        content[middle] ^= 1;
        fs::write(stopped.map(), content).unwrap();
    });
}

#[test]
fn the_whole_folder_is_of_an_earlier_time() {
    let set_back = |stopped: &Stopped| stopped.site.set_back(&stopped.earlier);
    let unchanged = shipped_after(set_back, |_| {});
    assert!(unchanged < LITTLE, "{unchanged} bytes for one row");
    shipped_after(set_back, |app| app.sell(1, 100));
}

/// With nothing local left, only an unchanged database can be proven, by the digest in the replica.
#[test]
fn the_folder_is_deleted() {
    let unchanged = shipped_after(|stopped| remove(&stopped.site.meta()), |_| {});
    assert!(unchanged < LITTLE, "{unchanged} bytes for one row");
    shipped_after(|stopped| remove(&stopped.site.meta()), |app| app.sell(1, 100));
}
