//! The HTTP clients of stores that bring none of their own.
//!
//! Invariant: credentials go to the server that was configured and nowhere else, so no redirect is followed.

use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::connect::install_tls;
use crate::trust::built_in_roots;

/// How long a connection may take.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// Who we are, for the logs of servers.
pub(crate) const USER_AGENT: &str = concat!("walstream/", env!("CARGO_PKG_VERSION"));

/// The longest pause that a server may ask for.
const MAX_WANTED_PAUSE: Duration = Duration::from_secs(30);

/// What a busy server asks for in `Retry-After`.
pub(crate) fn wanted_pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_WANTED_PAUSE))
}

/// A client with our habits. Deadlines of requests are the caller's.
pub(crate) fn client() -> reqwest::Result<reqwest::Client> {
    install_tls();
    let roots = built_in_roots().iter().map(|root| reqwest::Certificate::from_der(root));
    let roots: Vec<reqwest::Certificate> = roots.collect::<Result<_, _>>()?;
    let builder = reqwest::Client::builder().user_agent(USER_AGENT).connect_timeout(CONNECT_WITHIN);
    builder.tls_certs_merge(roots).redirect(reqwest::redirect::Policy::none()).build()
}
