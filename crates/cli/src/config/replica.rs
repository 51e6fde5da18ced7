//! From the keys of a replica, or from a URL, to where the files go.
//!
//! Precedence: a key of the replica, then the URL, then a default from the top level of the file.

use std::ffi::OsStr;
use std::path::Path;

use walstream_storage::{FileConfig, ReplicaConfig, S3Config, Secret, is_url};

use super::keys::{ReplicaKeys, RootKeys};
use super::{ConfigError, expand_path};

/// Stores of the peer that are not here yet.
const LATER: [&str; 8] = ["gs", "gcs", "abs", "sftp", "webdav", "webdavs", "nats", "oss"];

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
    let kind = match &from_url {
        Some(replica) => kind_of(replica),
        None => keys.r#type.as_deref().unwrap_or("file"),
    };
    check_kind(kind)?;
    if let Some((name, mark)) = keys.foreign() {
        let message = format!("{name:?} is a setting of another type of replica, and this one is {kind:?}");
        return Err(ConfigError::new(message).at(mark));
    }
    for (name, given) in [("path", keys.path.is_some()), ("bucket", keys.bucket.is_some())] {
        if from_url.is_some() && given {
            return Err(ConfigError::new(format!("cannot specify url & {name} for {kind} replica")));
        }
    }
    match from_url {
        Some(ReplicaConfig::File(file)) => complete_file(file),
        Some(ReplicaConfig::S3(s3)) => complete_s3(lay_over(s3, keys, root)?),
        None if kind == "file" => file(keys),
        None => {
            let path = keys.path.as_deref().map(|path| path.trim_start_matches('/').to_owned());
            let bucket = keys.bucket.clone().or_else(|| root.bucket.clone());
            complete_s3(lay_over(S3Config { bucket, path, ..S3Config::default() }, keys, root)?)
        }
    }
}

/// The type of a replica, as the configuration file calls it.
pub(crate) fn kind_of(replica: &ReplicaConfig) -> &'static str {
    match replica {
        ReplicaConfig::File(_) => "file",
        ReplicaConfig::S3(_) => "s3",
    }
}

/// What two replicas have in common that would write over each other's files.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Place<'a> {
    File(Option<&'a Path>),
    S3 { bucket: Option<&'a str>, path: Option<&'a str>, endpoint: Option<&'a str> },
}

/// Where a replica is.
pub(super) fn place_of(replica: &ReplicaConfig) -> Place<'_> {
    match replica {
        ReplicaConfig::File(file) => Place::File(file.path.as_deref()),
        ReplicaConfig::S3(s3) => Place::S3 {
            bucket: s3.bucket.as_deref(),
            path: s3.path.as_deref(),
            endpoint: s3.endpoint.as_deref(),
        },
    }
}

fn parse_url(url: &str) -> Result<ReplicaConfig, ConfigError> {
    match url.split_once("://") {
        Some((scheme, _)) if is_url(url) => check_kind(&scheme.to_ascii_lowercase())?,
        _ => {
            return Err(ConfigError::new(format!("{url:?} is not a replica URL"))
                .hint("write it like file:///backup/app or s3://bucket/app"));
        }
    }
    url.parse::<ReplicaConfig>().map_err(|error| ConfigError::new(error.to_string()))
}

fn check_kind(kind: &str) -> Result<(), ConfigError> {
    match kind {
        "file" | "s3" => Ok(()),
        later if LATER.contains(&later) => {
            Err(ConfigError::new(format!("replica type {later:?} is not supported yet"))
                .hint("supported are file and s3"))
        }
        other => Err(ConfigError::new(format!("unknown replica type in config: {other:?}"))
            .hint("supported are file and s3")),
    }
}

fn file(keys: &ReplicaKeys) -> Result<ReplicaConfig, ConfigError> {
    complete_file(FileConfig { path: keys.path.clone().map(Into::into), access: None })
}

