//! What is known of the stores that speak S3, by the host of their endpoint.
//!
//! Invariant: a row only says what differs; whatever the user said wins over it.

use crate::cloud::DEFAULT_CONCURRENCY;

/// How one provider differs from Amazon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Provider {
    /// Name for logs.
    pub(crate) name: &'static str,
    /// Parts under way at once.
    pub(crate) concurrency: usize,
    /// Whether it can delete many objects with one request.
    pub(crate) bulk_delete: bool,
    /// Whether every part but the last must have the same size.
    pub(crate) equal_parts: bool,
    /// Whether a write under a taken name is refused. `None`: not known, so it is tried out once.
    pub(crate) creates_exclusively: Option<bool>,
    /// Whether that is asked for by its header, and not by a condition of HTTP.
    pub(crate) creates_by_header: bool,
    /// Whether it takes requests only with the bucket in the host name.
    pub(crate) virtual_hosted: bool,
    /// A header for every request.
    pub(crate) header: Option<(&'static str, &'static str)>,
}

const DEFAULT: Provider = Provider {
    name: "S3",
    concurrency: DEFAULT_CONCURRENCY,
    bulk_delete: true,
    equal_parts: false,
    creates_exclusively: None,
    creates_by_header: false,
    virtual_hosted: false,
    header: None,
};

/// Amazon itself: no endpoint was given.
pub(crate) const AMAZON: Provider =
    Provider { name: "Amazon S3", creates_exclusively: Some(true), ..DEFAULT };

/// Alibaba Cloud's S3 interface.
pub(crate) const OSS: Provider = Provider {
    name: "Alibaba Cloud OSS",
    concurrency: 3,
    creates_by_header: true,
    virtual_hosted: true,
    // It answers `If-None-Match` with 501. This is for single writes and for the end of a multipart upload; other
    // requests do not look at it.
    header: Some(("x-oss-forbid-overwrite", "true")),
    ..DEFAULT
};

enum Host {
    Is(&'static str),
    EndsWith(&'static str),
}

use Host::{EndsWith, Is};

const TIGRIS: Provider = Provider {
    name: "Tigris",
    bulk_delete: false,
    // Without it a listing may lag behind what was just written.
    header: Some(("x-tigris-consistent", "true")),
    ..DEFAULT
};

const TABLE: &[(Host, Provider)] = &[
    (EndsWith(".amazonaws.com"), AMAZON),
    (EndsWith(".amazonaws.com.cn"), AMAZON),
    (Is("fly.storage.tigris.dev"), TIGRIS),
    (Is("t3.storage.dev"), TIGRIS),
    (
        EndsWith(".r2.cloudflarestorage.com"),
        Provider { name: "Cloudflare R2", concurrency: 2, equal_parts: true, ..DEFAULT },
    ),
    (EndsWith(".your-objectstorage.com"), Provider { name: "Hetzner", ..DEFAULT }),
    (EndsWith(".digitaloceanspaces.com"), Provider { name: "DigitalOcean Spaces", ..DEFAULT }),
    (EndsWith(".scw.cloud"), Provider { name: "Scaleway", ..DEFAULT }),
    (EndsWith(".backblazeb2.com"), Provider { name: "Backblaze B2", ..DEFAULT }),
    (EndsWith(".wasabisys.com"), Provider { name: "Wasabi", ..DEFAULT }),
    (EndsWith(".oraclecloud.com"), Provider { name: "Oracle Cloud", ..DEFAULT }),
    (EndsWith(".linodeobjects.com"), Provider { name: "Akamai", ..DEFAULT }),
    (EndsWith(".min.io"), Provider { name: "MinIO", ..DEFAULT }),
    (EndsWith(".aliyuncs.com"), OSS),
    (EndsWith(".supabase.co"), Provider { name: "Supabase", ..DEFAULT }),
    (Is("s3.filebase.com"), Provider { name: "Filebase", ..DEFAULT }),
    // Its S3 interface has no way to delete many objects at once.
    (Is("storage.googleapis.com"), Provider { name: "Google Cloud Storage", bulk_delete: false, ..DEFAULT }),
    (
        EndsWith(".rep.googleapis.com"),
        Provider { name: "Google Cloud Storage", bulk_delete: false, ..DEFAULT },
    ),
];

/// The provider behind a host name.
pub(crate) fn provider_of(host: &str) -> Provider {
    let host = host.to_ascii_lowercase();
    let known = TABLE.iter().find(|(pattern, _)| match pattern {
        Is(name) => host == *name,
        EndsWith(suffix) => host.ends_with(suffix),
    });
    known.map_or(DEFAULT, |(_, provider)| *provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_known_by_their_host() {
        for (host, name) in [
            ("s3.eu-central-1.amazonaws.com", "Amazon S3"),
            ("fly.storage.tigris.dev", "Tigris"),
            ("abc.r2.cloudflarestorage.com", "Cloudflare R2"),
            ("FRA1.digitaloceanspaces.com", "DigitalOcean Spaces"),
            ("storage.europe-west3.rep.googleapis.com", "Google Cloud Storage"),
            ("s3.eu-central-1.wasabisys.com", "Wasabi"),
            ("ns.compat.objectstorage.eu-frankfurt-1.oraclecloud.com", "Oracle Cloud"),
            ("oss-cn-hangzhou.aliyuncs.com", "Alibaba Cloud OSS"),
            ("project.storage.supabase.co", "Supabase"),
            ("127.0.0.1", "S3"),
            ("evil-amazonaws.com", "S3"),
        ] {
            assert_eq!(provider_of(host).name, name, "{host}");
        }
    }
}
