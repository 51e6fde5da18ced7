//! The examples do what their documents say. Commands, manifests and configurations are taken out of the files of `examples/` themselves; only their paths, ports and buckets are
//! led to a temporary folder and a server of this machine.

mod docker;
mod follower;
mod frameworks;
mod kubernetes;
mod machine;
mod minio;
mod systemd;
mod tenants;

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use machine::Machine;
use rustix::process::Signal;
use walstream_test_support::http::request;
use walstream_test_support::{Running, eventually, workspace};

use crate::site::SOON;

/// The longest that a process may take to upload what is left and to end.
const END: Duration = Duration::from_secs(45);

/// The text of a file of the examples.
fn example(path: &str) -> String {
    let path = workspace().join("examples").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The code blocks of a document that begin with exactly this, such as `sh` or `sh daemon`.
#[track_caller]
fn blocks(document: &str, kind: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if let Some(found) = line.strip_prefix("```") {
            let block = lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n");
            if found == kind {
                blocks.push(block);
            }
        }
    }
    assert!(!blocks.is_empty(), "there is no block of {kind:?}");
    blocks
}

/// The only code block of its kind.
#[track_caller]
fn block(document: &str, kind: &str) -> String {
    let [block] = blocks(document, kind).try_into().unwrap();
    block
}

/// One visit to an application, once it answers; what it says.
#[track_caller]
fn visit(port: u16) -> String {
    let answer = eventually("the application answers", SOON, || {
        request(&format!("127.0.0.1:{port}"), "GET", "/", &[], b"").ok()
    });
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body).unwrap().trim().to_owned()
}

/// The status of an answer, or none if nobody listens.
fn status(port: u16, path: &str) -> Option<u16> {
    request(&format!("127.0.0.1:{port}"), "GET", path, &[], b"").ok().map(|answer| answer.status)
}

/// A time, with nothing that happens just before or after it.
fn moment() -> String {
    sleep(Duration::from_millis(100));
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    sleep(Duration::from_millis(100));
    now
}

/// What an engine, a cluster and systemd do; the exit code must be 0.
#[track_caller]
fn terminate(process: Running) {
    process.signal(Signal::TERM);
    process.wait(END).success();
}

/// The disk is lost, and an empty one is there.
fn lose(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir_all(folder).unwrap();
}

#[test]
fn the_configuration_for_s3_stores_is_what_its_document_says() {
    let said = Machine::new("s3", &[]).type_in(&block(&example("s3/README.md"), "sh")).stdout;
    let stores = example("s3/litestream.yml").matches("- path: ").count();
    let listed = said.lines().filter(|line| line.starts_with("/var/lib/app/") && line.ends_with(" s3"));
    assert_eq!(listed.count(), stores, "{said}");
}

#[test]
fn every_example_is_in_the_table() {
    let table = example("README.md");
    for entry in fs::read_dir(workspace().join("examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "README.md" {
            assert!(table.contains(&format!("]({name})")), "{name} is missing");
            assert!(example(&format!("{name}/README.md")).starts_with("# "));
        }
    }
}