fn complete_file(mut file: FileConfig) -> Result<ReplicaConfig, ConfigError> {
    let path = file.path.filter(|path| !path.as_os_str().is_empty());
    let path = path.ok_or_else(|| ConfigError::new("file replica path required"))?;
    file.path = Some(expand_path(path.as_os_str())?);
    Ok(ReplicaConfig::File(file))
}

fn complete_s3(s3: S3Config) -> Result<ReplicaConfig, ConfigError> {
    if s3.bucket.as_deref().is_none_or(str::is_empty) {
        return Err(ConfigError::new("bucket required for s3 replica"));
    }
    Ok(ReplicaConfig::S3(s3))
}

/// The replica's keys over the URL over the top level's keys.
fn lay_over(url: S3Config, keys: &ReplicaKeys, root: &RootKeys) -> Result<S3Config, ConfigError> {
    macro_rules! pick {
        ($key:ident) => {
            keys.$key.clone().or(url.$key).or_else(|| root.$key.clone())
        };
    }
    let key_file = keys.sse_customer_key_path.as_ref().or(root.sse_customer_key_path.as_ref());
    Ok(S3Config {
        region: pick!(region),
        endpoint: pick!(endpoint),
        access_key_id: pick!(access_key_id),
        secret_access_key: secret(&keys.secret_access_key)
            .or(url.secret_access_key)
            .or_else(|| secret(&root.secret_access_key)),
        force_path_style: pick!(force_path_style),
        sign_payload: pick!(sign_payload),
        require_content_md5: pick!(require_content_md5),
        skip_verify: pick!(skip_verify),
        storage_class: pick!(storage_class),
        part_size: keys.part_size.map(|size| size.0).or(url.part_size).or(root.part_size.map(|size| size.0)),
        concurrency: (keys.concurrency.map(|n| n as usize))
            .or(url.concurrency)
            .or(root.concurrency.map(|n| n as usize)),
        sse_customer_algorithm: pick!(sse_customer_algorithm),
        sse_customer_key: secret(&keys.sse_customer_key)
            .or(url.sse_customer_key)
            .or_else(|| secret(&root.sse_customer_key)),
        sse_customer_key_path: match key_file {
            Some(path) => Some(expand_path(OsStr::new(path))?),
            None => url.sse_customer_key_path,
        },
        sse_kms_key_id: pick!(sse_kms_key_id),
        bucket: url.bucket,
        path: url.path,
    })
}

fn secret(text: &Option<String>) -> Option<Secret> {
    text.clone().map(Secret::new)
}

/// The replica of a database that was found at `relative` below a directory entry.
pub(super) fn below(replica: &ReplicaConfig, relative: &Path) -> ReplicaConfig {
    let mut replica = replica.clone();
    match &mut replica {
        ReplicaConfig::File(file) => file.path = file.path.take().map(|path| path.join(relative)),
        ReplicaConfig::S3(s3) => {
            let prefix = s3.path.take().unwrap_or_default();
            let relative = relative.to_string_lossy();
            s3.path = Some(match prefix.trim_end_matches('/') {
                "" => relative.into_owned(),
                prefix => format!("{prefix}/{relative}"),
            });
        }
    }
    replica
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn s3(replica: ReplicaConfig) -> S3Config {
        match replica {
            ReplicaConfig::S3(s3) => s3,
            ReplicaConfig::File(_) => panic!("not s3"),
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
    fn a_database_below_a_directory_has_a_replica_below() {
        let relative = Path::new("x/app.db");
        let file = from_url("file:///backup").unwrap();
        let ReplicaConfig::File(file) = below(&file, relative) else { panic!() };
        assert_eq!(file.path.as_deref(), Some(Path::new("/backup/x/app.db")));
        for (url, path) in [("s3://b/p", "p/x/app.db"), ("s3://b", "x/app.db")] {
            assert_eq!(s3(below(&from_url(url).unwrap(), relative)).path.as_deref(), Some(path));
        }
    }
}
