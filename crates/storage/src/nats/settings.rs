//! From what was said about a NATS replica to what is done.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::failure::Failure;
use crate::config::NatsConfig;
use crate::error::StorageError;
use crate::secret::Secret;
use crate::trust;
use crate::url::without_secrets;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_RECONNECT_WAIT: Duration = Duration::from_secs(2);
/// How soon a line that is dead is noticed while nobody asks for anything.
const PING: Duration = Duration::from_secs(15);

/// Servers of one cluster, and how to log in there.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    addresses: Vec<ServerAddr>,
    login: Login,
    config: NatsConfig,
    /// How long a connection and an answer may take.
    pub(super) timeout: Duration,
}

/// What is shown to the server; the first of these that was given.
#[derive(Clone, Debug)]
enum Login {
    /// A user's JWT and seed, in the form of a credentials file.
    Credentials(Secret),
    /// A file of that form.
    File(PathBuf),
    /// The seed of a user key.
    Key(Secret),
    Password(String, Secret),
    Token(Secret),
    Nobody,
}

impl Settings {
    /// Fills in what was not said.
    pub(super) fn resolve(config: &NatsConfig) -> Result<Self, StorageError> {
        let url = config.url.as_deref().unwrap_or("nats://127.0.0.1:4222");
        let parse = |text: &str| {
            text.trim().parse().map_err(|error| {
                let server = without_secrets(text);
                let message = format!("invalid NATS server {server:?}: {error}; expected nats://HOST:PORT");
                StorageError::Config(message)
            })
        };
        Ok(Settings {
            addresses: url.split(',').map(parse).collect::<Result<_, _>>()?,
            login: Login::of(config)?,
            config: config.clone(),
            timeout: config.timeout.unwrap_or(DEFAULT_TIMEOUT),
        })
    }

    /// The servers' addresses.
    pub(super) fn addresses(&self) -> Vec<ServerAddr> {
        self.addresses.clone()
    }

    /// The servers as messages name them.
    pub(super) fn servers(&self) -> String {
        let name = |address: &ServerAddr| format!("{}:{}", address.host(), address.port());
        self.addresses.iter().map(name).collect::<Vec<_>>().join(",")
    }

    /// The URL of the servers, without secrets.
    pub(super) fn url(&self) -> String {
        format!("nats://{}", self.servers())
    }

    /// What it takes to connect.
    pub(super) async fn options(&self) -> Result<ConnectOptions, Failure> {
        let NatsConfig { tls, max_reconnects, reconnect_wait, .. } = &self.config;
        let wait = reconnect_wait.unwrap_or(DEFAULT_RECONNECT_WAIT);
        // Each server is tried at once, then there are pauses.
        let at_once = self.addresses.len();
        let options = ConnectOptions::new()
            .name("walstream")
            .connection_timeout(self.timeout)
            .request_timeout(None)
            .ping_interval(PING)
            .require_tls(tls.unwrap_or(false))
            .max_reconnects(
                max_reconnects.and_then(|most| usize::try_from(most).ok()).filter(|most| *most > 0),
            )
            .reconnect_delay_callback(move |tried| if tried <= at_once { Duration::ZERO } else { wait });
        let login = self.login.clone();
        let config = self.config.clone();
        let read = tokio::task::spawn_blocking(move || -> Result<_, StorageError> {
            Ok((login.read()?, tls_config(&config)?))
        });
        let read = read.await.map_err(|error| Failure::Lost(error.to_string()))?;
        let (login, tls) = read.map_err(Failure::Ours)?;
        login.into_options(options.tls_client_config(tls))
    }
}

