//! The documents that a user relies on, checked against the program.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = include_str!("../src/config/keys.rs");
const REFERENCE: &str = include_str!("../../../docs/configuration.md");
const EXAMPLE: &str = include_str!("../../../litestream.yml.example");

/// Every key that `keys.rs` declares: `name: Type,` or `name: Type => [stores],`.
fn accepted() -> BTreeSet<String> {
    let code = || SOURCE.lines().map(str::trim).filter(|line| !line.starts_with("//") && !line.contains('$'));
    let declared = code().filter_map(|line| Some(line.strip_suffix(',')?.split_once(": ")?.0));
    let bare = |name: &'static str| name.trim_start_matches("pub(crate) ").trim_start_matches("r#");
    let names = declared.map(bare).map(|name| name.trim_start_matches('_'));
    let is_name = |name: &&str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b"0123456789_".contains(&b))
    };
    names.filter(is_name).map(|name| name.replace('_', "-")).collect()
}

/// The keys that a part of the reference speaks of: what is in backticks in the first column of its tables.
fn documented(part: &str) -> BTreeSet<String> {
    let cells = part.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let quoted = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let keys = quoted.filter(|text| !text.contains("://"));
    keys.flat_map(|text| text.split('.')).map(|key| key.trim_end_matches("[]").to_owned()).collect()
}

#[test]
fn every_key_is_in_the_reference_and_nothing_else() {
    let (accepted, documented) = (accepted(), documented(REFERENCE));
    assert!(accepted.len() > 80, "{accepted:?}");
    assert_eq!(accepted, documented);
}

#[test]
fn every_key_with_an_effect_is_in_the_example() {
    let (effective, _) = REFERENCE.split_once("## Accepted without effect").unwrap();
    for key in documented(effective) {
        assert!(EXAMPLE.contains(&format!("{key}:")), "{key} is missing in litestream.yml.example");
    }
}

#[test]
fn every_configuration_file_of_the_examples_is_valid() {
    let examples = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples"));
    let mut seen = 0;
    for folder in std::fs::read_dir(&examples).unwrap() {
        let file = folder.unwrap().path().join("litestream.yml");
        if file.exists() {
            // A folder of databases must be there.
            let machine = tempfile::tempdir().unwrap();
            let text = std::fs::read_to_string(&file).unwrap().replace("dir: /var/lib/tenants", "dir: .");
            std::fs::write(machine.path().join("litestream.yml"), text).unwrap();
            let listed = Command::new(env!("CARGO_BIN_EXE_walstream"))
                .args(["config", "check", "-config", "litestream.yml"])
                .current_dir(machine.path())
                .env("REPLICA_URL", "file:///backup")
                .output()
                .unwrap();
            assert!(listed.status.success() && listed.stderr.is_empty(), "{}: {listed:?}", file.display());
            seen += 1;
        }
    }
    assert!(seen >= 4, "examples are missing");
}
