//! What the tests of the stores have shown, kept for the table of `docs/backends.md`.
//!
//! Each outcome is a file `target/backends/STORE/CASE`, written when the case is through: empty if it was shown, else
//! with the reason why the server cannot show it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::tools::workspace;

/// Whether a case was shown, or why not.
pub type Outcome = Result<(), String>;

/// Outcomes by store and case.
pub type Outcomes = BTreeMap<String, BTreeMap<String, Outcome>>;

/// The folder of the outcomes.
pub fn folder() -> PathBuf {
    workspace().join("target/backends")
}

/// Notes that a store has shown a case.
pub fn shown(store: &str, case: &str) {
    note(store, case, "");
}

/// Notes that the server of a store cannot show a case.
pub fn not_shown(store: &str, case: &str, reason: &str) {
    assert!(!reason.is_empty(), "{store}, {case}: a reason must be given");
    note(store, case, reason);
}

fn note(store: &str, case: &str, text: &str) {
    let folder = folder().join(store);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(case), text).unwrap();
}

/// Everything that was noted.
pub fn all() -> Outcomes {
    let names = |path: PathBuf| {
        let entries = fs::read_dir(&path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let outcome = |path: &PathBuf| match fs::read_to_string(path).unwrap() {
        reason if reason.is_empty() => Ok(()),
        reason => Err(reason),
    };
    let of_store =
        |path: &PathBuf| names(path.clone()).iter().map(|case| (name(case), outcome(case))).collect();
    names(folder()).iter().map(|store| (name(store), of_store(store))).collect()
}
