//! Working on LTX files by hand: checking them, looking into them, applying them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use walstream_test_support::compare::assert_same_pages;
use walstream_test_support::golden::{Golden, golden_folder, read_json, sha256};
use walstream_test_support::replica::{file_url, files_below, ltx_files};
use walstream_test_support::{App, Finished};

use crate::refusal::assert_refused;
use crate::walstream;

/// Replicas of Litestream's with a level-0 file for every TXID; of the third, the pages are legacy LZ4 frames.
const GOLDEN: [&str; 3] = ["ps512", "vacuum", "frame-0.5.15"];

fn ltx(command: &str, flags: &[&str], files: &[PathBuf]) -> Finished {
    let mut arguments: Vec<&str> = vec!["ltx", command];
    arguments.extend(flags);
    arguments.extend(files.iter().map(|path| path.to_str().unwrap()));
    walstream().run(arguments)
}

fn apply(database: &Path, files: &[PathBuf]) -> Finished {
    ltx("apply", &["-o", database.to_str().unwrap()], files)
}

fn json(finished: Finished) -> Value {
    serde_json::from_str(&finished.success().stdout).unwrap()
}

fn level(replica: &Path, level: u8) -> Vec<PathBuf> {
    ltx_files(replica, level).into_iter().map(|(_, _, path)| path).collect()
}

fn replica_of(golden: &Golden) -> PathBuf {
    golden.url().strip_prefix("file://").unwrap().into()
}

#[test]
fn every_file_that_litestream_wrote_is_sound() {
    for name in GOLDEN.into_iter().chain(["frame-then-block", "random512", "restart"]) {
        let files = files_below(&golden_folder().join(name).join("replica"));
        let finished = ltx("verify", &[], &files).success();
        assert_eq!(finished.stdout.lines().filter(|line| line.ends_with(": ok")).count(), files.len());
    }
}

#[test]
fn a_damaged_file_is_named_and_the_exit_code_is_1() {
    let golden = Golden::copy("vacuum");
    let files = level(&replica_of(&golden), 0);
    let mut bytes = fs::read(&files[1]).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&files[1], bytes).unwrap();
    let renamed = files[2].with_file_name("0000000000000077-0000000000000077.ltx");
    fs::copy(&files[2], &renamed).unwrap();
    let all = [files[0].clone(), files[1].clone(), renamed, "/no/such/file.ltx".into()];

    let finished = ltx("verify", &["-json"], &all);
    assert_refused(&finished, &["3 of 4 files failed verification"]);
    let verdicts: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(verdicts[0]["ok"], true);
    for (verdict, words) in [(1, "checksum"), (2, "its header says that it is"), (3, "No such file")] {
        assert!(verdicts[verdict]["error"].as_str().unwrap().contains(words), "{verdicts}");
    }
    assert_refused(&ltx("verify", &[], &[]), &["LTX file required"]);
}

#[test]
fn a_dump_shows_what_is_in_the_file() {
    for name in GOLDEN {
        let manifest = read_json(&golden_folder().join(name).join("manifest.json"));
        for (path, known) in manifest["files"].as_object().unwrap() {
            let dump = json(ltx("dump", &["-json"], &[golden_folder().join(name).join(path)]));
            for key in ["size", "page_size", "commit", "wal_offset", "wal_size", "node_id", "file_checksum"] {
                assert_eq!(dump[key], known[key], "{key} of {name}/{path}");
            }
            let pages: Vec<Value> = dump["pages"].as_array().unwrap().clone();
            let pages: Vec<[&Value; 3]> =
                pages.iter().map(|p| [&p["pgno"], &p["offset"], &p["size"]]).collect();
            assert_eq!(serde_json::to_value(pages).unwrap(), known["pages"], "{name}/{path}");
        }
    }
}

