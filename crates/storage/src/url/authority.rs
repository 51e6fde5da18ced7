//! `user:password@host:port` of a URL.

use super::{bad, percent_decode};
use crate::error::StorageError;
use crate::secret::Secret;

/// The part of a URL before its path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Authority {
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    /// `host` or `host:port`.
    pub(super) host: String,
}

/// Splits what follows the scheme into the authority and a decoded path, which begins with `/` or is empty. None of the
/// stores with user information takes parameters.
pub(super) fn split(url: &str, rest: &str) -> Result<(Authority, String), StorageError> {
    if rest.contains(['?', '#']) {
        return Err(bad(url, "it takes no parameters, and in a path these characters must be escaped"));
    }
    let (front, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let decode = |text: &str| {
        percent_decode(text).ok_or_else(|| bad(url, "invalid % escape; a % itself is written %25"))
    };
    let (user_info, host) = front.rsplit_once('@').unwrap_or(("", front));
    let (user, password) = match user_info.split_once(':') {
        Some((user, password)) => (user, Some(Secret::new(decode(password)?))),
        None => (user_info, None),
    };
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    check_port(url, host)?;
    Ok((Authority { user, password, host: host.to_ascii_lowercase() }, decode(path)?))
}

fn check_port(url: &str, host: &str) -> Result<(), StorageError> {
    let Some((name, port)) = host.rsplit_once(':') else { return Ok(()) };
    // `[::1]` without a port.
    if name.starts_with('[') && !name.ends_with(']') {
        return Ok(());
    }
    match port.parse::<u16>() {
        Ok(1..) if !port.starts_with('+') => Ok(()),
        _ => Err(bad(url, &format!("invalid port {port:?}"))),
    }
}
