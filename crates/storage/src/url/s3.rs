//! `s3://bucket/path?endpoint=…`, and the providers' own spellings of the host.

use ::url::form_urlencoded;

use super::{bad, is_url, percent_decode};
use crate::config::S3Config;
use crate::error::StorageError;
use crate::layout::clean_path;
use crate::secret::Secret;

pub(super) fn parse(url: &str, rest: &str) -> Result<S3Config, StorageError> {
    if rest.contains('#') {
        return Err(bad(url, "a # in the name must be written as %23"));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut config, path) = match place.get(..4) {
        Some(arn) if arn.eq_ignore_ascii_case("arn:") => split_access_point(url, place)?,
        _ => {
            let (host, path) = place.split_once('/').unwrap_or((place, ""));
            if host.contains('@') {
                return Err(bad(
                    url,
                    "credentials do not belong into the URL; use access-key-id and secret-access-key",
                ));
            }
            let path = percent_decode(path).ok_or_else(|| bad(url, "invalid % escape in the path"))?;
            (config_of_host(host), path)
        }
    };
    config.path = Some(clean_path(&path));
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        apply_parameter(&mut config, &key, &value).map_err(|reason| bad(url, &reason))?;
    }
    Ok(config)
}

/// `arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME[/path]`
fn split_access_point(url: &str, place: &str) -> Result<(S3Config, String), StorageError> {
    let expected = "expected s3://arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME[/PATH]";
    let (_, after) = place.split_once(":accesspoint/").ok_or_else(|| bad(url, expected))?;
    let (name, path) = after.split_once('/').unwrap_or((after, ""));
    let region = place.split(':').nth(3).filter(|region| !region.is_empty());
    if name.is_empty() || region.is_none() {
        return Err(bad(url, expected));
    }
    let arn = &place[..place.len() - after.len() + name.len()];
    let config =
        S3Config { bucket: Some(arn.to_owned()), region: region.map(str::to_owned), ..S3Config::default() };
    Ok((config, path.to_owned()))
}

/// What the host of an S3 URL says: usually just the bucket, else one of the providers' own spellings.
fn config_of_host(authority: &str) -> S3Config {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, Some(port)),
        _ => (authority, None),
    };
    let at = |scheme: &str, host: &str| match port {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    };
    let served_by = |bucket: &str, region: &str, endpoint: String| S3Config {
        bucket: (!bucket.is_empty()).then(|| bucket.to_owned()),
        region: Some(region.to_owned()),
        endpoint: Some(endpoint),
        force_path_style: Some(true),
        ..S3Config::default()
    };
    // `BUCKET.s3.REGION.backblazeb2.com` and its likes: the region is the last label before the suffix.
    let regional = |suffix: &str, service: &str| {
        let (front, region) = host.strip_suffix(suffix)?.rsplit_once('.')?;
        let bucket = front.strip_suffix(service)?.strip_suffix('.')?;
        Some((bucket.to_owned(), region.to_owned()))
    };

    if host == "localhost" || host.ends_with(".localhost") {
        let bucket = host.strip_suffix(".localhost").unwrap_or_default();
        return served_by(bucket, "us-east-1", at("http", "localhost"));
    }
    if let Some((bucket, region)) = regional(".backblazeb2.com", "s3") {
        return served_by(&bucket, &region, at("https", &format!("s3.{region}.backblazeb2.com")));
    }
    if let Some((bucket, region)) = regional(".scw.cloud", "s3") {
        return served_by(&bucket, &region, at("https", &format!("s3.{region}.scw.cloud")));
    }
    if let Some(bucket) = host.strip_suffix(".s3.filebase.com") {
        return served_by(bucket, "us-east-1", at("https", "s3.filebase.com"));
    }
    if let Some((bucket, region)) =
        host.strip_suffix(".digitaloceanspaces.com").and_then(|front| front.rsplit_once('.'))
    {
        return served_by(bucket, region, at("https", &format!("{region}.digitaloceanspaces.com")));
    }
    if let Some((bucket, region)) = regional(".amazonaws.com", "s3") {
        return S3Config { bucket: Some(bucket), region: Some(region), ..S3Config::default() };
    }
    if let Some(bucket) = host.strip_suffix(".s3.amazonaws.com") {
        return S3Config { bucket: Some(bucket.to_owned()), ..S3Config::default() };
    }
    match (port, host.split_once('.')) {
        (Some(_), Some((bucket, server))) if !host.contains(".com") && !is_ipv4(host) => {
            served_by(bucket, "us-east-1", at("http", server))
        }
        (Some(_), _) => served_by("", "us-east-1", at("http", host)),
        (None, _) => S3Config { bucket: (!host.is_empty()).then(|| host.to_owned()), ..S3Config::default() },
    }
}

