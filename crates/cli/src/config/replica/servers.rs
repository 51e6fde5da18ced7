//! Replicas on servers of one's own: SSH, WebDAV, NATS.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use walstream_storage::{NatsConfig, SftpConfig, WebDavConfig};

use super::super::duration::GoDuration;
use super::super::{ConfigError, expand_path};
use super::{Layers, pick, require, secret};

pub(super) fn sftp_at(path: Option<String>) -> SftpConfig {
    SftpConfig { path, ..SftpConfig::default() }
}

pub(super) fn webdav_at(path: Option<String>) -> WebDavConfig {
    WebDavConfig { path, ..WebDavConfig::default() }
}

pub(super) fn nats_at(path: Option<String>) -> NatsConfig {
    NatsConfig { path, ..NatsConfig::default() }
}

pub(super) fn sftp(url: SftpConfig, layers: Layers<'_>) -> Result<SftpConfig, ConfigError> {
    let Layers { keys, root } = layers;
    let sftp = SftpConfig {
        host: if keys.url.is_some() { url.host } else { pick!(layers, None, host) },
        user: pick!(layers, url.user, user),
        password: (secret(keys.password.clone()).or(url.password)).or_else(|| secret(root.password.clone())),
        key_path: path(pick!(layers, None, key_path))?,
        host_key: pick!(layers, None, host_key),
        accept_unknown_host_key: pick!(layers, None, accept_unknown_host_key),
        concurrent_writes: pick!(layers, None, concurrent_writes),
        path: url.path,
    };
    require(&sftp.host, "host", "sftp")?;
    require(&sftp.path, "path", "sftp").map(|()| sftp)
}

pub(super) fn webdav(url: WebDavConfig, layers: Layers<'_>) -> Result<WebDavConfig, ConfigError> {
    let Layers { keys, root } = layers;
    let webdav = WebDavConfig {
        url: url.url.or_else(|| pick!(layers, None, webdav_url)),
        username: pick!(layers, url.username, webdav_username),
        password: (secret(keys.webdav_password.clone()).or(url.password))
            .or_else(|| secret(root.webdav_password.clone())),
        path: url.path,
    };
    require(&webdav.url, "webdav-url", "webdav").map(|()| webdav)
}

pub(super) fn nats(url: NatsConfig, layers: Layers<'_>) -> Result<NatsConfig, ConfigError> {
    let Layers { keys, root } = layers;
    let list = pick!(layers, None, root_cas).map(|list| {
        list.iter().map(|path| expand_path(OsStr::new(path))).collect::<Result<Vec<_>, ConfigError>>()
    });
    let password = (secret(keys.password.clone()).or(url.password)).or_else(|| secret(root.password.clone()));
    // With a password from elsewhere it is a user after all.
    let (user, token) = match (url.token, &password) {
        (Some(user), Some(_)) => (Some(user.expose().to_owned()), None),
        (token, _) => (url.username, token),
    };
    let nats = NatsConfig {
        url: url.url.or_else(|| Some("nats://127.0.0.1:4222".to_owned())),
        bucket: pick!(layers, url.bucket, bucket),
        path: url.path,
        jwt: secret(pick!(layers, None, jwt)),
        seed: secret(pick!(layers, None, seed)),
        creds: path(pick!(layers, None, creds))?,
        nkey: pick!(layers, None, nkey),
        username: pick!(layers, user, username),
        password,
        token: secret(keys.token.clone()).or(token).or_else(|| secret(root.token.clone())),
        tls: pick!(layers, None, tls),
        root_cas: list.transpose()?,
        client_cert: path(pick!(layers, None, client_cert))?,
        client_key: path(pick!(layers, None, client_key))?,
        max_reconnects: pick!(layers, None, max_reconnects),
        reconnect_wait: duration("reconnect-wait", pick!(layers, None, reconnect_wait))?,
        timeout: duration("timeout", pick!(layers, None, timeout))?,
    };
    if nats.client_cert.is_some() != nats.client_key.is_some() {
        return Err(ConfigError::new("client-cert and client-key must both be given for nats replica"));
    }
    require(&nats.bucket, "bucket", "nats").map(|()| nats)
}

fn path(text: Option<String>) -> Result<Option<PathBuf>, ConfigError> {
    text.map(|text| expand_path(OsStr::new(&text))).transpose()
}

fn duration(key: &str, given: Option<GoDuration>) -> Result<Option<Duration>, ConfigError> {
    let positive = |given: GoDuration| {
        let wrong = || ConfigError::new(format!("{key}: must be greater than 0 (got {given})"));
        given.positive().ok_or_else(wrong)
    };
    given.map(positive).transpose()
}
