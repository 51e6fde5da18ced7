//! `sftp://user@host/path`, `webdavs://user@host/path`, `nats://host/bucket`.

use super::{authority, bad};
use crate::config::{NatsConfig, SftpConfig, WebDavConfig};
use crate::error::StorageError;
use crate::layout::clean_path;
use crate::secret::Secret;

/// The path is absolute, as the peer reads it in a configuration file.
pub(super) fn parse_sftp(url: &str, rest: &str) -> Result<SftpConfig, StorageError> {
    let (authority, path) = authority::split(url, rest)?;
    let expected = "expected sftp://USER@HOST/DIRECTORY";
    if path.is_empty() {
        return Err(bad(url, &format!("no directory given, {expected}")));
    }
    let host = Some(named(url, authority.host, expected)?);
    let path = Some(format!("/{}", clean_path(&path)));
    Ok(SftpConfig { host, user: authority.user, password: authority.password, path, ..SftpConfig::default() })
}

pub(super) fn parse_webdav(url: &str, scheme: &str, rest: &str) -> Result<WebDavConfig, StorageError> {
    let (authority, path) = authority::split(url, rest)?;
    let host = named(url, authority.host, "expected webdavs://USER@HOST/FOLDER")?;
    Ok(WebDavConfig {
        url: Some(format!("{scheme}://{host}")),
        username: authority.user,
        password: authority.password,
        path: Some(format!("/{}", clean_path(&path))),
    })
}

/// What follows the bucket is a path in it; the peer knows none, so there it is empty. The bucket may be said elsewhere.
/// A user without a password is a token, as in every client of NATS.
pub(super) fn parse_nats(url: &str, rest: &str) -> Result<NatsConfig, StorageError> {
    let (authority, path) = authority::split(url, rest)?;
    let clean = clean_path(&path);
    let (bucket, path) = clean.split_once('/').unwrap_or((&clean, ""));
    let host = if authority.host.is_empty() { "127.0.0.1:4222" } else { &authority.host };
    let (username, token) = match (authority.user, &authority.password) {
        (Some(token), None) => (None, Some(Secret::new(token))),
        (user, _) => (user, None),
    };
    Ok(NatsConfig {
        url: Some(format!("nats://{host}")),
        bucket: Some(bucket.to_owned()).filter(|bucket| !bucket.is_empty()),
        path: Some(path.to_owned()),
        username,
        password: authority.password,
        token,
        ..NatsConfig::default()
    })
}

fn named(url: &str, host: String, expected: &str) -> Result<String, StorageError> {
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    if name.is_empty() { Err(bad(url, &format!("no host given, {expected}"))) } else { Ok(host) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_hosts_and_directories_are_found() {
        let sftp = parse_sftp("", "me:p%40ss%2Fw@Backup.example:2222/var//backups/app/").unwrap();
        assert_eq!(sftp.host.as_deref(), Some("backup.example:2222"));
        assert_eq!((sftp.user.as_deref(), sftp.password), (Some("me"), Some(Secret::new("p@ss/w"))));
        assert_eq!(sftp.path.as_deref(), Some("/var/backups/app"));
        let sixth = parse_sftp("", "[::1]:22/x").unwrap();
        assert_eq!(sixth.host.as_deref(), Some("[::1]:22"));
        assert_eq!(parse_sftp("", "[::1]/x").unwrap().host.as_deref(), Some("[::1]"));

        let webdav = parse_webdav("", "https", "me:pw@cloud.example/remote.php/dav").unwrap();
        assert_eq!(webdav.url.as_deref(), Some("https://cloud.example"));
        assert_eq!(
            (webdav.username.as_deref(), webdav.path.as_deref()),
            (Some("me"), Some("/remote.php/dav"))
        );
    }

    #[test]
    fn a_path_after_a_nats_bucket_is_in_it() {
        for (rest, url, bucket, path) in [
            ("host/bucket", "nats://host", "bucket", ""),
            ("me:pw@host:4333/bucket/a/b", "nats://host:4333", "bucket", "a/b"),
            ("/bucket", "nats://127.0.0.1:4222", "bucket", ""),
        ] {
            let nats = parse_nats("", rest).unwrap();
            assert_eq!(nats.url.as_deref(), Some(url));
            assert_eq!((nats.bucket.as_deref(), nats.path.as_deref()), (Some(bucket), Some(path)));
        }
    }

    #[test]
    fn a_nats_user_without_a_password_is_a_token() {
        let login = |rest| {
            let nats = parse_nats("", rest).unwrap();
            (nats.username, nats.password, nats.token)
        };
        assert_eq!(login("me:pw@host/b"), (Some("me".to_owned()), Some(Secret::new("pw")), None));
        assert_eq!(login("t0ken@host/b"), (None, None, Some(Secret::new("t0ken"))));
        assert_eq!(login("host/b"), (None, None, None));
    }
}