fn is_ipv4(host: &str) -> bool {
    host.parse::<std::net::Ipv4Addr>().is_ok()
}

/// Every query parameter of an S3 URL, in both of the peer's spellings.
const PARAMETERS: &str = "endpoint, region, forcePathStyle, skipVerify, signPayload, requireContentMD5, \
                          storageClass, partSize, concurrency, sseCustomerAlgorithm, sseCustomerKey, sseKmsKeyId";

fn apply_parameter(config: &mut S3Config, key: &str, value: &str) -> Result<(), String> {
    let text = || Some(value.to_owned()).filter(|value| !value.is_empty());
    let switch = || parse_bool(value).ok_or_else(|| format!("{key} must be true or false, not {value:?}"));
    let number = || match value.parse::<u64>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{key} must be a positive whole number, not {value:?}")),
    };
    match key {
        "endpoint" => config.endpoint = text().map(|endpoint| with_scheme(&endpoint)),
        "region" => config.region = text(),
        "forcePathStyle" | "force-path-style" => config.force_path_style = Some(switch()?),
        "skipVerify" | "skip-verify" => config.skip_verify = Some(switch()?),
        "signPayload" | "sign-payload" => config.sign_payload = Some(switch()?),
        "requireContentMD5" | "require-content-md5" => config.require_content_md5 = Some(switch()?),
        "storageClass" | "storage-class" => config.storage_class = text(),
        "partSize" | "part-size" => config.part_size = Some(number()?),
        "concurrency" => config.concurrency = Some(usize::try_from(number()?).unwrap_or(usize::MAX)),
        "sseCustomerAlgorithm" | "sse-customer-algorithm" => config.sse_customer_algorithm = text(),
        "sseCustomerKey" | "sse-customer-key" => config.sse_customer_key = text().map(Secret::from),
        // The digest follows from the key; the peer lets it be given, so it is no mistake.
        "sseCustomerKeyMD5" | "sse-customer-key-md5" => {}
        "sseKmsKeyId" | "sse-kms-key-id" => config.sse_kms_key_id = text(),
        _ => return Err(format!("unknown parameter {key:?}; known are {PARAMETERS}")),
    }
    Ok(())
}

fn parse_bool(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" | "yes" => Some(true),
        "false" | "0" | "f" | "no" => Some(false),
        _ => None,
    }
}

