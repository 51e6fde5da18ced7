//! Real SSH servers of one's own.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::process::{Running, run};
use crate::tools::{Tool, tool};
use crate::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(60);
/// How long a server may live at most, should its test die without dropping it.
const LIFETIME_SECONDS: &str = "1200";

/// An SSH server on a free loopback port that lets its user in with a key, and keys for it. It ends when this value is
/// dropped.
pub struct Sshd {
    server: Running,
    folder: TempDir,
    port: u16,
    command: fn(&Path, u16) -> Command,
}

impl Sshd {
    /// The password of a server from [`Sshd::start_rclone`], which takes no keys.
    pub const PASSWORD: &str = "walstream-test-password";

    /// OpenSSH, for the user who runs the test.
    pub fn start() -> Sshd {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, kind, passphrase) in [
            ("host", "ed25519", ""),
            ("other_host", "ed25519", ""),
            ("key", "ed25519", ""),
            ("rsa", "rsa", ""),
            ("secret", "ed25519", "a passphrase"),
            ("stranger", "ed25519", ""),
        ] {
            make_key(&path(name), kind, passphrase);
        }
        let public = |name| fs::read_to_string(path(&format!("{name}.pub"))).unwrap();
        fs::write(path("authorized_keys"), public("key") + &public("rsa") + &public("secret")).unwrap();
        fs::create_dir(path("files")).unwrap();
        if rustix::process::geteuid().is_root() {
            // Where it parts with its rights.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        Sshd::listen(folder, openssh)
    }

    /// rclone, which differs from OpenSSH in much: it takes a password, and a rename writes over files.
    pub fn start_rclone() -> Sshd {
        let folder = tempfile::tempdir().unwrap();
        make_key(&folder.path().join("host"), "ed25519", "");
        fs::create_dir(folder.path().join("files")).unwrap();
        Sshd::listen(folder, rclone)
    }

    /// Starts a server on a free port. These servers cannot choose one by themselves, so somebody else may be quicker.
    fn listen(folder: TempDir, command: fn(&Path, u16) -> Command) -> Sshd {
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            if let Some(server) = listening(command(folder.path(), port)) {
                return Sshd { server, folder, port, command };
            }
        }
        panic!("no port stayed free for an SSH server");
    }

    /// Ends the server and every session, and starts it again at the same address.
    pub fn restart(&mut self) {
        let sessions = descendants(self.server.id());
        self.end();
        for session in sessions {
            let _ = kill_process(session, Signal::KILL);
        }
        let command = || (self.command)(self.folder.path(), self.port);
        self.server = eventually("the SSH server listens again", DEADLINE, || listening(command()));
    }

    fn end(&mut self) {
        // `timeout` hands a TERM on to the server; the KILL of `Running` would hit `timeout` alone.
        self.server.signal(Signal::TERM);
        for _ in 0..500 {
            if !self.server.is_running() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many logins it has seen.
    pub fn logins(&self) -> usize {
        self.server.stderr().matches("Accepted publickey").count()
    }

    /// Lets others than its user come to its files too.
    pub fn open_to_others(&self) {
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Who can log in.
    pub fn user(&self) -> String {
        user()
    }

    /// The file of a private key: `key`, `rsa`, `secret` (which has a passphrase) or `stranger` (which does not let in).
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The server's public key, as `known_hosts` and `host-key` have it.
    pub fn host_key(&self) -> String {
        public_key(&self.folder.path().join("host"))
    }

    /// The public key of another server.
    pub fn other_host_key(&self) -> String {
        public_key(&self.folder.path().join("other_host"))
    }

    /// A folder where the server's user may write.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// A line of a configuration file: a replica in `files()/name`.
    pub fn replica(&self, name: &str) -> String {
        format!(
            "{{type: sftp, host: '{}', user: '{}', key-path: '{}', host-key: '{}', path: '{}'}}",
            self.address(),
            self.user(),
            self.key("key").display(),
            self.host_key(),
            self.files().join(name).display()
        )
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.end();
    }
}

/// OpenSSH's server with the files of a folder.
fn openssh(folder: &Path, port: u16) -> Command {
    let path = |name: &str| folder.join(name);
    let config = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nPidFile none\nAuthorizedKeysFile {keys}\n\
         StrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\nMaxStartups 100\n\
         Subsystem sftp internal-sftp\n",
        host = path("host").display(),
        keys = path("authorized_keys").display(),
    );
    fs::write(path("sshd_config"), config).unwrap();
    let mut command = within_lifetime(&tool(Tool::Sshd));
    command.args(["-D", "-e", "-f"]).arg(path("sshd_config"));
    command
}

/// rclone's server for the files of a folder.
fn rclone(folder: &Path, port: u16) -> Command {
    let path = |name: &str| folder.join(name);
    let mut command = within_lifetime(&tool(Tool::Rclone));
    command.args(["serve", "sftp"]).arg(path("files"));
    command.args(["--addr", &format!("127.0.0.1:{port}"), "--key"]).arg(path("host"));
    command.args(["--user", &user(), "--pass", Sshd::PASSWORD, "--config", "", "--vfs-cache-mode", "writes"]);
    command.arg("--cache-dir").arg(path("cache"));
    command
}

fn within_lifetime(program: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", LIFETIME_SECONDS]).arg(program);
    command
}

/// The server, once it listens; none if somebody else has its port.
fn listening(mut command: Command) -> Option<Running> {
    let mut server = Running::start(&mut command);
    let listens = eventually("the SSH server listens", DEADLINE, || {
        let listens = server.stderr().to_lowercase().contains("server listening on");
        (listens || !server.is_running()).then_some(listens)
    });
    assert!(listens || server.stderr().contains("in use"), "the SSH server ended: {}", server.stderr());
    listens.then_some(server)
}

/// The processes that were started by a process, by those that it started, and so on.
fn descendants(ancestor: u32) -> Vec<Pid> {
    let stat = |entry: fs::DirEntry| -> Option<(i32, i32)> {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, parent))
    };
    let parents: Vec<_> = fs::read_dir("/proc").unwrap().flatten().filter_map(stat).collect();
    let mut found = vec![ancestor.cast_signed()];
    let mut looked_at = 0;
    while let Some(&parent) = found.get(looked_at) {
        found.extend(parents.iter().filter(|(_, its_parent)| *its_parent == parent).map(|(id, _)| *id));
        looked_at += 1;
    }
    found.into_iter().skip(1).filter_map(Pid::from_raw).collect()
}

fn make_key(path: &Path, kind: &str, passphrase: &str) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f"]).arg(path);
    run(&mut command, DEADLINE).success();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn public_key(path: &Path) -> String {
    let line = fs::read_to_string(path.with_extension("pub")).unwrap();
    line.split(' ').take(2).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// The name of the user who runs the test.
fn user() -> String {
    let mut command = Command::new("id");
    run(command.arg("-un"), DEADLINE).success().stdout.trim().to_owned()
}
