//! A user who owns nothing.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// A user other than the one who runs the tests.
#[derive(Clone, Copy, Debug)]
pub struct Stranger(());

/// "nobody", where there is one.
const ID: u32 = 65534;

impl Stranger {
    /// The stranger, or why the test proves nothing here: only root may start a program as somebody else, and that one
    /// must be able to reach the program.
    pub fn meet() -> Option<Stranger> {
        let executable = std::env::current_exe().expect("a test knows its own path");
        let may_enter = |folder: &Path| folder.metadata().is_ok_and(|it| it.permissions().mode() & 1 == 1);
        let closed = executable.ancestors().skip(1).find(|folder| !may_enter(folder));
        if !rustix::process::geteuid().is_root() {
            eprintln!(
                "NOT TESTED: another user. Run the tests as root, who may start a program as somebody else"
            );
            return None;
        }
        if let Some(folder) = closed {
            eprintln!("NOT TESTED: another user. Nobody but its owner may enter {}", folder.display());
            return None;
        }
        Some(Stranger(()))
    }

    /// The command will run as the stranger.
    pub fn runs(self, command: &mut Command) {
        command.uid(ID).gid(ID);
    }

    /// A file or folder becomes the stranger's.
    pub fn owns(self, path: &Path) {
        chown(path, Some(ID), Some(ID)).unwrap();
    }
}