#[test]
fn a_dump_says_which_checksums_there_are() {
    let synthetic = golden_folder().join("synthetic");
    let first = |case: &str| level(&synthetic.join(case), 0).swap_remove(0);
    let tracked = ltx("dump", &[], &[first("tracked-snapshot")]).success();
    assert!(tracked.stdout.contains("database checksums:  - before, "), "{tracked:#?}");
    let litestream = ltx("dump", &[], &[level(&golden_folder().join("vacuum/replica"), 0).swap_remove(1)]);
    assert!(litestream.stdout.contains("database checksums:  not tracked\nwalstream's digests: none\n"));
    let shop = Shop::replicated();
    let ours = ltx("dump", &[], &[shop.changes().pop().unwrap()]).success();
    assert!(!ours.stdout.contains("walstream's digests: none"), "{ours:#?}");
    assert_refused(&ltx("dump", &[], &[first("truncated-mid")]), &["truncated-mid"]);
}

#[test]
fn files_lead_from_any_state_to_any_later_one() {
    for name in GOLDEN {
        let golden = Golden::copy(name);
        let (images, database) = (golden.images(), golden.output());
        let mut files = level(&replica_of(&golden), 0);
        assert_eq!(files.len(), images.len());
        for start in [0, 1, images.len() / 2] {
            let _ = fs::remove_file(&database);
            if start > 0 {
                walstream().restore(&golden.url(), &database, &["-txid", &images[start - 1].txid]);
            }
            let mut rest = files[start..].to_vec();
            rest.reverse();
            apply(&database, &rest).success();
            assert_eq!(sha256(&database), images.last().unwrap().sha256, "{name} from {start}");
        }
        let _ = fs::remove_file(&database);
        files.remove(1);
        assert_refused(&apply(&database, &files), &["does not continue"]);
        assert!(!database.exists());
    }
}

#[test]
fn tracked_checksums_are_checked() {
    let synthetic = golden_folder().join("synthetic");
    let folder = tempfile::tempdir().unwrap();
    let (database, restored) = (folder.path().join("out.db"), folder.path().join("restored.db"));
    let case = synthetic.join("tracked-snap+incr");
    walstream().restore(&file_url(&case), &restored, &[]);
    let files = [level(&case, 9), level(&case, 0)].concat();
    let finished = apply(&database, &files).success();
    assert!(finished.stdout.contains("proven by the checksum"), "{finished:#?}");
    assert_same_pages(&restored, &database);

    let other = folder.path().join("other.db");
    App::open_with(&other, "PRAGMA page_size = 512").checkpoint("TRUNCATE");
    let before = fs::read(&other).unwrap();
    assert_refused(
        &apply(&other, &files[files.len() - 1..]),
        &["it applies to a database with", "the checksum"],
    );
    assert_eq!(fs::read(&other).unwrap(), before);
}

#[test]
fn broken_files_are_refused_and_sound_ones_give_what_a_restore_gives() {
    let synthetic = golden_folder().join("synthetic");
    let folder = tempfile::tempdir().unwrap();
    let (applied, restored) = (folder.path().join("applied.db"), folder.path().join("restored.db"));
    for sound in
        ["hc-block", "liblz4-frame", "node+ts0", "overlap-1-3-then-2-5", "pageless-shrink", "gap-txid=1"]
    {
        let case = synthetic.join(sound);
        let files = files_below(&case);
        let files = if sound.starts_with("gap") { level(&case, 0)[..1].to_vec() } else { files };
        apply(&applied, &files).success();
        let flags: &[&str] = if files.len() == 1 { &["-txid", "0000000000000001"] } else { &[] };
        walstream().restore(&file_url(&case), &restored, &[&["-force"], flags].concat());
        assert_eq!(sha256(&applied), sha256(&restored), "{sound}");
        fs::remove_file(&applied).unwrap();
    }
    for (broken, words) in [
        ("99-bytes", ".ltx: "),
        ("bad-file-crc", "file checksum mismatch"),
        ("gap", "does not continue"),
        ("no-txid1", "only changes"),
        ("pageless-grow-gap", "of the pages that it adds"),
        ("pagesize-mismatch", "page size"),
        ("snapshot-missing-page", "is missing"),
        ("tracked-snap-wrong-post", "checksum mismatch"),
        ("trailing-garbage", "goes on after its trailer"),
        ("truncated-mid", "cut short"),
    ] {
        assert_refused(&apply(&applied, &files_below(&synthetic.join(broken))), &[words]);
        assert_eq!(files_below(folder.path()), [restored.as_path()], "{broken}");
    }
}

