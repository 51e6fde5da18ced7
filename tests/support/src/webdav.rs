//! Real WebDAV servers of one's own.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::http;
use crate::process::Running;
use crate::tools::{Tool, tool, workspace};
use crate::wait::{eventually, free_port};

/// How long a server may live at most, should its test die without dropping it.
const LIFETIME_SECONDS: &str = "1200";

/// A WebDAV server on a free loopback port with an empty folder. It ends when this value is dropped.
pub struct WebDav {
    kind: Kind,
    server: Option<Running>,
    address: String,
    folder: TempDir,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nginx,
    Wsgidav,
    Rclone,
    RcloneTls,
}

impl WebDav {
    /// Who may log in where a login is asked for.
    pub const USERNAME: &str = "backup";
    /// The password, which needs escapes in a URL.
    pub const PASSWORD: &str = "p@ss/w:rd";

    /// nginx with its WebDAV modules: no locks, no `Depth: infinity`, folders one by one.
    pub fn nginx() -> WebDav {
        WebDav::start(Kind::Nginx)
    }

    /// wsgidav, which knows all of the standard.
    pub fn wsgidav() -> WebDav {
        WebDav::start(Kind::Wsgidav)
    }

    /// rclone, which wants a login and keeps the times that it is told.
    pub fn rclone() -> WebDav {
        WebDav::start(Kind::Rclone)
    }

    /// rclone over TLS, with a certificate of [`WebDav::authority`], which no system knows.
    pub fn rclone_tls() -> WebDav {
        WebDav::start(Kind::RcloneTls)
    }

    /// The certificate of the authority, in a file.
    pub fn authority() -> PathBuf {
        // Made once with openssl, good for a hundred years; the authority's key is gone.
        workspace().join("tests/support/tls/ca.pem")
    }

    fn start(kind: Kind) -> WebDav {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("files")).unwrap();
        let mut server = WebDav { kind, server: None, address: format!("127.0.0.1:{}", free_port()), folder };
        server.serve();
        server
    }

    fn serve(&mut self) {
        let mut server = Running::start(&mut self.command());
        eventually("the WebDAV server listens", Duration::from_secs(60), || {
            assert!(server.is_running(), "the WebDAV server ended: {}{}", server.stdout(), server.stderr());
            TcpStream::connect(&self.address).ok()
        });
        self.server = Some(server);
    }

    fn command(&self) -> Command {
        let (host, port) = self.address.split_once(':').unwrap();
        let mut command = Command::new("timeout");
        command.args(["--foreground", LIFETIME_SECONDS]);
        match self.kind {
            Kind::Nginx => {
                let config = self.folder.path().join("nginx.conf");
                fs::write(&config, nginx_config(self.folder.path(), port)).unwrap();
                command.arg(tool(Tool::Nginx)).arg("-c").arg(config).args(["-e", "stderr"]);
            }
            Kind::Wsgidav => {
                command.arg(tool(Tool::Wsgidav)).args([
                    "--host",
                    host,
                    "--port",
                    port,
                    "--auth",
                    "anonymous",
                ]);
                command.args(["--server", "cheroot", "--root"]).arg(self.files());
            }
            Kind::Rclone | Kind::RcloneTls => {
                command.arg(tool(Tool::Rclone)).args([
                    "serve",
                    "webdav",
                    "--addr",
                    &self.address,
                    "--config",
                    "",
                ]);
                command.args(["--user", WebDav::USERNAME, "--pass", WebDav::PASSWORD]).arg(self.files());
                if self.kind == Kind::RcloneTls {
                    let tls = workspace().join("tests/support/tls");
                    command
                        .arg("--cert")
                        .arg(tls.join("server.pem"))
                        .arg("--key")
                        .arg(tls.join("server.key"));
                }
            }
        }
        command
    }

    /// Ends it and starts it again at the same address, with the same files.
    pub fn restart(&mut self) {
        self.stop();
        self.serve();
    }

    fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // `timeout` hands a TERM on to the server; the KILL of `Running` would hit `timeout` alone.
        server.signal(Signal::TERM);
        let ended = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            !server.is_running()
        });
        if !ended {
            eprintln!("the WebDAV server did not end within 5 s; `timeout` will end it");
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The login that the server wants, if it wants one.
    pub fn login(&self) -> Option<(&'static str, &'static str)> {
        matches!(self.kind, Kind::Rclone | Kind::RcloneTls).then_some((WebDav::USERNAME, WebDav::PASSWORD))
    }

    /// A replica URL, with the login if one is needed.
    pub fn replica_url(&self, path: &str) -> String {
        let login = if self.login().is_some() { "backup:p%40ss%2Fw%3Ard@" } else { "" };
        let scheme = if self.kind == Kind::RcloneTls { "webdavs" } else { "webdav" };
        format!("{scheme}://{login}{}/{path}", self.address)
    }

    /// One request past any client of ours; some servers do not see what is done to their files directly.
    fn request(&self, method: &str, path: &str, body: &[u8]) -> u16 {
        // The login above; a server that wants none does not look.
        let login = ("Authorization", "Basic YmFja3VwOnBAc3MvdzpyZA==");
        http::request(&self.address, method, &format!("/{path}"), &[login], body).unwrap().status
    }

    /// Stores a file, with the folders that it lies in.
    pub fn put(&self, path: &str, content: &[u8]) {
        for (at, _) in path.match_indices('/') {
            self.request("MKCOL", &path[..=at], b"");
        }
        let status = self.request("PUT", path, content);
        assert!(status < 300, "writing {path}: {status}");
    }

    /// Removes a file or folder; a folder's path ends with a slash.
    pub fn delete(&self, path: &str) {
        let status = self.request("DELETE", path, b"");
        assert!(status < 300, "deleting {path}: {status}");
    }

    /// Where the served files are.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }
}

impl Drop for WebDav {
    fn drop(&mut self) {
        self.stop();
    }
}

fn nginx_config(folder: &Path, port: &str) -> String {
    let (user, folder) =
        (if rustix::process::getuid().is_root() { "user root;" } else { "" }, folder.display());
    format!(
        "{user} daemon off; master_process off; pid {folder}/pid; error_log stderr;
         load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
         events {{ worker_connections 256; }}
         http {{
             access_log off; client_max_body_size 0; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
             fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
             server {{
                 listen 127.0.0.1:{port};
                 root {folder}/files;
                 location / {{ dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS; }}
             }}
         }}"
    )
}
