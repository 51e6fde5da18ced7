//! What packages are made with: manual pages, and completions that bash takes.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod common;

use std::path::Path;
use std::process::Command;

use common::run;

/// What bash offers for a command line whose last word is not finished.
fn offered(folder: &Path, line: &str) -> Vec<String> {
    let script = "source completions/walstream.bash
        COMP_WORDS=($1)
        [ \"${1% }\" = \"$1\" ] || COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _walstream
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output =
        Command::new("bash").args(["-uc", script, "bash", line]).current_dir(folder).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    let words = String::from_utf8(output.stdout).unwrap();
    words.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn bash_offers_commands_flags_and_values() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), "manual .").code, Some(0));
    let offered = |line: &str| offered(folder.path(), line).join(" ");
    assert_eq!(offered("walstream rep"), "replicate");
    assert_eq!(offered("walstream help dem"), "demo");
    assert_eq!(offered("walstream restore -if"), "-if-db-not-exists -if-replica-exists");
    assert_eq!(offered("walstream restore -integrity-check "), "none quick full");
    assert_eq!(offered("walstream restore -integrity-check q"), "quick");
    assert_eq!(offered("walstream ltx v"), "verify");
    assert_eq!(offered("walstream ltx -le"), "-level");
    assert_eq!(offered("walstream ltx verify -"), "-json");
    // Here bash goes on with the names of files.
    assert_eq!(offered("walstream restore -config "), "");
    assert_eq!(offered("walstream restore -json "), "");
}

#[test]
fn the_folder_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), "manual").assert_refused("one folder required");
    run(folder.path(), "manual /proc/none").assert_refused("cannot write /proc/none/man");
}
