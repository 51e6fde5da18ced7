//! A replica that is damaged: a restore says what is wrong and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use walstream_test_support::App;
use walstream_test_support::compare::{assert_same_pages, assert_sound};
use walstream_test_support::replica::{file_url, ltx_files};

use crate::refusal::assert_refused;
use crate::walstream;

/// A directory replica with some level-0 files, each from a run of its own, so that no coarser file covers any but
/// the first.
struct Replica {
    folder: TempDir,
}

impl Replica {
    fn of_many_files() -> Replica {
        let replica = Replica { folder: tempfile::tempdir().unwrap() };
        let app = App::open(replica.folder.path().join("shop.db"));
        for _ in 0..7 {
            app.sell(20, 300);
            walstream().replicate_once(app.path(), &replica.url());
        }
        replica
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("replica")
    }

    fn url(&self) -> String {
        file_url(&self.path())
    }

    fn level_0(&self) -> Vec<(u64, u64, PathBuf)> {
        ltx_files(&self.path(), 0)
    }

    /// A restore that must be refused, with `words`, without a trace in the output's folder.
    #[track_caller]
    fn refuses(&self, flags: &[&str], words: &[&str]) {
        let outputs = tempfile::tempdir().unwrap();
        assert_refused(
            &walstream().try_restore(&self.url(), &outputs.path().join("restored.db"), flags),
            words,
        );
        assert_eq!(names_in(outputs.path()), Vec::<String>::new(), "left behind");
    }

    /// Whether a restore is refused, with `word`; if it is not, it must give the source itself.
    #[track_caller]
    fn refuses_or_is_right(&self, word: &str) -> bool {
        let outputs = tempfile::tempdir().unwrap();
        let output = outputs.path().join("restored.db");
        let finished = walstream().try_restore(&self.url(), &output, &[]);
        if finished.status.success() {
            assert_same_pages(&self.folder.path().join("shop.db"), &output);
            return false;
        }
        assert_refused(&finished, &[word]);
        assert_eq!(names_in(outputs.path()), Vec::<String>::new(), "left behind");
        true
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_changed_byte_never_gives_a_wrong_database_and_its_file_is_named() {
    let replica = Replica::of_many_files();
    for (_, txid, path) in [replica.level_0().swap_remove(3), replica.level_0().pop().unwrap()] {
        let name = format!("{txid:016x}");
        let sound = fs::read(&path).unwrap();
        let positions: Vec<usize> = (0..sound.len()).step_by(97).collect();
        let refused = positions.iter().filter(|&&at| {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            replica.refuses_or_is_right(&name)
        });
        // A byte that the restore does not need, such as one of a page that a later file replaces, may go unnoticed.
        assert!(refused.count() > positions.len() / 3, "most of the file was not looked at");
        fs::write(&path, &sound).unwrap();
    }
}

#[test]
fn a_file_that_lost_its_end_is_named() {
    let replica = Replica::of_many_files();
    let (_, txid, path) = replica.level_0().swap_remove(3);
    let sound = fs::read(&path).unwrap();
    for length in [sound.len() - 7, sound.len() / 2, 101, 100, 0] {
        fs::write(&path, &sound[..length]).unwrap();
        replica.refuses(&[], &[&format!("{txid:016x}")]);
    }
}

#[test]
fn a_gap_is_an_error_that_names_what_is_missing() {
    let replica = Replica::of_many_files();
    let files = replica.level_0();
    let name = |at: usize| format!("{:016x}", files[at].1);
    for (_, _, path) in &files[2..4] {
        fs::remove_file(path).unwrap();
    }
    replica.refuses(&[], &[&name(2), &name(3)]);
    replica.refuses(&["-timestamp", "2200-01-01T00:00:00Z"], &[]);
    replica.refuses(&["-txid", &name(5)], &[&name(2)]);
    let output = replica.folder.path().join("before-the-gap.db");
    walstream().restore(&replica.url(), &output, &["-txid", &name(1)]);
    assert_sound(&output);
}
