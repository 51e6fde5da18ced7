//! `docs/parity`: nothing is left out, and every row can be seen to be true.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use common::run;

const COMMANDS: &str = include_str!("../../../docs/parity/commands.md");
const CONFIGURATION: &str = include_str!("../../../docs/parity/configuration.md");
const INTERFACES: &str = include_str!("../../../docs/parity/interfaces.md");

/// A row of a table.
#[derive(Debug)]
struct Row {
    /// The heading that it stands under.
    heading: String,
    item: String,
    mark: String,
    remark: String,
    shown_by: String,
}

fn rows(document: &str) -> Vec<Row> {
    let mut heading = String::new();
    let mut rows = Vec::new();
    for line in document.lines() {
        if line.starts_with('#') {
            line.trim_start_matches(['#', ' ']).clone_into(&mut heading);
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else { continue };
        let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
        let [item, mark, remark, shown_by] = cells[..] else { panic!("not four columns: {line}") };
        if item != "item" {
            let [item, mark, remark, shown_by] = [item, mark, remark, shown_by].map(str::to_owned);
            rows.push(Row { heading: heading.clone(), item, mark, remark, shown_by });
        }
    }
    assert!(rows.len() > 40, "{} rows", rows.len());
    rows
}

/// What is in backticks.
fn quoted(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

/// Everything that the first columns of a document name.
fn items(document: &str) -> BTreeSet<String> {
    rows(document).iter().flat_map(|row| quoted(&row.item).collect::<Vec<_>>()).collect()
}

#[track_caller]
fn assert_all_there(what: &str, wanted: &BTreeSet<String>, items: &BTreeSet<String>) {
    assert!(wanted.len() > 5, "only {wanted:?}");
    let missing: Vec<_> = wanted.difference(items).collect();
    assert!(missing.is_empty(), "{what} without a row: {missing:?}");
}

/// Rust files below a folder of the workspace.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    files
}

/// The names of all tests.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in ["crates", "tests"].into_iter().flat_map(sources) {
        let functions = text.split("#[test]").chain(text.split("#[tokio::test")).skip(1);
        let name = |after: &str| Some(after.split_once("fn ")?.1.split_once('(')?.0.to_owned());
        names.extend(functions.filter_map(name));
    }
    assert!(names.len() > 500, "{}", names.len());
    names
}

#[test]
fn every_row_has_a_mark_and_something_that_shows_it() {
    let tests = tests();
    let folder = tempfile::tempdir().unwrap();
    for row in [COMMANDS, CONFIGURATION, INTERFACES].into_iter().flat_map(rows) {
        assert!(["same", "better", "different"].contains(&&*row.mark), "{row:?}");
        assert!(row.mark != "different" || !row.remark.is_empty(), "no reason: {row:?}");
        let shown: Vec<String> = quoted(&row.shown_by).collect();
        assert!(!shown.is_empty(), "nothing shows it: {row:?}");
        for name in shown {
            match name.strip_prefix("walstream ") {
                None => assert!(tests.contains(&name), "there is no test {name}: {row:?}"),
                Some(command) => {
                    let words: Vec<&str> =
                        command.split(' ').take_while(|word| !word.starts_with('-')).collect();
                    let helped =
                        |count: usize| run(folder.path(), &format!("help {}", words[..count].join(" ")));
                    let known = words == ["help"]
                        || (1..=words.len().min(2)).any(|count| helped(count).code == Some(0));
                    assert!(known, "there is no command {name}: {row:?}");
                }
            }
        }
    }
}

#[test]
fn every_flag_of_every_command_has_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let help = run(folder.path(), "help").stdout;
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let listed = list.lines().take_while(|line| !line.is_empty());
    let listed = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let listed = listed.map(|line| line.trim().split("  ").next().unwrap().to_owned());
    let of_two_words = ["ltx verify", "ltx dump", "ltx apply", "ltx diff"].map(str::to_owned);
    let commands: Vec<String> = listed.chain(of_two_words).collect();
    assert!(commands.len() > 20, "{commands:?}");
    let rows = rows(COMMANDS);
    for command in commands {
        let page = run(folder.path(), &format!("help {command}")).stdout;
        let flags = page.lines().filter(|line| line.starts_with("  -"));
        let flags: BTreeSet<String> =
            flags.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
        let whole = |row: &Row| quoted(&row.item).next().filter(|item| row.item == format!("`{item}`"));
        let of_command = rows.iter().filter(|row| row.heading == command);
        let documented: BTreeSet<String> =
            of_command.filter_map(whole).filter(|item| item.starts_with('-')).collect();
        assert_eq!(documented, flags, "walstream {command}");
    }
}

#[test]
fn every_key_of_the_reference_has_a_row() {
    let reference = include_str!("../../../docs/configuration.md");
    let cells = reference.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let keys = |text: String| -> Vec<String> {
        text.split('.').map(|key| key.trim_end_matches("[]").to_owned()).collect()
    };
    let wanted = cells.flat_map(|cell| quoted(cell).collect::<Vec<_>>());
    let wanted = wanted.filter(|text| !text.contains("://")).flat_map(keys);
    let there = items(CONFIGURATION).into_iter().flat_map(keys).collect();
    assert_all_there("keys", &wanted.filter(|key| key != "replica").collect(), &there);
}

#[test]
fn every_metric_has_a_row() {
    let source = include_str!("../src/http/metrics.rs");
    let texts = source.split('"').filter(|text| text.starts_with("litestream_"));
    assert_all_there("metrics", &texts.map(str::to_owned).collect(), &items(INTERFACES));
}

#[test]
fn every_request_has_a_row() {
    let sources = [include_str!("../src/socket/desk.rs"), include_str!("../src/http/mod.rs")];
    let routes = sources.into_iter().flat_map(|source| source.split(".route(\"").skip(1));
    let request = |route: &str| {
        let (path, rest) = route.split_once("\", ").unwrap();
        format!("{} {path}", rest.split_once('(').unwrap().0.to_uppercase())
    };
    assert_all_there("requests", &routes.map(request).collect(), &items(INTERFACES));
}

#[test]
fn every_field_of_the_control_socket_has_its_place() {
    let source = include_str!("../src/socket/messages.rs");
    let fields = source.lines().filter_map(|line| line.trim().strip_prefix("pub(crate) ")?.split_once(": "));
    let fields = fields.map(|(name, _)| name.to_owned()).collect();
    assert_all_there("fields", &fields, &quoted(&INTERFACES.replace('\n', " ")).collect());
}

#[test]
fn every_environment_variable_has_a_row() {
    let beginnings = [
        "LITESTREAM_",
        "LOG_",
        "AWS_",
        "AZURE_",
        "IDENTITY_",
        "GOOGLE_",
        "CLOUDSDK_",
        "STORAGE_",
        "OSS_",
        "SSH_",
        "SSL_",
        "NOTIFY_",
    ];
    let mut variables = BTreeSet::new();
    for (_, text) in
        ["crates/cli/src", "crates/storage/src", "crates/engine/src"].into_iter().flat_map(sources)
    {
        let texts =
            text.split('"').filter(|text| beginnings.iter().any(|beginning| text.starts_with(beginning)));
        let is_name = |text: &&str| {
            !text.ends_with('_')
                && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        };
        let names = texts.filter(is_name);
        variables.extend(names.map(str::to_owned));
    }
    assert_all_there("variables", &variables, &items(CONFIGURATION));
}
