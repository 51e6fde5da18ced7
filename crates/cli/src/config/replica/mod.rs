//! From the keys of a replica, or from a URL, to where the files go.
//!
//! Precedence: a key of the replica, then the URL, then a default from the top level of the file.

mod file;
mod objects;
mod servers;

use walstream_storage::{KINDS, ReplicaConfig, Secret, is_url};

use super::ConfigError;
use super::keys::{ReplicaKeys, RootKeys};

/// A setting of a replica: its own key, else what the URL says, else the top level's key.
macro_rules! pick {
    ($layers:ident, $url:expr, $key:ident) => {
        $layers.keys.$key.clone().or($url).or_else(|| $layers.root.$key.clone())
    };
}
use pick;

/// The two places that settings are written in.
#[derive(Clone, Copy)]
struct Layers<'a> {
    keys: &'a ReplicaKeys,
    root: &'a RootKeys,
}

/// A replica that is given by its URL alone.
pub(crate) fn from_url(url: &str) -> Result<ReplicaConfig, ConfigError> {
    let keys = ReplicaKeys { url: Some(url.to_owned()), ..ReplicaKeys::default() };
    from_keys(&keys, &RootKeys::default())
}

/// A replica of the configuration file.
pub(super) fn from_keys(keys: &ReplicaKeys, root: &RootKeys) -> Result<ReplicaConfig, ConfigError> {
    if let Some(age) = keys.age.as_ref().or(root.age.as_ref()) {
        return Err(ConfigError::new("age encryption is not currently supported").at(age));
    }
    if let Some(path) = keys.path.as_deref().filter(|path| is_url(path)) {
        let message = format!("replica path cannot be a url, please use the 'url' field instead: {path}");
        return Err(ConfigError::new(message));
    }
    let from_url = keys.url.as_deref().map(parse_url).transpose()?;
    let kind = kind(keys, from_url.as_ref())?;
    // A path or bucket in two places would have to mean the same, so the peer refuses it; NATS URLs may lack a bucket.
    for (name, given) in [("path", keys.path.is_some()), ("bucket", keys.bucket.is_some() && kind != "nats")]
    {
        if from_url.is_some() && given {
            return Err(ConfigError::new(format!("cannot specify url & {name} for {kind} replica")));
        }
    }
    let replica = match from_url {
        Some(replica) => replica,
        None => empty(kind, keys),
    };
    complete(replica, Layers { keys, root })
}

/// What kind of replica this is: its URL says it, or its type.
pub(super) fn kind(
    keys: &ReplicaKeys,
    from_url: Option<&ReplicaConfig>,
) -> Result<&'static str, ConfigError> {
    let Some(replica) = from_url else {
        let wanted = keys.r#type.as_deref().unwrap_or("file");
        return KINDS.into_iter().find(|kind| *kind == wanted).ok_or_else(|| unknown_kind(wanted));
    };
    Ok(replica.kind())
}

fn unknown_kind(kind: &str) -> ConfigError {
    ConfigError::new(format!("unknown replica type in config: {kind:?}"))
        .hint(format!("supported are {}", KINDS.join(", ")))
}

fn parse_url(url: &str) -> Result<ReplicaConfig, ConfigError> {
    match url.split_once("://") {
        Some((scheme, _)) if is_url(url) => {
            let kind = scheme.to_ascii_lowercase();
            if kind != "webdavs" && !KINDS.contains(&kind.as_str()) {
                return Err(unknown_kind(&kind));
            }
        }
        _ => {
            return Err(ConfigError::new(format!("{url:?} is not a replica URL"))
                .hint("write it like file:///backup/app or s3://bucket/app"));
        }
    }
    url.parse::<ReplicaConfig>().map_err(|error| ConfigError::new(error.to_string()))
}

/// A replica of which only the keys say where it is.
fn empty(kind: &str, keys: &ReplicaKeys) -> ReplicaConfig {
    let path = keys.path.clone();
    match kind {
        "s3" => ReplicaConfig::S3(objects::s3_at(path)),
        "gs" => ReplicaConfig::Gcs(objects::gcs_at(path)),
        "abs" => ReplicaConfig::Azure(objects::azure_at(path)),
        "oss" => ReplicaConfig::Oss(objects::oss_at(path)),
        "sftp" => ReplicaConfig::Sftp(servers::sftp_at(path)),
        "webdav" => ReplicaConfig::WebDav(servers::webdav_at(path)),
        "nats" => ReplicaConfig::Nats(servers::nats_at(path)),
        _ => ReplicaConfig::File(file::at(path)),
    }
}

