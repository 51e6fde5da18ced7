//! Who we are to Google: its "application default credentials", in its own order.
//!
//! Invariant: the first source that says anything is taken. What it says and cannot be used is an error, and never a
//! reason to be somebody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::gcp::{GcpCredential, GcpCredentialProvider, GoogleCloudStorageBuilder, ServiceAccountKey};

use crate::cloud::Guarded;
use crate::error::StorageError;

const NAMED: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Written by `gcloud auth application-default login`.
const WELL_KNOWN: &str = "application_default_credentials.json";

/// Where the tokens come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nowhere: an emulator asks for none.
    None,
    /// A file with the key of a service account, or with what `gcloud` got for a user.
    File(PathBuf),
    /// The service account of the machine, pod or function that we run on.
    Metadata,
}

impl Credentials {
    /// The first of: the file that the environment names, the file of `gcloud`, the metadata server.
    pub(super) fn find(env: &dyn Fn(&str) -> Option<String>) -> Result<Self, StorageError> {
        if let Some(path) = env(NAMED).map(PathBuf::from) {
            check(&path)?;
            return Ok(Credentials::File(path));
        }
        let folder = env("CLOUDSDK_CONFIG").map(PathBuf::from);
        let folder = folder.or_else(|| Some(Path::new(&env("HOME")?).join(".config/gcloud")));
        match folder.map(|folder| folder.join(WELL_KNOWN)).filter(|path| path.exists()) {
            Some(path) => check(&path).map(|()| Credentials::File(path)),
            None => Ok(Credentials::Metadata),
        }
    }

    /// Hands the source to `object_store`.
    pub(super) fn configure(&self, builder: GoogleCloudStorageBuilder) -> GoogleCloudStorageBuilder {
        match self {
            Credentials::None => {
                let nobody = GcpCredential { bearer: String::new() };
                builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)))
            }
            Credentials::File(path) => builder.with_application_credentials(path.to_string_lossy()),
            Credentials::Metadata => builder,
        }
    }

    /// The source, with a deadline and an error that a person understands where it is not a file.
    pub(super) fn guard(&self, inner: GcpCredentialProvider) -> GcpCredentialProvider {
        match self {
            Credentials::None | Credentials::File(_) => inner,
            Credentials::Metadata => Arc::new(Guarded::new(
                inner,
                "GCS",
                format!(
                    "no Google credentials: none are set and this machine's metadata server gave none; \
                     set {NAMED} to the key file of a service account"
                ),
            )),
        }
    }
}

/// Whether the file holds credentials that can be used here.
fn check(path: &Path) -> Result<(), StorageError> {
    let text = std::fs::read(path).map_err(StorageError::io("read Google credentials", path))?;
    let unusable = |reason: String| {
        let path = path.display();
        StorageError::Config(format!(
            "{path} {reason}; supported are the key of a service account and what gcloud auth application-default login writes"
        ))
    };
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|_| unusable("holds no Google credentials".to_owned()))?;
    match json["type"].as_str() {
        Some("authorized_user") => Ok(()),
        Some("service_account") => {
            let key = json["private_key"].as_str().unwrap_or_default();
            let checked = ServiceAccountKey::from_pem(key.as_bytes()).map(drop);
            checked.map_err(|_| unusable("holds no private key that can be used".to_owned()))
        }
        Some(kind) => Err(unusable(format!("holds Google credentials of type {kind:?}"))),
        None => Err(unusable("holds no Google credentials".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &Path)]) -> Result<Credentials, StorageError> {
        let env = |name: &str| {
            let known = variables.iter().find(|(known, _)| *known == name);
            known.map(|(_, value)| value.to_string_lossy().into_owned())
        };
        Credentials::find(&env)
    }

    #[test]
    fn the_nearest_source_wins() {
        let home = tempfile::tempdir().unwrap();
        let named = home.path().join("key.json");
        std::fs::write(&named, r#"{"type": "authorized_user"}"#).unwrap();
        let well_known = home.path().join(".config/gcloud").join(WELL_KNOWN);
        let variables = [(NAMED, named.as_path()), ("HOME", home.path())];
        assert_eq!(find(&variables[1..]).unwrap(), Credentials::Metadata);

        std::fs::create_dir_all(well_known.parent().unwrap()).unwrap();
        std::fs::write(&well_known, r#"{"type": "authorized_user"}"#).unwrap();
        assert_eq!(find(&variables[1..]).unwrap(), Credentials::File(well_known));
        assert_eq!(find(&variables).unwrap(), Credentials::File(named));
        assert_eq!(find(&[]).unwrap(), Credentials::Metadata);
    }

    #[test]
    fn what_cannot_be_used_is_never_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        for (text, sentence) in [
            (
                r#"{"type": "external_account"}"#,
                "holds Google credentials of type \"external_account\"; supported are",
            ),
            (
                r#"{"type": "service_account", "private_key": "-----BEGIN"}"#,
                "holds no private key that can be used; supported are",
            ),
            ("{}", "holds no Google credentials; supported are"),
            ("-----BEGIN", "holds no Google credentials; supported are"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = find(&[(NAMED, &path)]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{} {sentence}", path.display())), "{error}");
        }
        let missing = find(&[(NAMED, &folder.path().join("none"))]).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read Google credentials"), "{missing}");
    }
}
