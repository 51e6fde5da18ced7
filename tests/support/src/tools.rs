//! Where the external programs of the tests are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An external program that `tests/run --install` puts into `target/test-tools`, or that the system brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// moto, an S3 server that honours conditional writes.
    MotoServer,
    /// s3s-fs, an S3 server that checks signatures.
    S3sFs,
    /// Azurite, Microsoft's own emulator of Azure Blob Storage.
    Azurite,
    /// An emulator of Google Cloud Storage that speaks its JSON API.
    GcpStorageEmulator,
    /// A NATS server with JetStream.
    NatsServer,
    /// rclone, which can serve a directory over WebDAV, SFTP and S3.
    Rclone,
    /// A WebDAV server.
    Wsgidav,
    /// OpenSSH's server.
    Sshd,
    /// nginx with its WebDAV modules.
    Nginx,
    /// Litestream 0.5.17, the peer.
    Litestream,
    /// Litestream 0.3.13, for replicas of the old format.
    Litestream03,
    /// SQLite's own shell.
    Sqlite3,
    /// Django, with gunicorn beside it.
    Django,
    /// A Node that has SQLite built in.
    Node,
    /// The schemas of Kubernetes.
    KubernetesValidate,
}

impl Tool {
    fn path_below(self, folder: &Path) -> PathBuf {
        folder.join(match self {
            Tool::MotoServer => "venv/bin/moto_server",
            Tool::S3sFs => "s3s/bin/s3s-fs",
            Tool::Azurite => "npm/node_modules/.bin/azurite-blob",
            Tool::GcpStorageEmulator => "venv/bin/gcp-storage-emulator",
            Tool::NatsServer => "venv/bin/nats-server",
            Tool::Rclone => "venv/bin/rclone",
            Tool::Wsgidav => "venv/bin/wsgidav",
            // A path from the root stands for itself.
            Tool::Sshd => "/usr/sbin/sshd",
            Tool::Nginx => "/usr/sbin/nginx",
            Tool::Litestream => "venv/bin/litestream",
            Tool::Litestream03 => "litestream-0.3.13/bin/litestream",
            Tool::Sqlite3 => "/usr/bin/sqlite3",
            Tool::Django => "django/bin/django-admin",
            Tool::Node => "node/node_modules/node/bin/node",
            Tool::KubernetesValidate => "kubernetes/bin/kubernetes-validate",
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
    assert!(
        path.exists(),
        "{} is missing. Get it with: tests/run --install, which says what the system must bring",
        path.display()
    );
    path
}

/// A program of this crate, next to the tests. A run of the whole workspace has built it; a run of one crate may not have.
pub fn own_program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test.parent().and_then(Path::parent).expect("tests are in target/PROFILE/deps");
    let path = profile.join(name);
    if !path.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = ["build", "--quiet", "-p", "walstream-test-support", "--bin", name];
        let built = Command::new(cargo).args(build).current_dir(workspace()).status();
        assert!(
            built.is_ok_and(|status| status.success()) && path.exists(),
            "cannot build {}",
            path.display()
        );
    }
    path
}