impl Login {
    fn of(config: &NatsConfig) -> Result<Self, StorageError> {
        let config = config.clone();
        let alone = |one: &str, other: &str| Err(StorageError::Config(format!("nats: {one} needs {other}")));
        Ok(match (config.jwt, config.creds, config.nkey, config.seed) {
            (Some(jwt), _, _, Some(seed)) => Login::Credentials(Secret::new(format!(
                "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
                jwt.expose(),
                seed.expose()
            ))),
            (Some(_), None, _, None) => return alone("jwt", "seed"),
            (_, Some(path), ..) => Login::File(path),
            (_, _, Some(_), Some(seed)) => Login::Key(seed),
            (_, _, Some(_), None) => return alone("nkey", "seed"),
            (_, _, None, Some(_)) => return alone("seed", "jwt or nkey"),
            (None, None, None, None) => match (config.username, config.password, config.token) {
                (Some(user), password, _) => Login::Password(user, password.unwrap_or_default()),
                (None, _, Some(token)) => Login::Token(token),
                (None, _, None) => Login::Nobody,
            },
        })
    }

    /// With the content of its file in its place. It is read for each connection, since it may have been renewed.
    fn read(self) -> Result<Self, StorageError> {
        match self {
            Login::File(path) => match std::fs::read_to_string(&path) {
                Ok(text) => Ok(Login::Credentials(Secret::new(text))),
                Err(error) => Err(StorageError::Config(format!("creds: {}: {error}", path.display()))),
            },
            other => Ok(other),
        }
    }

    fn into_options(self, options: ConnectOptions) -> Result<ConnectOptions, Failure> {
        Ok(match self {
            Login::Credentials(text) => options
                .credentials(text.expose())
                .map_err(|error| Failure::Setup(format!("the JWT or its seed cannot be used: {error}")))?,
            Login::Key(seed) => options.nkey(seed.expose().to_owned()),
            Login::Password(user, password) => options.user_and_password(user, password.expose().to_owned()),
            Login::Token(token) => options.token(token.expose().to_owned()),
            Login::File(_) | Login::Nobody => options,
        })
    }
}

/// Whom we trust, and who we are.
fn tls_config(config: &NatsConfig) -> Result<ClientConfig, StorageError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots.add_parsable_certificates(trust::built_in_roots().iter().cloned());
    for path in config.root_cas.iter().flatten() {
        roots.add_parsable_certificates(trust::read_bundle("root-cas", path)?);
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    let (Some(certificate), Some(key)) = (&config.client_cert, &config.client_key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = trust::read_bundle("client-cert", certificate)?;
    builder.with_client_auth_cert(chain, read_key(key)?).map_err(|error| {
        StorageError::Config(format!("client-cert and client-key do not go together: {error}"))
    })
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, StorageError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        StorageError::Config(format!(
            "client-key: {}: it is no private key in PEM form: {error}",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(config: NatsConfig) -> Result<Settings, String> {
        Settings::resolve(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn servers_of_a_cluster_are_separated_by_commas() {
        for (url, servers) in
            [("nats://a", "a:4222"), ("nats://a:1,b", "a:1,b:4222"), ("tls://[::1]:4333", "::1:4333")]
        {
            let config = NatsConfig { url: Some(url.into()), ..NatsConfig::default() };
            assert_eq!(resolve(config).unwrap().servers(), servers);
        }
        let error =
            resolve(NatsConfig { url: Some("http://a".into()), ..NatsConfig::default() }).unwrap_err();
        assert!(error.starts_with("invalid NATS server \"http://a\""), "{error}");
    }

    #[test]
    fn half_a_login_is_refused() {
        let said = || Some("x".to_owned());
        let secret = || Some(Secret::new("x"));
        for (config, expected) in [
            (NatsConfig { jwt: secret(), ..NatsConfig::default() }, "nats: jwt needs seed"),
            (NatsConfig { nkey: said(), ..NatsConfig::default() }, "nats: nkey needs seed"),
            (
                NatsConfig { seed: Some(Secret::new("x")), ..NatsConfig::default() },
                "nats: seed needs jwt or nkey",
            ),
        ] {
            assert_eq!(resolve(config).unwrap_err(), expected);
        }
    }
}
