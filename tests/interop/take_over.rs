//! One database, one replica, and the programs take turns.

use std::path::Path;
use std::time::Duration;

use walstream_test_support::compare::{assert_rows, assert_same_pages, assert_sound, rows};
use walstream_test_support::{App, Place, Program, WebDav, wait_until};

use crate::{litestream, walstream};

/// What the database held when one program handed over to the next.
struct HandOver {
    txid: u64,
    rows: Vec<String>,
}

/// litestream → walstream → litestream → walstream. Whoever ran last, both restore the latest state after each
/// hand-over, and at the end the state at every earlier hand-over.
fn programs_take_turns(place: Place, between: impl Fn(&App)) {
    let folder = tempfile::tempdir().unwrap();
    let app = App::open(folder.path().join("shop.db"));
    let output = folder.path().join("restored.db");
    let mut hand_overs = Vec::new();
    for program in [litestream(), walstream(), litestream(), walstream()] {
        work_under(&program, &app, &place);
        hand_overs.push(HandOver { txid: place.newest_txid(), rows: rows(app.path()) });
        for reader in [litestream(), walstream()] {
            reader.restore(&place.url(), &output, &["-force"]);
            assert_same_pages(app.path(), &output);
            assert_sound(&output);
        }
        between(&app);
    }
    for reader in [litestream(), walstream()] {
        assert_hand_overs(&reader, &place, &hand_overs, &output);
    }
}

/// The program runs, the application commits, each commit reaches the replica, the program stops.
fn work_under(program: &Program, app: &App, place: &Place) {
    let daemon = program.replicate(app.path(), &place.url());
    for size in [50, 1, 20] {
        let before = place.newest_txid();
        app.sell(size, 400);
        app.execute("UPDATE item SET name = name || '+' WHERE id % 9 = 2");
        wait_until("the replica grows", Duration::from_secs(30), || place.newest_txid() > before);
    }
    app.sell(5, 100);
    daemon.stop();
}

fn assert_hand_overs(reader: &Program, place: &Place, hand_overs: &[HandOver], output: &Path) {
    for HandOver { txid, rows } in hand_overs {
        reader.restore(&place.url(), output, &["-force", "-txid", &format!("{txid:016x}")]);
        assert_rows(rows, output);
    }
}

#[test]
fn take_over_in_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    programs_take_turns(Place::directory(folder.path()), |_| {});
}

#[test]
fn take_over_on_s3() {
    programs_take_turns(Place::s3(), |_| {});
}

#[test]
fn take_over_on_webdav() {
    programs_take_turns(Place::WebDav(WebDav::rclone()), |_| {});
}

#[test]
fn take_over_while_the_application_goes_on_writing() {
    let folder = tempfile::tempdir().unwrap();
    programs_take_turns(Place::directory(folder.path()), |app| app.sell(30, 700));
}

#[test]
fn take_over_after_the_application_has_emptied_the_wal() {
    let folder = tempfile::tempdir().unwrap();
    programs_take_turns(Place::directory(folder.path()), |app| {
        app.sell(30, 700);
        app.checkpoint("TRUNCATE");
    });
}
