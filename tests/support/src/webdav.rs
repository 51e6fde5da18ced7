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
use crate::tools::{Tool, tool};
use crate::wait::eventually;

/// How long a server may live at most, should its test die without dropping it.
const LIFETIME_SECONDS: &str = "1200";

/// A WebDAV server on a free loopback port with an empty folder. It ends when this value is dropped.
pub struct WebDav {
    server: Running,
    address: String,
    folder: TempDir,
    has_login: bool,
}

impl WebDav {
    /// Who may log in where a login is asked for.
    pub const USERNAME: &str = "backup";
    /// The password, which needs escapes in a URL.
    pub const PASSWORD: &str = "p@ss/w:rd";

    /// nginx with its WebDAV modules: no locks, no `Depth: infinity`, folders one by one.
    pub fn nginx() -> WebDav {
        WebDav::start(false, |folder, port| {
            let config = folder.join("nginx.conf");
            fs::write(&config, nginx_config(folder, port)).unwrap();
            let mut command = limited(Tool::Nginx);
            command.arg("-c").arg(config).args(["-e", "stderr"]);
            command
        })
    }

    /// wsgidav, which knows all of the standard.
    pub fn wsgidav() -> WebDav {
        WebDav::start(false, |folder, port| {
            let mut command = limited(Tool::Wsgidav);
            command.args([
                "--host",
                "127.0.0.1",
                "--port",
                port,
                "--auth",
                "anonymous",
                "--server",
                "cheroot",
            ]);
            command.arg("--root").arg(folder.join("files"));
            command
        })
    }

    /// rclone, which wants a login and keeps the times that it is told.
    pub fn rclone() -> WebDav {
        WebDav::start(true, |folder, port| {
            let mut command = limited(Tool::Rclone);
            command.args(["serve", "webdav", "--addr", &format!("127.0.0.1:{port}"), "--config", ""]);
            command.args(["--user", WebDav::USERNAME, "--pass", WebDav::PASSWORD]).arg(folder.join("files"));
            command
        })
    }

    fn start(has_login: bool, command: impl Fn(&Path, &str) -> Command) -> WebDav {
        // None of these servers takes port 0 and says which it got, so a port that somebody was quicker to take is
        // given up for another.
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("files")).unwrap();
            let port = free_port().to_string();
            let mut server = Running::start(&mut command(folder.path(), &port));
            let address = format!("127.0.0.1:{port}");
            let listens = eventually("the WebDAV server listens", Duration::from_secs(60), || {
                let ended = !server.is_running();
                (ended || TcpStream::connect(&address).is_ok()).then_some(!ended)
            });
            if listens && server.is_running() {
                return WebDav { server, address, folder, has_login };
            }
            eprintln!("no WebDAV server on {address}: {}{}", server.stdout(), server.stderr());
        }
        panic!("no WebDAV server after five tries");
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
        self.has_login.then_some((WebDav::USERNAME, WebDav::PASSWORD))
    }

    /// A replica URL, with the login if one is needed.
    pub fn replica_url(&self, path: &str) -> String {
        let login = if self.has_login { "backup:p%40ss%2Fw%3Ard@" } else { "" };
        format!("webdav://{login}{}/{path}", self.address)
    }

    /// Removes a file or folder, past any client of ours; some servers do not see what is done to their files directly.
    pub fn delete(&self, path: &str) {
        // The login above; a server that wants none does not look.
        let login = ("Authorization", "Basic YmFja3VwOnBAc3MvdzpyZA==");
        let response = http::request(&self.address, "DELETE", path, &[login], b"").unwrap();
        assert!(response.status < 300, "deleting {path}: {}", response.status);
    }

    /// Where the served files are.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }
}

impl Drop for WebDav {
    fn drop(&mut self) {
        // `timeout` hands a TERM on to the server; the KILL of `Running` would hit `timeout` alone.
        self.server.signal(Signal::TERM);
        let ended = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            !self.server.is_running()
        });
        if !ended {
            eprintln!("the WebDAV server did not end within 5 s; `timeout` will end it");
        }
    }
}

fn limited(server: Tool) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", LIFETIME_SECONDS]).arg(tool(server));
    command
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn nginx_config(folder: &Path, port: &str) -> String {
    let (user, folder) =
        (if rustix::process::getuid().is_root() { "user root;" } else { "" }, folder.display());
    format!(
        "{user} daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
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
