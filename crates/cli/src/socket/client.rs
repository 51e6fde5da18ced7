//! The commands' side of the control socket.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::ErrorAnswer;
use crate::error::CliError;

/// A daemon that limits itself is given this much longer.
const GRACE: Duration = Duration::from_secs(5);

/// A connection to a daemon.
pub(crate) struct Client {
    socket: PathBuf,
    http: reqwest::Client,
}

impl Client {
    /// Waits for answers for `timeout` and a little longer; without one, for ever.
    pub(crate) fn new(socket: PathBuf, timeout: Option<Duration>) -> Result<Self, CliError> {
        // An error only means that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder().unix_socket(socket.as_path()).no_proxy();
        if let Some(timeout) = timeout {
            builder = builder.timeout(timeout + GRACE);
        }
        let http =
            builder.build().map_err(|error| CliError::new(format!("cannot make a request: {error}")))?;
        Ok(Client { socket, http })
    }

    /// Asks for something; `verb` is for the error.
    pub(crate) async fn get<T: DeserializeOwned>(&self, verb: &str) -> Result<T, CliError> {
        let request = self.http.get(url(verb));
        self.send(Method::GET, verb, request).await
    }

    /// Asks to do something.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        verb: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_string(body).unwrap_or_default();
        let request = self.http.post(url(verb)).header("content-type", "application/json").body(body);
        self.send(Method::POST, verb, request).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        verb: &str,
        request: RequestBuilder,
    ) -> Result<T, CliError> {
        let failed = |error: reqwest::Error| self.explain(&method, verb, &error);
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let text = answer.text().await.map_err(failed)?;
        if !status.is_success() {
            let reason = match serde_json::from_str::<ErrorAnswer>(&text) {
                Ok(ErrorAnswer { error, .. }) if !error.is_empty() => error,
                _ => text.trim().to_owned(),
            };
            return Err(CliError::new(format!("{verb} failed: {reason}")));
        }
        serde_json::from_str(&text)
            .map_err(|error| CliError::new(format!("{verb} failed: the answer is not understood: {error}")))
    }

    fn explain(&self, method: &Method, verb: &str, error: &reqwest::Error) -> CliError {
        if error.is_timeout() {
            return CliError::new(format!("{verb} failed: the daemon does not answer"))
                .with_hint("-timeout gives it more time");
        }
        let method = if method == Method::GET { "Get" } else { "Post" };
        let (url, socket, reason) = (url(verb), self.socket.display(), root_cause(error));
        CliError::new(format!(
            "failed to connect to control socket: {method} {url:?}: dial unix {socket}: connect: {reason}"
        ))
        .with_hint("a daemon listens there if its configuration says socket.enabled: true")
    }
}

fn url(verb: &str) -> String {
    format!("http://localhost/{verb}")
}

/// What the system said, in the words of Go.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                _ => error.to_string(),
            };
        }
        cause = error.source();
    }
    error.to_string()
}
