//! What can be said about replicas on servers of one's own: SSH, WebDAV, NATS.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// A replica in a directory on an SSH server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SftpConfig {
    /// `HOST` or `HOST:PORT`; the port's default is 22.
    pub host: Option<String>,
    /// Who logs in.
    pub user: Option<String>,
    /// Password, where no key is used.
    pub password: Option<Secret>,
    /// File of a private key; default: the agent, then the usual files in `~/.ssh`.
    pub key_path: Option<PathBuf>,
    /// The server's public key, as a line of `authorized_keys`; default: look it up in `known_hosts`.
    pub host_key: Option<String>,
    /// Log in even at a server whose key is not known; default: no.
    pub accept_unknown_host_key: Option<bool>,
    /// Send parts of a file without waiting for each to be confirmed; default: yes.
    pub concurrent_writes: Option<bool>,
    /// The directory; relative ones are below the login directory.
    pub path: Option<String>,
}

/// A replica in a folder on a WebDAV server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct WebDavConfig {
    /// Base of all URLs, `http://…` or `https://…`.
    pub url: Option<String>,
    /// Who logs in.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// The folder below the base.
    pub path: Option<String>,
}

/// A replica in an object store of NATS JetStream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NatsConfig {
    /// `nats://HOST:PORT`, several servers of a cluster separated by commas.
    pub url: Option<String>,
    /// The object store, which must exist.
    pub bucket: Option<String>,
    /// Where in the object store; the top unless it is shared by several databases.
    pub path: Option<String>,
    /// A user's JWT, which goes with `seed`.
    pub jwt: Option<Secret>,
    /// The private key that goes with `jwt` or `nkey`.
    pub seed: Option<Secret>,
    /// A file with both, as `nsc` writes it.
    pub creds: Option<PathBuf>,
    /// A public user key, which goes with `seed`.
    pub nkey: Option<String>,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Token.
    pub token: Option<Secret>,
    /// Insist on TLS; default: what the server asks for.
    pub tls: Option<bool>,
    /// Files of certificate authorities beside those of the system.
    pub root_cas: Option<Vec<PathBuf>>,
    /// File of a client certificate, which goes with `client_key`.
    pub client_cert: Option<PathBuf>,
    /// File of the certificate's private key.
    pub client_key: Option<PathBuf>,
    /// How often a lost connection is tried again; default and negative: for ever.
    pub max_reconnects: Option<i64>,
    /// Pause between two tries; default: 2 s.
    pub reconnect_wait: Option<Duration>,
    /// How long a connection and an answer may take; default: 10 s.
    pub timeout: Option<Duration>,
}
