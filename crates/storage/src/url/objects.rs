//! `gs://bucket/path`, `abs://account@container/path`, `oss://bucket/path`.

use super::{authority, bad};
use crate::config::{AzureConfig, GcsConfig, OssConfig};
use crate::error::StorageError;
use crate::layout::clean_path;

pub(super) fn parse_gcs(url: &str, rest: &str) -> Result<GcsConfig, StorageError> {
    let (authority, path) = authority::split(url, rest)?;
    let bucket = named(url, authority.host, "no bucket given, expected gs://BUCKET/PATH")?;
    Ok(GcsConfig { bucket, path: Some(clean_path(&path)), ..GcsConfig::default() })
}

pub(super) fn parse_azure(url: &str, rest: &str) -> Result<AzureConfig, StorageError> {
    let (authority, path) = authority::split(url, rest)?;
    let bucket = named(url, authority.host, "no container given, expected abs://ACCOUNT@CONTAINER/PATH")?;
    let path = Some(clean_path(&path));
    Ok(AzureConfig { account_name: authority.user, bucket, path, ..AzureConfig::default() })
}

/// The host may be the bucket's own name on the server: `bucket.oss-cn-beijing.aliyuncs.com`.
pub(super) fn parse_oss(url: &str, rest: &str) -> Result<OssConfig, StorageError> {
    let (authority, path) = authority::split(url, rest)?;
    let regional = authority.host.strip_suffix(".aliyuncs.com").and_then(|front| front.rsplit_once(".oss-"));
    let (bucket, region) = match regional {
        Some((bucket, region)) => {
            let region = region.strip_suffix("-internal").unwrap_or(region);
            (bucket.to_owned(), Some(region.to_owned()))
        }
        None => (authority.host, None),
    };
    let bucket = named(url, bucket, "no bucket given, expected oss://BUCKET/PATH")?;
    Ok(OssConfig { bucket, region, path: Some(clean_path(&path)), ..OssConfig::default() })
}

fn named(url: &str, bucket: String, otherwise: &str) -> Result<Option<String>, StorageError> {
    if bucket.is_empty() { Err(bad(url, otherwise)) } else { Ok(Some(bucket)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_paths_are_found() {
        let gcs = parse_gcs("gs://b/a//b c/", "b/a//b%20c/").unwrap();
        assert_eq!((gcs.bucket.as_deref(), gcs.path.as_deref()), (Some("b"), Some("a/b c")));
        let azure = parse_azure("abs://acc@con/p", "acc@con/p").unwrap();
        assert_eq!((azure.account_name.as_deref(), azure.bucket.as_deref()), (Some("acc"), Some("con")));
        assert_eq!(parse_azure("abs://con", "con").unwrap().account_name, None);
    }

    #[test]
    fn a_bucket_of_oss_may_name_its_region() {
        for (rest, bucket, region) in [
            ("b/p", "b", None),
            ("b.oss-cn-beijing.aliyuncs.com/p", "b", Some("cn-beijing")),
            ("b.oss-cn-beijing-internal.aliyuncs.com/p", "b", Some("cn-beijing")),
            ("my.bucket/p", "my.bucket", None),
        ] {
            let oss = parse_oss("", rest).unwrap();
            assert_eq!((oss.bucket.as_deref(), oss.region.as_deref()), (Some(bucket), region), "{rest}");
            assert_eq!(oss.path.as_deref(), Some("p"));
        }
    }
}
