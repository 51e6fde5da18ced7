//! One connection to a server: logged in, and ready for requests.
//!
//! Invariants: nothing is sent to a server whose key is not trusted; no request waits for ever.

use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use russh::client::{self, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::{Preferred, cipher};
use russh_sftp::client::error::Error as SftpError;
use russh_sftp::client::rawsession::SftpResult;
use russh_sftp::client::{Config, RawSftpSession};
use russh_sftp::protocol::{StatusCode, Version};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failure::Failure;
use super::host_keys::HostKeys;
use super::login::login;
use super::settings::Settings;

const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// From the first byte to the first request. Some servers think long about a wrong password.
const LOGIN_WITHIN: Duration = Duration::from_secs(15);
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Nobody gives up earlier because of the server.
const A_WHILE: Duration = Duration::from_millis(500);
/// What every server must take in one request.
const SMALL: usize = 32 << 10;
/// More in one request saves nothing.
const LARGE: usize = 255 << 10;
/// What the library may take into memory of one answer.
const LARGEST_ANSWER: u32 = 1 << 20;
/// Silence is found out by [`Connection::ask`]; the library's own limit only has to be longer.
const NEVER_SECONDS: u64 = 24 * 3600;

/// Decides at the door whether the server is the right one.
pub(super) struct Doorkeeper(HostKeys);

impl client::Handler for Doorkeeper {
    type Error = Failure;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        let judged = match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.0.judge(key),
            // Never asked for.
            PublicKeyOrCertificate::Certificate(_) => {
                Err("the server shows a certificate instead of a key".into())
            }
        };
        judged.map(|()| true).map_err(Failure::Setup)
    }
}

/// What a server can do beyond the third version of the protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    /// It can make a file durable.
    pub(super) fsync: bool,
    /// It can give a file a second name.
    pub(super) hardlink: bool,
    /// Bytes in one request to write.
    pub(super) write: usize,
    /// Bytes in one request to read.
    pub(super) read: u32,
}

pub(super) struct Connection {
    pub(super) sftp: RawSftpSession,
    pub(super) features: Features,
    ssh: Handle<Doorkeeper>,
    settings: Settings,
    broken: AtomicBool,
    heard: Mutex<Instant>,
}

