//! A second real S3 server: s3s-fs, which checks signatures and keeps objects in a directory.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::moto::Moto;
use crate::process::Running;
use crate::tools::{Tool, tool};
use crate::wait::{eventually, free_port};

/// An s3s-fs server on a free loopback port, with the bucket and the key pair of [`Moto`]. It ends when dropped.
pub struct S3sFs {
    server: Option<Running>,
    address: String,
    folder: TempDir,
}

impl S3sFs {
    /// Starts a server with an empty bucket.
    pub fn start() -> S3sFs {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(Moto::BUCKET)).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let mut server = S3sFs { server: None, address, folder };
        server.serve();
        server
    }

    fn serve(&mut self) {
        let (host, port) = self.address.split_once(':').unwrap();
        let mut command = Command::new(tool(Tool::S3sFs));
        command.args(["--host", host, "--port", port]);
        command.args(["--access-key", Moto::ACCESS_KEY_ID, "--secret-key", Moto::SECRET_ACCESS_KEY]);
        command.arg(self.folder.path());
        let mut server = Running::start(&mut command);
        eventually("s3s-fs listens", Duration::from_secs(20), || {
            assert!(server.is_running(), "s3s-fs ended: {}", server.stderr());
            TcpStream::connect(&self.address).ok()
        });
        self.server = Some(server);
    }

    /// Ends it and starts it again at the same address.
    pub fn restart(&mut self) {
        drop(self.server.take());
        self.serve();
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The directory of the bucket.
    pub fn bucket(&self) -> PathBuf {
        self.folder.path().join(Moto::BUCKET)
    }
}
