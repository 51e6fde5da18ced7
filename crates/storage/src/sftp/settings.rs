//! From what was said about an SFTP replica to what is done.

use std::path::PathBuf;
use std::time::Duration;

use russh::keys::PublicKey;

use crate::config::SftpConfig;
use crate::error::StorageError;
use crate::secret::Secret;
use crate::url::without_secrets;

const DEFAULT_PORT: u16 = 22;
/// How long a server may say nothing at all while answers are due.
const SILENCE: Duration = Duration::from_secs(30);
/// Requests under way for one file. Each takes at most 255 KiB of memory.
const AT_ONCE: usize = 16;

/// A server, and how to log in there.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Name or address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Option<Secret>,
    pub(super) key_path: Option<PathBuf>,
    pub(super) host_key: Option<PublicKey>,
    pub(super) accept_unknown_host_key: bool,
    /// Files of known hosts, that of the user first.
    pub(super) known_hosts: Vec<PathBuf>,
    /// Where private keys usually are.
    pub(super) usual_keys: Vec<PathBuf>,
    /// Socket of the agent.
    pub(super) agent: Option<PathBuf>,
    pub(super) writes_at_once: usize,
    pub(super) reads_at_once: usize,
    pub(super) silence: Duration,
}

impl Settings {
    /// Fills in what was not said. `env` is the environment.
    pub(super) fn resolve(
        config: &SftpConfig,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, StorageError> {
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let env = |name| env(name).filter(|value| !value.is_empty());
        let host = said(&config.host).ok_or_else(|| {
            let message = "an sftp replica needs a server: set host, or url: sftp://USER@HOST/DIRECTORY";
            StorageError::Config(message.into())
        })?;
        let (host, port) = split_port(&host)?;
        let user = said(&config.user).or_else(|| env("USER")).ok_or_else(|| {
            let message =
                "an sftp replica needs somebody who logs in: set user, or url: sftp://USER@HOST/DIRECTORY";
            StorageError::Config(message.into())
        })?;
        let ssh = env("HOME").map(|home| PathBuf::from(home).join(".ssh"));
        let in_ssh = |name: &str| ssh.as_ref().map(|folder| folder.join(name));
        Ok(Settings {
            host,
            port,
            user,
            password: config.password.clone(),
            key_path: config.key_path.clone(),
            host_key: said(&config.host_key).map(|line| parse_host_key(&line)).transpose()?,
            accept_unknown_host_key: config.accept_unknown_host_key.unwrap_or(false),
            known_hosts: in_ssh("known_hosts")
                .into_iter()
                .chain(["/etc/ssh/ssh_known_hosts".into()])
                .collect(),
            usual_keys: ["id_ed25519", "id_ecdsa", "id_rsa"].into_iter().filter_map(in_ssh).collect(),
            agent: env("SSH_AUTH_SOCK").map(PathBuf::from),
            writes_at_once: if config.concurrent_writes.unwrap_or(true) { AT_ONCE } else { 1 },
            reads_at_once: AT_ONCE,
            silence: SILENCE,
        })
    }

    /// The server as messages and `known_hosts` name it: with its port only where that is not the usual one.
    pub(super) fn server(&self) -> String {
        match self.port {
            DEFAULT_PORT => self.host.clone(),
            port => format!("[{}]:{port}", self.host),
        }
    }

    /// The URL of the server, without secrets.
    pub(super) fn url(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match self.port {
            DEFAULT_PORT => format!("sftp://{}@{host}", self.user),
            port => format!("sftp://{}@{host}:{port}", self.user),
        }
    }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]`, `[ADDRESS]:PORT` or a bare IPv6 address.
fn split_port(text: &str) -> Result<(String, u16), StorageError> {
    let bad = || {
        let shown = without_secrets(text);
        StorageError::Config(format!("invalid host {shown:?} for sftp: expected HOST or HOST:PORT"))
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(bad)?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(bad)?) })
        }
        None if text.matches(':').count() > 1 => (text, None),
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| bad()))?;
    // A login has keys of its own.
    if host.is_empty() || host.contains('@') || port == 0 { Err(bad()) } else { Ok((host.to_owned(), port)) }
}

fn parse_host_key(line: &str) -> Result<PublicKey, StorageError> {
    PublicKey::from_openssh(line.trim()).map_err(|error| {
        StorageError::Config(format!(
            "host-key is no public key ({error}): expected one line like \"ssh-ed25519 AAAA…\", as ssh-keyscan prints it \
             after the host name"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(config: SftpConfig) -> Result<Settings, StorageError> {
        let env = |name: &str| match name {
            "HOME" => Some("/home/me".to_owned()),
            "USER" => Some("me".to_owned()),
            _ => None,
        };
        Settings::resolve(&config, &env)
    }

    #[test]
    fn hosts_have_ports() {
        for (host, server, url) in [
            ("backup.example", "backup.example", "sftp://me@backup.example"),
            ("backup.example:2222", "[backup.example]:2222", "sftp://me@backup.example:2222"),
            ("[::1]", "::1", "sftp://me@[::1]"),
            ("::1", "::1", "sftp://me@[::1]"),
            ("[::1]:2222", "[::1]:2222", "sftp://me@[::1]:2222"),
        ] {
            let settings = resolve(SftpConfig { host: Some(host.into()), ..SftpConfig::default() }).unwrap();
            assert_eq!((settings.server().as_str(), settings.url().as_str()), (server, url));
        }
        for host in ["", "me@h", "me:secret@h:22", "h:port", "h:0", ":22", "[::1", "[::1]x"] {
            assert!(
                resolve(SftpConfig { host: Some(host.into()), ..SftpConfig::default() }).is_err(),
                "{host}"
            );
        }
    }

    #[test]
    fn a_host_key_is_checked_at_once() {
        let config = |line: &str| SftpConfig {
            host: Some("h".into()),
            host_key: Some(line.into()),
            ..SftpConfig::default()
        };
        let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ comment";
        assert!(resolve(config(line)).unwrap().host_key.is_some());
        let error = resolve(config("SHA256:abc")).unwrap_err().to_string();
        assert!(error.starts_with("host-key is no public key"), "{error}");
    }
}