impl Connection {
    /// Connects and logs in.
    pub(super) async fn open(settings: &Settings) -> Result<Self, Failure> {
        let address = (settings.host.clone(), settings.port);
        let (host, port) = (&settings.host, settings.port);
        let stream = match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(Failure::Lost(format!("cannot connect to {host} port {port}: {error}")));
            }
            Err(_) => return Err(Failure::Silent(format!("{host} port {port} does not answer"))),
        };
        timeout(LOGIN_WITHIN, Connection::over(stream, settings)).await.unwrap_or_else(|_| {
            Err(Failure::Silent(format!("{host} port {port} was silent for {} s", LOGIN_WITHIN.as_secs())))
        })
    }

    async fn over(stream: TcpStream, settings: &Settings) -> Result<Self, Failure> {
        let known = settings.clone();
        let keys = tokio::task::spawn_blocking(move || HostKeys::read(&known)).await;
        let keys = keys.map_err(|error| Failure::Lost(error.to_string()))?;
        let config = ssh_config(&keys);
        let _ = stream.set_nodelay(true);
        let mut ssh = client::connect_stream(Arc::new(config), stream, Doorkeeper(keys)).await?;
        login(&mut ssh, settings).await?;
        let channel = ssh.channel_open_session().await?;
        channel.request_subsystem(true, "sftp").await?;
        let config = Config {
            max_packet_len: LARGEST_ANSWER,
            request_timeout_secs: NEVER_SECONDS,
            ..Config::default()
        };
        let sftp = RawSftpSession::new_with_config(channel.into_stream(), config);
        let no_sftp =
            |error| Failure::Setup(format!("{} offers no SFTP to this user: {error}", settings.server()));
        let version = sftp.init().await.map_err(no_sftp)?;
        let features = features(&sftp, &version).await;
        tracing::debug!(server = settings.server(), ?features, "connected");
        let (broken, heard) = (AtomicBool::new(false), Mutex::new(Instant::now()));
        Ok(Connection { sftp, features, ssh, settings: settings.clone(), broken, heard })
    }

    /// Whether requests can still be sent.
    pub(super) fn is_usable(&self) -> bool {
        !self.broken.load(Ordering::Relaxed) && !self.ssh.is_closed()
    }

    /// Waits for the answer to a request, for as long as the server answers anything at all.
    pub(super) async fn ask<T>(&self, request: impl Future<Output = SftpResult<T>>) -> Result<T, Failure> {
        let silence = self.settings.silence;
        let (mut request, asked) = (pin!(request), Instant::now());
        let mut doubt = Doubt { connection: self, asked, answered: false };
        let answer = loop {
            match timeout(silence, &mut request).await {
                Ok(answer) => break answer,
                Err(_) if self.heard().max(asked).elapsed() < silence => {}
                Err(_) => {
                    self.broken.store(true, Ordering::Relaxed);
                    let server = self.settings.server();
                    return Err(Failure::Silent(format!("{server} was silent for {} s", silence.as_secs())));
                }
            }
        };
        doubt.answered = true;
        match answer {
            Ok(answer) => {
                self.hear();
                Ok(answer)
            }
            Err(SftpError::Status(status)) => {
                self.hear();
                let message = match status.error_message.trim() {
                    "" => status.status_code.to_string(),
                    said => said.to_owned(),
                };
                Err(Failure::Answer { code: status.status_code, message })
            }
            Err(error) => {
                self.broken.store(true, Ordering::Relaxed);
                tracing::debug!(%error, "lost a connection");
                Err(Failure::Lost(format!("lost the connection to {}", self.settings.server())))
            }
        }
    }

    /// The same for a request whose answer is nothing if there is no such file.
    pub(super) async fn ask_if_there<T>(
        &self,
        request: impl Future<Output = SftpResult<T>>,
    ) -> Result<Option<T>, Failure> {
        match self.ask(request).await {
            Ok(answer) => Ok(Some(answer)),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whether anything has this name.
    pub(super) async fn exists(&self, path: &str) -> Result<bool, Failure> {
        Ok(self.ask_if_there(self.sftp.stat(path)).await?.is_some())
    }

    pub(super) fn writes_at_once(&self) -> usize {
        self.settings.writes_at_once
    }

    pub(super) fn reads_at_once(&self) -> usize {
        self.settings.reads_at_once
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever gives up a request after a while in which nothing was heard casts doubt on the connection: the next one
/// who needs one gets another.
struct Doubt<'a> {
    connection: &'a Connection,
    asked: Instant,
    answered: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        let quiet = self.connection.heard().max(self.asked).elapsed();
        if !self.answered && quiet > A_WHILE {
            self.connection.broken.store(true, Ordering::Relaxed);
        }
    }
}

/// An open file or folder on the server, closed when dropped.
pub(super) struct Opened {
    pub(super) connection: Arc<Connection>,
    pub(super) handle: String,
}

impl Opened {
    pub(super) fn new(connection: &Arc<Connection>, handle: String) -> Self {
        Opened { connection: Arc::clone(connection), handle }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let (connection, handle) = (Arc::clone(&self.connection), std::mem::take(&mut self.handle));
        if let (true, Ok(runtime)) = (connection.is_usable(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { connection.ask(connection.sftp.close(handle)).await });
        }
    }
}

fn ssh_config(keys: &HostKeys) -> client::Config {
    let usual = Preferred::DEFAULT;
    // Where the processor knows AES, nothing is faster.
    let mut ciphers = vec![cipher::AES_256_GCM];
    ciphers.extend(usual.cipher.iter().filter(|cipher| **cipher != cipher::AES_256_GCM));
    let preferred =
        Preferred { key: keys.preferred(&usual.key).into(), cipher: Cow::Owned(ciphers), ..usual };
    client::Config {
        preferred,
        keepalive_interval: Some(KEEPALIVE),
        // As much as any answer that is under way, so that the window never stops one.
        window_size: 8 << 20,
        ..client::Config::default()
    }
}

async fn features(sftp: &RawSftpSession, version: &Version) -> Features {
    let offers = |name: &str| version.extensions.contains_key(name);
    let limits = if offers("limits@openssh.com") { sftp.limits().await.ok() } else { None };
    let fit = |limit: u64| usize::try_from(limit).unwrap_or(LARGE).clamp(1, LARGE);
    // 0 is "not said".
    let of = |limit: Option<u64>| limit.filter(|limit| *limit > 0).map_or(SMALL, fit);
    Features {
        fsync: offers("fsync@openssh.com"),
        hardlink: offers("hardlink@openssh.com"),
        write: of(limits.as_ref().map(|limits| limits.max_write_len)),
        read: u32::try_from(of(limits.as_ref().map(|limits| limits.max_read_len))).unwrap_or(SMALL as u32),
    }
}

/// Whether a server does not know a request.
pub(super) fn is_unsupported(failure: &Failure) -> bool {
    matches!(failure, Failure::Answer { code: StatusCode::OpUnsupported, .. })
}
