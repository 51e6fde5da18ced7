//! Where a daemon takes commands.

use std::path::{Path, PathBuf};

use super::ConfigError;
use super::keys::SocketKeys;

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketSettings {
    /// The socket file. As the peer has it, `~` means nothing here.
    pub(crate) path: PathBuf,
    /// Permission bits of that file.
    pub(crate) mode: u32,
}

impl SocketSettings {
    /// Where commands look for it too.
    pub(crate) const PATH: &str = "/var/run/litestream.sock";
    const MODE: u32 = 0o600;

    /// From the `socket:` section; nothing unless it is enabled.
    pub(super) fn from_keys(keys: SocketKeys) -> Result<Option<Self>, ConfigError> {
        let path = keys.path.filter(|path| !path.is_empty()).unwrap_or_else(|| Self::PATH.to_owned());
        let mode = keys.permissions.unwrap_or(Self::MODE);
        if mode > 0o777 {
            let message = format!("socket.permissions: must be octal, at most 0777 (got {mode:#o})");
            return Err(ConfigError::new(message).hint("write it like 0600"));
        }
        let path = std::path::absolute(Path::new(&path)).map_err(|error| {
            ConfigError::new(format!("socket.path: cannot make {path:?} absolute: {error}"))
        })?;
        Ok(keys.enabled.then_some(SocketSettings { path, mode }))
    }
}
