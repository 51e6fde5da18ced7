//! A disk that runs full.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system of a few mebibytes, unmounted on drop.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// Mounts one, or says why the test proves nothing here: only root may mount.
    pub fn mount(mebibytes: u32) -> Option<SmallDisk> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk { folder });
        }
        eprintln!("NOT TESTED: a full disk. Run the tests as root, who may mount a small tmpfs");
        None
    }

    /// Gives it another size.
    pub fn resize(&self, mebibytes: u32) {
        let size = format!("remount,size={mebibytes}m");
        let resized = Command::new("mount").args(["-o", &size]).arg(self.path()).status();
        assert!(resized.is_ok_and(|status| status.success()));
    }

    /// Takes all the space that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.join("filler")).unwrap();
        let block = vec![7; 1 << 16];
        while file.write_all(&block).is_ok() {}
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path on it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
