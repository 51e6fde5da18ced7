//! One database, one replica, and the programs take turns.

use walstream_test_support::{App, Place, WebDav};

use crate::site::Site;

fn programs_take_turns(place: Place, between: impl Fn(&App)) {
    Site::by_url(place.url(), || place.txids()).programs_take_turns(between);
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
