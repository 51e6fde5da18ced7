//! Whom we trust to say who a server is.
//!
//! Invariant: certificates of the system (`SSL_CERT_FILE`, `SSL_CERT_DIR`, else its usual places) always count. Those
//! that are built in stand in for them only where the system has none at all and nobody said where some are, as in an
//! image that holds nothing but the program.

use std::path::Path;
use std::sync::LazyLock;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::error::StorageError;

type Certificate = CertificateDer<'static>;

/// The certificates that every HTTP client must be given beside those that it takes from the system.
pub(crate) fn built_in_roots() -> &'static [Certificate] {
    static NEEDED: LazyLock<bool> = LazyLock::new(|| {
        let said = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().any(|name| std::env::var_os(name).is_some());
        needs_built_in(said, rustls_native_certs::load_native_certs().certs.len())
    });
    if *NEEDED { webpki_root_certs::TLS_SERVER_ROOT_CERTS } else { &[] }
}

fn needs_built_in(said: bool, of_system: usize) -> bool {
    !said && of_system == 0
}

/// The certificates in a file that the user named, which must hold some.
pub(crate) fn read_bundle(name: &'static str, path: &Path) -> Result<Vec<Certificate>, StorageError> {
    let wrong = |reason: &str| StorageError::Config(format!("{name}: {}: {reason}", path.display()));
    let text = std::fs::read(path).map_err(|error| wrong(&error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(wrong("it holds no certificate in PEM form")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(wrong(&format!("it is no list of certificates in PEM form: {error:?}"))),
    }
}

/// What a user can do about a certificate that was refused; other causes stay as they are.
pub(crate) fn advise(cause: String) -> String {
    match cause.contains("invalid peer certificate: UnknownIssuer") {
        true => {
            format!("{cause}; if the server has an authority of its own, name its file with SSL_CERT_FILE")
        }
        false => cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_roots_are_for_systems_without_any() {
        assert!(needs_built_in(false, 0));
        assert!(!needs_built_in(false, 1), "the system has some");
        assert!(!needs_built_in(true, 0), "what was said must not be replaced by everybody");
        assert!(webpki_root_certs::TLS_SERVER_ROOT_CERTS.len() > 100);
    }

    #[test]
    fn a_bundle_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        for (text, reason) in [("", "no certificate"), ("-----BEGIN CERTIFICATE-----\nx", "no list of")] {
            std::fs::write(&path, text).unwrap();
            let error = read_bundle("AWS_CA_BUNDLE", &path).unwrap_err().to_string();
            assert!(error.starts_with("AWS_CA_BUNDLE: ") && error.contains(reason), "{error}");
        }
        assert!(read_bundle("AWS_CA_BUNDLE", &folder.path().join("none")).is_err());
    }
}
