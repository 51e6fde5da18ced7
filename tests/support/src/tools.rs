//! Where the external programs of the tests are.

use std::path::{Path, PathBuf};

/// An external program that `tests/run --install` puts into `target/test-tools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// moto, an S3 server that honours conditional writes.
    MotoServer,
    /// Litestream 0.5.17, the peer.
    Litestream,
    /// Litestream 0.3.13, for replicas of the old format.
    Litestream03,
}

impl Tool {
    fn path_below(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Tool::MotoServer => "venv/bin/moto_server",
            Tool::Litestream => "venv/bin/litestream",
            Tool::Litestream03 => "litestream-0.3.13/bin/litestream",
        })
    }
}

/// The folder of the external programs: `WALSTREAM_TEST_TOOLS`, or `target/test-tools` of this workspace.
pub fn tools_folder() -> PathBuf {
    match std::env::var_os("WALSTREAM_TEST_TOOLS") {
        Some(folder) => folder.into(),
        None => workspace().join("target/test-tools"),
    }
}

/// The root of this workspace.
pub fn workspace() -> PathBuf {
    let support = Path::new(env!("CARGO_MANIFEST_DIR"));
    support.ancestors().nth(2).expect("tests/support lies two folders below the workspace").to_owned()
}

/// The path of an external program. A missing one fails the test: a test that silently skips proves nothing.
pub fn tool(tool: Tool) -> PathBuf {
    let path = tool.path_below(&tools_folder());
    assert!(path.exists(), "{} is missing. Get it with: tests/run --install", path.display());
    path
}
