//! Writes the table of `docs/backends.md` from what the tests of the stores have shown.
//!
//! The order of the cases is that of the test program, the order of the stores that of the heading in the document.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a tool of the tests")]

use std::fs;

use walstream_test_support::outcomes::{self, Outcomes};
use walstream_test_support::workspace;

const BEGIN: &str = "<!-- Written by the test run; see tests/run. -->\n";
const END: &str = "<!-- End of what the test run writes. -->\n";
const CASES: &str = include_str!("../../../../crates/storage/tests/conformance/main.rs");

fn main() {
    let path = workspace().join("docs/backends.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the mark where the table begins");
    let (_, after) = rest.split_once(END).expect("the mark where the table ends");
    let table = table(&outcomes::all());
    fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
}

/// The names of the cases, in order: they stand alone on a line of the macro that lists them.
fn cases() -> Vec<&'static str> {
    let list = CASES.split("macro_rules! each_case").nth(1).unwrap();
    let is_name = |line: &&str| {
        line.contains('_') && line.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    list.lines().map(str::trim).filter(is_name).collect()
}

/// The names of the stores, in order.
fn stores(outcomes: &Outcomes) -> Vec<&str> {
    let mut stores: Vec<&str> = outcomes.keys().map(String::as_str).collect();
    // Directories first, then the stores as they are usually named, each beside its kin.
    stores.sort_by_key(|store| (*store != "directory", !store.starts_with("S3"), store.to_lowercase()));
    stores
}

fn table(outcomes: &Outcomes) -> String {
    let stores = stores(outcomes);
    let mut reasons: Vec<&str> = Vec::new();
    let mut rows = String::new();
    for case in cases() {
        let mut row = format!("| {} |", case.replace('_', " "));
        for store in &stores {
            row += match outcomes[*store].get(case) {
                None => panic!("{store} has no outcome for {case}: run all of its tests first"),
                Some(Ok(())) => " yes |".to_owned(),
                Some(Err(reason)) => {
                    let known = reasons.iter().position(|known| known == reason);
                    let number = known.unwrap_or_else(|| {
                        reasons.push(reason);
                        reasons.len() - 1
                    });
                    format!(" [{}] |", number + 1)
                }
            }
            .as_str();
        }
        rows += &row;
        rows.push('\n');
    }
    let head = format!("| | {} |\n|---|{}\n", stores.join(" | "), "---|".repeat(stores.len()));
    let notes: Vec<String> =
        reasons.iter().zip(1..).map(|(reason, number)| format!("[{number}] {reason}.  \n")).collect();
    format!("\n{head}{rows}\nNot shown:\n{}\n", notes.concat())
}