/// A shop that was replicated by walstream several times.
struct Shop {
    folder: TempDir,
    app: App,
}

impl Shop {
    fn replicated() -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path().join("shop.db"));
        let shop = Shop { folder, app };
        for _ in 0..4 {
            shop.app.sell(10, 300);
            shop.replicate();
        }
        shop
    }

    fn replicate(&self) {
        walstream().replicate_once(self.app.path(), &self.url());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self) -> String {
        file_url(&self.path("replica"))
    }

    fn changes(&self) -> Vec<PathBuf> {
        level(&self.path("replica"), 0)
    }

    /// The database as it was before the last `count` changes.
    fn older(&self, count: usize) -> PathBuf {
        let files = ltx_files(&self.path("replica"), 0);
        let txid = format!("{:016x}", files[files.len() - count].0 - 1);
        walstream().restore(&self.url(), &self.path("older.db"), &["-force", "-txid", &txid]);
        self.path("older.db")
    }
}

#[test]
fn a_restored_database_goes_on_with_the_changes_after_it_and_is_proven() {
    let shop = Shop::replicated();
    let (database, newest) = (shop.older(2), shop.path("newest.db"));
    walstream().restore(&shop.url(), &newest, &[]);
    fs::set_permissions(&database, fs::Permissions::from_mode(0o640)).unwrap();
    let changes = shop.changes();
    let report =
        json(ltx("apply", &["-json", "-o", database.to_str().unwrap()], &changes[changes.len() - 2..]));
    assert_eq!((&report["verified"], &report["files"]), (&true.into(), &2.into()));
    assert_same_pages(&newest, &database);
    assert_eq!(fs::metadata(&database).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn what_the_database_has_already_is_passed_over() {
    let shop = Shop::replicated();
    let (database, newest) = (shop.older(2), shop.path("newest.db"));
    walstream().restore(&shop.url(), &newest, &[]);
    let flags = ["-json", "-o", database.to_str().unwrap()];
    assert_eq!(json(ltx("apply", &flags, &shop.changes()))["files"], 2);
    assert_same_pages(&newest, &database);
    assert_refused(&ltx("apply", &flags, &shop.changes()), &["is at TXID", "already"]);
}

#[test]
fn changes_of_another_state_are_refused_and_nothing_is_left_behind() {
    let shop = Shop::replicated();
    let (database, last) = (shop.older(2), shop.changes().pop().unwrap());
    let (before, names) = (fs::read(&database).unwrap(), files_below(shop.folder.path()));
    assert_refused(
        &apply(&database, std::slice::from_ref(&last)),
        &["it applies to a database with the checksum"],
    );
    let snapshot = level(&shop.path("replica"), 9);
    assert_refused(&apply(&database, &snapshot), &["holds a whole database", "exists already"]);
    assert_refused(&apply(&shop.path("none.db"), &[last]), &["only changes", "no database"]);
    assert_eq!(fs::read(&database).unwrap(), before);
    assert_eq!(files_below(shop.folder.path()), names);
}

#[test]
fn a_database_in_use_is_left_alone() {
    let shop = Shop::replicated();
    let (database, last) = (shop.older(1), shop.changes().pop().unwrap());
    for journal_mode in ["wal", "delete"] {
        let user = rusqlite::Connection::open(&database).unwrap();
        user.pragma_update(None, "journal_mode", journal_mode).unwrap();
        user.execute_batch("BEGIN IMMEDIATE; UPDATE item SET rowid = rowid").unwrap();
        let refused = apply(&database, std::slice::from_ref(&last));
        assert_refused(&refused, &["cannot apply", "in use"]);
        user.execute_batch("ROLLBACK").unwrap();
        let idle = apply(&database, std::slice::from_ref(&last));
        assert!(journal_mode == "delete" || idle.stderr.contains("in use"), "{idle:#?}");
    }
}
