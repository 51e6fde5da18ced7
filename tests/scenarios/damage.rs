//! A replica that is damaged: a restore says what is wrong and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use walstream_test_support::App;
use walstream_test_support::compare::assert_sound;
use walstream_test_support::replica::{file_url, ltx_files};

use crate::refusal::assert_refused;
use crate::walstream;

/// A directory replica with level-0 files 1 to 6 that no coarser file covers beyond the first.
struct Replica {
    folder: TempDir,
}

impl Replica {
    fn of_six_files() -> Replica {
        let folder = tempfile::tempdir().unwrap();
        let replica = Replica { folder };
        let app = App::open(replica.folder.path().join("shop.db"));
        for _ in 0..6 {
            app.sell(20, 300);
            walstream().replicate_once(app.path(), &replica.url());
        }
        let names: Vec<_> = replica.level_0().iter().map(|(first, last, _)| (*first, *last)).collect();
        assert_eq!(names, (1..=6).map(|txid| (txid, txid)).collect::<Vec<_>>());
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
}

fn names_in(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn one_changed_byte_anywhere_is_noticed_and_the_file_is_named() {
    let replica = Replica::of_six_files();
    let (_, _, path) = replica.level_0().swap_remove(3);
    let sound = fs::read(&path).unwrap();
    // Magic, commit, timestamp, a page header, payloads, index, trailer.
    for at in [0, 15, 39, 103, 120, sound.len() / 2, sound.len() - 30, sound.len() - 1] {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).unwrap();
        replica.refuses(&[], &["0000000000000004"]);
    }
    fs::write(&path, &sound[..sound.len() - 7]).unwrap();
    replica.refuses(&[], &["0000000000000004"]);
    fs::write(&path, b"").unwrap();
    replica.refuses(&[], &["0000000000000004"]);
}

#[test]
fn a_gap_is_an_error_that_names_what_is_missing() {
    let replica = Replica::of_six_files();
    for (_, _, path) in &replica.level_0()[2..4] {
        fs::remove_file(path).unwrap();
    }
    replica.refuses(&[], &["0000000000000003", "0000000000000004"]);
    replica.refuses(&["-timestamp", "2200-01-01T00:00:00Z"], &[]);
    replica.refuses(&["-txid", "0000000000000006"], &["0000000000000006"]);
    let output = replica.folder.path().join("before-the-gap.db");
    walstream().restore(&replica.url(), &output, &["-txid", "0000000000000002"]);
    assert_sound(&output);
}