/// Fills in what the URL leaves open, and refuses what cannot work.
fn complete(replica: ReplicaConfig, layers: Layers<'_>) -> Result<ReplicaConfig, ConfigError> {
    Ok(match replica {
        ReplicaConfig::File(file) => ReplicaConfig::File(file::complete(file)?),
        ReplicaConfig::S3(s3) => ReplicaConfig::S3(objects::s3(s3, layers)?),
        ReplicaConfig::Gcs(gcs) => ReplicaConfig::Gcs(objects::gcs(gcs, layers)?),
        ReplicaConfig::Azure(azure) => ReplicaConfig::Azure(objects::azure(azure, layers)?),
        ReplicaConfig::Oss(oss) => ReplicaConfig::Oss(objects::oss(oss, layers)?),
        ReplicaConfig::Sftp(sftp) => ReplicaConfig::Sftp(servers::sftp(sftp, layers)?),
        ReplicaConfig::WebDav(webdav) => ReplicaConfig::WebDav(servers::webdav(webdav, layers)?),
        ReplicaConfig::Nats(nats) => ReplicaConfig::Nats(servers::nats(nats, layers)?),
    })
}

/// A setting without which the replica cannot be found, in the peer's words.
fn require(value: &Option<String>, name: &str, kind: &str) -> Result<(), ConfigError> {
    match value.as_deref() {
        None | Some("") => Err(ConfigError::new(format!("{name} required for {kind} replica"))),
        Some(_) => Ok(()),
    }
}

fn secret(text: Option<String>) -> Option<Secret> {
    text.map(Secret::new)
}

#[cfg(test)]
mod tests {
    use walstream_storage::S3Config;

    use super::*;

    fn s3(replica: ReplicaConfig) -> S3Config {
        match replica {
            ReplicaConfig::S3(s3) => s3,
            other => panic!("not s3: {other:?}"),
        }
    }

    #[test]
    fn a_key_wins_over_the_url_and_the_url_over_the_top_level() {
        let root = RootKeys {
            region: Some("root".to_owned()),
            endpoint: Some("root.example".to_owned()),
            storage_class: Some("root".to_owned()),
            bucket: Some("ignored: the URL names one".to_owned()),
            ..RootKeys::default()
        };
        let keys = ReplicaKeys {
            url: Some("s3://bucket/a/b?region=url&endpoint=url.example".to_owned()),
            region: Some("key".to_owned()),
            ..ReplicaKeys::default()
        };
        let s3 = s3(from_keys(&keys, &root).unwrap());
        assert_eq!((s3.bucket.as_deref(), s3.path.as_deref()), (Some("bucket"), Some("a/b")));
        assert_eq!(s3.region.as_deref(), Some("key"));
        assert_eq!(s3.endpoint.as_deref(), Some("https://url.example"));
        assert_eq!(s3.storage_class.as_deref(), Some("root"));
    }

    #[test]
    fn every_store_takes_its_keys() {
        let replica = |text: &str| {
            let keys: ReplicaKeys = serde_yaml::from_str(text).unwrap();
            assert_eq!(keys.foreign(kind(&keys, None).unwrap()), Vec::<String>::new(), "{text}");
            from_keys(&keys, &RootKeys::default()).unwrap()
        };
        insta::assert_debug_snapshot!([
            "{type: s3, bucket: b, sse: AES256, headers: {x-a: b}, tags: {k: v}, request-payer: true}",
            "{type: gs, bucket: b, path: /p, endpoint: 'https://h'}",
            "{type: abs, bucket: b, path: p, account-name: n, account-key: k, sas-token: t, endpoint: 'http://h'}",
            "{type: oss, bucket: b, path: p, region: r, endpoint: e, access-key-id: i, secret-access-key: s, \
              part-size: 6MiB, concurrency: 2, headers: {x-a: b}}",
            "{type: sftp, host: 'h:1', user: u, password: p, key-path: /k, host-key: ssh-ed25519 AAAA, \
              accept-unknown-host-key: no, concurrent-writes: false, path: /p}",
            "{type: webdav, webdav-url: 'https://h', webdav-username: u, webdav-password: p, path: /p}",
            "{type: nats, bucket: b, jwt: j, seed: s, creds: /c, nkey: k, username: u, password: p, token: t, \
              tls: true, root-cas: [/a, /b], client-cert: /c, client-key: /k, max-reconnects: -1, \
              reconnect-wait: 3s, timeout: 4s}",
        ]
        .map(replica));
    }

    #[test]
    fn keys_of_other_stores_are_named() {
        let keys: ReplicaKeys = serde_yaml::from_str("{type: gs, bucket: b, host: h, sas-token: t}").unwrap();
        assert_eq!(keys.foreign("gs"), ["sas-token", "host"]);
    }
}
