//! A terminal in front of which a program runs.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, ExitStatus, Stdio};

/// Runs a program to its end with its standard output on a terminal, and returns what that got to see.
pub fn run_on_terminal(command: &mut Command) -> (ExitStatus, String) {
    let (mut ours, theirs) = open();
    let mut child = command.stdin(Stdio::null()).stdout(theirs).stderr(Stdio::null()).spawn().unwrap();
    // It is the end of the output when nobody has the terminal open any more, and so must we not.
    command.stdout(Stdio::null());
    let mut shown = Vec::new();
    // Linux calls that end an error.
    let _ = ours.read_to_end(&mut shown);
    (child.wait().unwrap(), String::from_utf8(shown).unwrap())
}

/// The two sides of a terminal.
fn open() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let (name, attributes, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: both descriptors are new, and nobody else knows them.
    unsafe {
        assert_eq!(libc::openpty(&mut ours, &mut theirs, name, attributes, size), 0);
        (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    }
}
