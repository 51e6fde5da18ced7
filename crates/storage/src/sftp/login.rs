//! Proving to a server who we are.
//!
//! A key or password that was named is used and nothing else. If none was: the keys of the agent, then those in
//! `~/.ssh`, as `ssh` does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Error as KeyError, HashAlg, PrivateKey, PrivateKeyWithHashAlg, load_secret_key};

use super::connection::Doorkeeper;
use super::failure::Failure;
use super::settings::Settings;
use crate::secret::Secret;

/// How often a server may ask back before it gets a password.
const QUESTIONS: usize = 5;

/// One attempt to get in: who knocks, and what was shown.
pub(super) struct Login<'a> {
    ssh: &'a mut Handle<Doorkeeper>,
    settings: &'a Settings,
    shown: Vec<String>,
}

/// Logs in, or says what was tried.
pub(super) async fn login(ssh: &mut Handle<Doorkeeper>, settings: &Settings) -> Result<(), Failure> {
    let mut login = Login { ssh, settings, shown: Vec::new() };
    if login.with_keys().await? || login.with_password().await? {
        return Ok(());
    }
    let Settings { user, .. } = settings;
    let server = settings.server();
    if login.shown.is_empty() {
        return Err(Failure::Setup(format!(
            "there is nothing to log in with as {user} at {server}: set key-path or password, add a key to the agent, \
             or create ~/.ssh/id_ed25519"
        )));
    }
    Err(Failure::Denied(format!("{server} does not let {user} in with {}", login.shown.join(", "))))
}

impl Login<'_> {
    async fn with_keys(&mut self) -> Result<bool, Failure> {
        let settings = self.settings;
        if let Some(path) = &settings.key_path {
            let key = load(path.clone()).await.map_err(|error| unreadable(path, &error))?;
            return self.with_key(path, key).await;
        }
        if settings.password.is_some() {
            return Ok(false);
        }
        if let Some(agent) = &settings.agent
            && self.with_agent(agent).await?
        {
            return Ok(true);
        }
        for path in &settings.usual_keys {
            match load(path.clone()).await {
                Ok(key) => {
                    if self.with_key(path, key).await? {
                        return Ok(true);
                    }
                }
                Err(KeyError::IO(_)) => {}
                Err(error) => self.shown.push(format!("the key {} (not usable: {error})", path.display())),
            }
        }
        Ok(false)
    }

    async fn with_key(&mut self, path: &Path, key: PrivateKey) -> Result<bool, Failure> {
        self.shown.push(format!("the key {}", path.display()));
        let hash = self.rsa_hash().await;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        let answer = self.ssh.authenticate_publickey(&self.settings.user, key).await?;
        self.is_in(&answer)
    }

    /// An agent that does not answer is none.
    async fn with_agent(&mut self, socket: &Path) -> Result<bool, Failure> {
        let Ok(mut agent) = AgentClient::connect_uds(socket).await else { return Ok(false) };
        let Ok(identities) = agent.request_identities().await else { return Ok(false) };
        let hash = self.rsa_hash().await;
        for identity in identities {
            let AgentIdentity::PublicKey { key, comment } = identity else { continue };
            self.shown.push(format!("the agent's key {}", if comment.is_empty() { "" } else { &comment }));
            let hash = hash.filter(|_| key.algorithm().is_rsa());
            let answer =
                self.ssh.authenticate_publickey_with(&self.settings.user, key, hash, &mut agent).await;
            match answer {
                Ok(answer) if self.is_in(&answer)? => return Ok(true),
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "the agent could not sign"),
            }
        }
        Ok(false)
    }

    async fn with_password(&mut self) -> Result<bool, Failure> {
        let Some(password) = &self.settings.password else { return Ok(false) };
        self.shown.push("the password".into());
        let answer = self.ssh.authenticate_password(&self.settings.user, password.expose()).await?;
        Ok(self.is_in(&answer)? || self.with_answers(password).await?)
    }

    /// Many servers take passwords only as the answer to a question.
    async fn with_answers(&mut self, password: &Secret) -> Result<bool, Failure> {
        use KeyboardInteractiveAuthResponse::{Failure as Refused, InfoRequest, Success};
        if self.ssh.is_closed() {
            return Ok(false);
        }
        let user = &self.settings.user;
        let mut answer = self.ssh.authenticate_keyboard_interactive_start(user, None::<String>).await?;
        for _ in 0..QUESTIONS {
            match answer {
                Success => return Ok(true),
                Refused { .. } => return Ok(false),
                InfoRequest { prompts, .. } => {
                    let answers = prompts.iter().map(|_| password.expose().to_owned()).collect();
                    answer = self.ssh.authenticate_keyboard_interactive_respond(answers).await?;
                }
            }
        }
        Ok(false)
    }

    fn is_in(&self, answer: &AuthResult) -> Result<bool, Failure> {
        match answer {
            AuthResult::Success => Ok(true),
            // The methods that are left are only known if the server said so.
            AuthResult::Failure { remaining_methods, .. }
                if remaining_methods.is_empty() && self.ssh.is_closed() =>
            {
                let shown = self.shown.join(", ");
                Err(Failure::Denied(format!("{} hung up on {shown}", self.settings.server())))
            }
            AuthResult::Failure { .. } => Ok(false),
        }
    }

    /// How to sign with RSA keys: as the server wishes, else as every server of the last ten years can read.
    async fn rsa_hash(&self) -> Option<HashAlg> {
        match self.ssh.best_supported_rsa_hash().await {
            Ok(Some(wished)) => wished,
            _ => Some(HashAlg::Sha512),
        }
    }
}

async fn load(path: PathBuf) -> Result<PrivateKey, KeyError> {
    let read = tokio::task::spawn_blocking(move || load_secret_key(path, None)).await;
    read.map_err(|error| KeyError::IO(std::io::Error::other(error)))?
}

fn unreadable(path: &Path, error: &KeyError) -> Failure {
    let path = path.display();
    Failure::Setup(match error {
        KeyError::KeyIsEncrypted => format!(
            "the key {path} is protected by a passphrase: add it to the agent (ssh-add {path}) and leave out key-path, \
             or use a key without one"
        ),
        KeyError::IO(error) => format!("cannot read the key {path}: {error}"),
        error => format!("{path} holds no private key that can be used: {error}"),
    })
}
