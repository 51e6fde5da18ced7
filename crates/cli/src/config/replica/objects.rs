//! Replicas in object stores: S3, Google Cloud Storage, Azure, OSS.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use walstream_storage::{AzureConfig, GcsConfig, OssConfig, S3Config, Secret};

use super::super::{ConfigError, expand_path};
use super::{Layers, pick, require, secret};

/// Keys have no slash at the beginning.
fn key(path: Option<String>) -> Option<String> {
    path.map(|path| path.trim_start_matches('/').to_owned())
}

pub(super) fn s3_at(path: Option<String>) -> S3Config {
    S3Config { path: key(path), ..S3Config::default() }
}

pub(super) fn gcs_at(path: Option<String>) -> GcsConfig {
    GcsConfig { path: key(path), ..GcsConfig::default() }
}

pub(super) fn azure_at(path: Option<String>) -> AzureConfig {
    AzureConfig { path: key(path), ..AzureConfig::default() }
}

pub(super) fn oss_at(path: Option<String>) -> OssConfig {
    OssConfig { path: key(path), ..OssConfig::default() }
}

pub(super) fn s3(url: S3Config, layers: Layers<'_>) -> Result<S3Config, ConfigError> {
    let Layers { keys, root } = layers;
    let key_file = keys.sse_customer_key_path.as_ref().or(root.sse_customer_key_path.as_ref());
    let s3 = S3Config {
        bucket: bucket(url.bucket, layers),
        path: url.path,
        region: pick!(layers, url.region, region),
        endpoint: pick!(layers, url.endpoint, endpoint),
        access_key_id: pick!(layers, url.access_key_id, access_key_id),
        secret_access_key: secret(pick!(layers, None, secret_access_key)),
        force_path_style: pick!(layers, url.force_path_style, force_path_style),
        sign_payload: pick!(layers, url.sign_payload, sign_payload),
        require_content_md5: pick!(layers, url.require_content_md5, require_content_md5),
        skip_verify: pick!(layers, url.skip_verify, skip_verify),
        storage_class: pick!(layers, url.storage_class, storage_class),
        part_size: part_size(url.part_size, layers),
        concurrency: concurrency(url.concurrency, layers),
        sse_customer_algorithm: pick!(layers, url.sse_customer_algorithm, sse_customer_algorithm),
        sse_customer_key: secret(keys.sse_customer_key.clone())
            .or(url.sse_customer_key)
            .or_else(|| secret(root.sse_customer_key.clone())),
        sse_customer_key_path: match key_file {
            Some(path) => Some(expand_path(OsStr::new(path))?),
            None => url.sse_customer_key_path,
        },
        sse_kms_key_id: pick!(layers, url.sse_kms_key_id, sse_kms_key_id),
        sse: pick!(layers, None, sse),
        headers: headers(layers),
        tags: pick!(layers, None, tags),
        request_payer: pick!(layers, None, request_payer),
    };
    require(&s3.bucket, "bucket", "s3").map(|()| s3)
}

pub(super) fn gcs(url: GcsConfig, layers: Layers<'_>) -> Result<GcsConfig, ConfigError> {
    let gcs = GcsConfig {
        bucket: bucket(url.bucket, layers),
        path: url.path,
        // That of the top level was never meant for Google: Litestream knows no other server here.
        endpoint: layers.keys.endpoint.clone(),
    };
    require(&gcs.bucket, "bucket", "gs").map(|()| gcs)
}

pub(super) fn azure(url: AzureConfig, layers: Layers<'_>) -> Result<AzureConfig, ConfigError> {
    let azure = AzureConfig {
        account_name: pick!(layers, url.account_name, account_name),
        account_key: secret(pick!(layers, None, account_key)),
        sas_token: secret(pick!(layers, None, sas_token)),
        bucket: bucket(url.bucket, layers),
        path: url.path,
        endpoint: pick!(layers, url.endpoint, endpoint),
    };
    require(&azure.bucket, "bucket", "abs").map(|()| azure)
}

pub(super) fn oss(url: OssConfig, layers: Layers<'_>) -> Result<OssConfig, ConfigError> {
    let oss = OssConfig {
        bucket: bucket(url.bucket, layers),
        path: url.path,
        region: pick!(layers, url.region, region),
        endpoint: pick!(layers, url.endpoint, endpoint),
        access_key_id: pick!(layers, None, access_key_id),
        secret_access_key: secret(pick!(layers, None, secret_access_key)),
        part_size: part_size(url.part_size, layers),
        concurrency: concurrency(url.concurrency, layers),
        headers: headers(layers),
    };
    require(&oss.bucket, "bucket", "oss").map(|()| oss)
}

/// A replica with a URL has its bucket from there alone.
pub(super) fn bucket(of_url: Option<String>, layers: Layers<'_>) -> Option<String> {
    match &layers.keys.url {
        Some(_) => of_url,
        None => pick!(layers, of_url, bucket),
    }
}

/// Headers may carry keys, so they are kept like them.
fn headers(layers: Layers<'_>) -> Option<BTreeMap<String, Secret>> {
    let headers = pick!(layers, None, headers);
    headers.map(|headers| headers.into_iter().map(|(name, value)| (name, Secret::new(value))).collect())
}

fn part_size(of_url: Option<u64>, Layers { keys, root }: Layers<'_>) -> Option<u64> {
    keys.part_size.map(|size| size.0).or(of_url).or(root.part_size.map(|size| size.0))
}

fn concurrency(of_url: Option<usize>, Layers { keys, root }: Layers<'_>) -> Option<usize> {
    keys.concurrency.map(|n| n as usize).or(of_url).or(root.concurrency.map(|n| n as usize))
}
