//! `walstream verify`: exit code 0 for a sound replica, and 1 with one sentence for every other, in a directory and on
//! S3.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use walstream_test_support::golden::Golden;
use walstream_test_support::place::Place;
use walstream_test_support::program::Daemon;
use walstream_test_support::replica::{file_url, ltx_files};
use walstream_test_support::{App, Finished};

use crate::refusal::assert_refused;
use crate::walstream;

/// The longest that a daemon may take to find something.
const PATIENCE: Duration = Duration::from_secs(60);

fn verify(flags: &[&str], url: &str) -> Finished {
    walstream().run(["verify"].iter().chain(flags).chain(&[url]))
}

/// What `-json` says, whatever the exit code.
fn found(url: &str) -> Value {
    serde_json::from_str(&verify(&["-json"], url).stdout).unwrap()
}

fn name(txid: u64) -> String {
    format!("{txid:016x}")
}

/// Six runs, each with a level-0 file or more.
fn fill(folder: &Path, place: &Place) {
    let app = App::open(folder.join("shop.db"));
    for _ in 0..6 {
        app.sell(20, 300);
        walstream().replicate_once(app.path(), &place.url());
    }
}

#[test]
fn a_sound_replica_is_read_to_the_end_and_restored() {
    for (place, folder) in [Place::directory, |_: &Path| Place::s3()].map(|place| {
        let folder = tempfile::tempdir().unwrap();
        (place(folder.path()), folder)
    }) {
        fill(folder.path(), &place);
        let scratch = folder.path().join("scratch");
        fs::create_dir(&scratch).unwrap();
        let flags = ["-json", "-deep", "-o", scratch.to_str().unwrap()];
        let report: Value = serde_json::from_str(&verify(&flags, &place.url()).success().stdout).unwrap();
        assert_eq!(report["sound"], true, "{report:#}");
        let files: u64 =
            report["levels"].as_array().unwrap().iter().map(|l| l["files"].as_u64().unwrap()).sum();
        assert_eq!(files, place.files().len() as u64);
        assert_eq!(report["files_without_database_checksum"], 0);
        assert_eq!(report["newest"]["restorable_txid"], name(place.newest_txid()));
        assert_eq!(report["deep"]["proven_by"], "checksum of the database");
        assert_eq!(report["deep"]["integrity_check"], "ok");
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "left behind");
        assert!(verify(&[], &place.url()).success().stdout.contains("is sound"));
    }
}

#[test]
fn a_flipped_byte_a_cut_and_an_empty_file_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(folder.path());
    fill(folder.path(), &place);
    let (_, txid, path) = ltx_files(&folder.path().join("replica"), 0).swap_remove(3);
    let sound = fs::read(&path).unwrap();
    let flipped = |at: usize| {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let (half, last) = (sound.len() / 2, sound.len() - 1);
    let damaged = [flipped(3), flipped(30), flipped(half), flipped(last), sound[..last].to_vec(), Vec::new()];
    for bytes in damaged {
        fs::write(&path, bytes).unwrap();
        assert_refused(&verify(&[], &place.url()), &["not sound", "damaged", "cannot be restored"]);
        let report = found(&place.url());
        assert_eq!(report["damaged"][0]["name"], format!("{0}-{0}.ltx", name(txid)), "{report:#}");
        assert_eq!(report["newest"]["restorable_txid"], name(txid - 1));
    }
}

#[test]
fn a_missing_file_in_the_middle_is_a_hole_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(folder.path());
    fill(folder.path(), &place);
    let (_, txid, path) = ltx_files(&folder.path().join("replica"), 0).swap_remove(3);
    fs::remove_file(path).unwrap();
    assert_refused(&verify(&[], &place.url()), &["not sound", &name(txid - 1)]);
    assert_refused(&verify(&["-deep"], &place.url()), &["the restore failed", "missing"]);
    let report = found(&place.url());
    assert_eq!(report["missing"][0]["min_txid"], name(txid), "{report:#}");
    assert_eq!(report["missing"][0]["max_txid"], name(txid));
    assert_eq!(report["findings"][0]["type"], "gap");
    assert_eq!(report["restorable"][0]["max_txid"], name(txid - 1));
}

#[test]
fn a_damaged_object_in_a_bucket_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::s3();
    fill(folder.path(), &place);
    let Place::S3(moto) = &place else { unreachable!() };
    let key = moto.keys("backup/shop/0000/").swap_remove(2);
    let mut bytes = moto.get(&key);
    bytes.truncate(bytes.len() - 20);
    moto.put(&key, &bytes);
    assert_refused(&verify(&[], &place.url()), &["not sound", "1 of", "damaged"]);
    moto.put(&key, b"");
    let report = found(&place.url());
    assert!(key.ends_with(report["damaged"][0]["name"].as_str().unwrap()), "{report:#}");
}

#[test]
fn replicas_of_litestream_are_sound_and_it_is_said_what_they_lack() {
    for name in ["ps4096", "vacuum", "restart", "frame-then-block", "v3-a"] {
        let golden = Golden::copy(name);
        let said = verify(&["-deep"], &golden.url()).success().stdout;
        let lacking = if name == "v3-a" { "Litestream 0.3" } else { "carry no checksum of the database" };
        assert!(said.contains(lacking), "{name}: {said}");
    }
}

#[test]
fn an_empty_replica_is_no_sound_one() {
    let folder = tempfile::tempdir().unwrap();
    assert_refused(&verify(&[], &file_url(folder.path())), &["no matching backup files available"]);
    assert_refused(&verify(&["-o", "/tmp"], &file_url(folder.path())), &["-o is only used with -deep"]);
    assert_refused(
        &verify(&["-deep", "-o", "/nonexistent"], &file_url(folder.path())),
        &["cannot make a folder in /nonexistent"],
    );
}

/// A database that a daemon replicates and validates every 200 ms.
fn validated(folder: &Path) -> (App, Daemon) {
    let app = App::open(folder.join("shop.db"));
    let (database, replica) = (app.path().display(), folder.join("replica"));
    let config = folder.join("litestream.yml");
    let text = format!(
        "validation: {{interval: 200ms}}\nlogging: {{level: debug}}\ndbs:\n  - path: {database}\n    replica: {{url: {}}}\n",
        file_url(&replica)
    );
    fs::write(&config, text).unwrap();
    app.sell(20, 300);
    let daemon = walstream().replicate_config(&config).ready();
    (app, daemon)
}

#[test]
fn a_daemon_that_validates_warns_of_damage_and_says_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (_app, mut daemon) = validated(folder.path());
    daemon.process.wait_for_output("validation found nothing wrong", PATIENCE);
    assert!(!daemon.process.stdout().contains("validation error detected"));
    let snapshot = ltx_files(&folder.path().join("replica"), 9).pop().unwrap().2;
    let mut bytes = fs::read(&snapshot).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&snapshot, bytes).unwrap();
    daemon.process.wait_for_output("validation error detected", PATIENCE);
    let said = daemon.stop().stdout;
    let line = said.lines().find(|line| line.contains("validation error detected")).unwrap();
    for part in ["level=WARN", "level=9", "type=damaged", "message=", "replica=file://"] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
}