/// An endpoint of a URL: plain HTTP for servers on this machine or in a private network, else HTTPS.
pub fn with_scheme(endpoint: &str) -> String {
    if is_url(endpoint) {
        return endpoint.to_owned();
    }
    let host = endpoint.split([':', '/']).next().unwrap_or_default().to_ascii_lowercase();
    let private_address =
        host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback() || ip.is_private());
    let local_name = host == "localhost" || host.ends_with(".local") || host.ends_with(".localhost");
    let scheme = if private_address || local_name { "http" } else { "https" };
    format!("{scheme}://{endpoint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ReplicaConfig;

    fn s3(url: &str) -> S3Config {
        match url.parse() {
            Ok(ReplicaConfig::S3(config)) => config,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn a_bucket_is_found_in_every_spelling_of_the_host() {
        // bucket, region, endpoint, path style
        type Row = (&'static str, [Option<&'static str>; 3], Option<bool>);
        let rows: [Row; 11] = [
            ("s3://bkt/db", [Some("bkt"), None, None], None),
            ("s3://my.bucket/db", [Some("my.bucket"), None, None], None),
            ("s3://bkt.s3.amazonaws.com/db", [Some("bkt"), None, None], None),
            ("s3://bkt.s3.eu-west-1.amazonaws.com/db", [Some("bkt"), Some("eu-west-1"), None], None),
            (
                "s3://bkt.nyc3.digitaloceanspaces.com/db",
                [Some("bkt"), Some("nyc3"), Some("https://nyc3.digitaloceanspaces.com")],
                Some(true),
            ),
            (
                "s3://bkt.s3.us-west-000.backblazeb2.com/db",
                [Some("bkt"), Some("us-west-000"), Some("https://s3.us-west-000.backblazeb2.com")],
                Some(true),
            ),
            (
                "s3://bkt.s3.filebase.com/db",
                [Some("bkt"), Some("us-east-1"), Some("https://s3.filebase.com")],
                Some(true),
            ),
            (
                "s3://bkt.s3.fr-par.scw.cloud/db",
                [Some("bkt"), Some("fr-par"), Some("https://s3.fr-par.scw.cloud")],
                Some(true),
            ),
            (
                "s3://bkt.localhost:9000/db",
                [Some("bkt"), Some("us-east-1"), Some("http://localhost:9000")],
                Some(true),
            ),
            (
                "s3://bkt.minio:9000/db",
                [Some("bkt"), Some("us-east-1"), Some("http://minio:9000")],
                Some(true),
            ),
            (
                "s3://127.0.0.1:9000/bkt/db",
                [None, Some("us-east-1"), Some("http://127.0.0.1:9000")],
                Some(true),
            ),
        ];
        for (url, [bucket, region, endpoint], path_style) in rows {
            let config = s3(url);
            assert_eq!(config.bucket.as_deref(), bucket, "{url}");
            assert_eq!(config.region.as_deref(), region, "{url}");
            assert_eq!(config.endpoint.as_deref(), endpoint, "{url}");
            assert_eq!(config.force_path_style, path_style, "{url}");
        }
    }

    #[test]
    fn the_path_is_decoded_and_cleaned() {
        for (url, path) in [
            ("s3://b", ""),
            ("s3://b/", ""),
            ("s3://b/a//c/", "a/c"),
            ("s3://b/a%20b/%C3%BC", "a b/ü"),
            ("s3://b/a/../c?region=x", "c"),
        ] {
            assert_eq!(s3(url).path.as_deref(), Some(path), "{url}");
        }
    }

    #[test]
    fn an_access_point_is_a_bucket() {
        let config =
            s3("s3://arn:aws:s3:us-east-2:123456789012:accesspoint/db-access/backups/prod?partSize=6000000");
        assert_eq!(config.bucket.as_deref(), Some("arn:aws:s3:us-east-2:123456789012:accesspoint/db-access"));
        assert_eq!(config.region.as_deref(), Some("us-east-2"));
        assert_eq!(config.path.as_deref(), Some("backups/prod"));
        assert_eq!(config.part_size, Some(6_000_000));
    }

    #[test]
    fn every_parameter_arrives() {
        let config = s3("s3://b/p?endpoint=minio.local:9000&region=r&forcePathStyle=false&skipVerify=true\
                         &signPayload=no&requireContentMD5=0&storageClass=STANDARD_IA&part-size=8388608\
                         &concurrency=3&sse-customer-key=a%2Bb&sseKmsKeyId=k");
        let expected = S3Config {
            bucket: Some("b".into()),
            path: Some("p".into()),
            region: Some("r".into()),
            endpoint: Some("http://minio.local:9000".into()),
            force_path_style: Some(false),
            skip_verify: Some(true),
            sign_payload: Some(false),
            require_content_md5: Some(false),
            storage_class: Some("STANDARD_IA".into()),
            part_size: Some(8 << 20),
            concurrency: Some(3),
            sse_customer_key: Some(Secret::new("a+b")),
            sse_kms_key_id: Some("k".into()),
            ..S3Config::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn an_endpoint_without_scheme_is_plain_only_nearby() {
        for (endpoint, url) in [
            ("localhost:9000", "http://localhost:9000"),
            ("10.1.2.3", "http://10.1.2.3"),
            ("172.31.0.1:1", "http://172.31.0.1:1"),
            ("172.32.0.1", "https://172.32.0.1"),
            ("s3.example.com", "https://s3.example.com"),
            ("http://s3.example.com", "http://s3.example.com"),
        ] {
            assert_eq!(with_scheme(endpoint), url);
        }
    }
}
