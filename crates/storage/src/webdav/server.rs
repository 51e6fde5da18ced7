//! One WebDAV server and who logs in there. All replicas on it share this.
//!
//! Invariant: the password is in one header of each request and in no text.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use url::Url;

use crate::config::WebDavConfig;
use crate::error::StorageError;
use crate::in_use::InUse;
use crate::secret::Secret;

/// A server that is shared by the replicas on it.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) base: Url,
    pub(super) http: reqwest::Client,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
    /// Whether it takes the target of a rename only without scheme and host.
    pub(super) wants_paths: AtomicBool,
}

impl Server {
    /// The server of a configuration: the one in use already, if another replica has the same login there.
    pub(super) fn shared(config: &WebDavConfig) -> Result<Arc<Self>, StorageError> {
        static IN_USE: InUse<WebDavConfig, Server> = InUse::none();
        let login = WebDavConfig { path: None, ..config.clone() };
        IN_USE.get(login, || Server::new(config))
    }

    fn new(config: &WebDavConfig) -> Result<Self, StorageError> {
        let (base, login) = parse_base(config.url.as_deref().unwrap_or_default())?;
        let said = config.username.clone().filter(|name| !name.is_empty());
        let (username, password) = match (said, login) {
            (Some(name), _) => (Some(name), config.password.clone()),
            (None, Some((name, password))) => (Some(name), config.password.clone().or(password)),
            (None, None) => (None, None),
        };
        let http = crate::http::client()
            .map_err(|error| StorageError::Config(format!("cannot set up an HTTP client: {error}")))?;
        Ok(Server { base, http, username, password, wants_paths: AtomicBool::new(false) })
    }

    /// The URL of a folder or file, given its decoded path below the base.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/').filter(|segment| !segment.is_empty()));
        }
        url
    }

    /// The same, with the slash at its end without which some servers take it for a file.
    pub(super) fn folder_url(&self, path: &str) -> Url {
        let mut url = self.url(path);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("");
        }
        url
    }

    /// How messages speak of a path below the base.
    pub(super) fn location(&self, path: &str) -> String {
        // The scheme of the replica URL; `set_scheme` would refuse the change.
        let url = self.url(path);
        let rest = url.as_str().trim_start_matches(url.scheme()).trim_end_matches('/');
        format!("{}{rest}", if url.scheme() == "https" { "webdavs" } else { "webdav" })
    }

    /// The server, as messages name it.
    pub(super) fn name(&self) -> String {
        let port = self.base.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{}{port}", self.base.scheme(), self.base.host_str().unwrap_or_default())
    }
}

type Login = Option<(String, Option<Secret>)>;

/// The base of all URLs, and the login that it brings.
fn parse_base(text: &str) -> Result<(Url, Login), StorageError> {
    // Not the text itself, which may hold a password.
    let wrong = |reason: &str| {
        StorageError::Config(format!(
            "invalid webdav-url: {reason}; expected something like https://cloud.example.com/dav"
        ))
    };
    let mut url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("only http:// and https:// with a host are possible"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it takes no parameters"));
    }
    let decode = |text: &str| {
        crate::url::percent_decode(text).ok_or_else(|| wrong("invalid % escape; a % itself is written %25"))
    };
    let password = url.password().map(decode).transpose()?.map(Secret::new);
    let login = (!url.username().is_empty()).then(|| decode(url.username())).transpose()?;
    // They only fail for URLs without a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok((url, login.map(|name| (name, password))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server::new(&WebDavConfig { url: Some(url.into()), ..WebDavConfig::default() }).unwrap()
    }

    #[test]
    fn urls_are_escaped_and_folders_end_with_a_slash() {
        for (base, path, url, folder) in [
            ("http://h", "ltx/0", "http://h/ltx/0", "http://h/ltx/0/"),
            (
                "https://h:8443/dav/",
                "a b/ltx/0",
                "https://h:8443/dav/a%20b/ltx/0",
                "https://h:8443/dav/a%20b/ltx/0/",
            ),
            (
                "http://h/x%20y",
                "50%/ü?#",
                "http://h/x%20y/50%25/%C3%BC%3F%23",
                "http://h/x%20y/50%25/%C3%BC%3F%23/",
            ),
            ("http://h", "", "http://h/", "http://h/"),
        ] {
            let server = server(base);
            assert_eq!((server.url(path).as_str(), server.folder_url(path).as_str()), (url, folder));
        }
    }

    #[test]
    fn a_login_in_the_url_is_used_and_never_shown() {
        let server = server("https://me:p%40ss@cloud.example/dav");
        assert_eq!((server.username.as_deref(), &server.password), (Some("me"), &Some(Secret::new("p@ss"))));
        assert_eq!(server.location("app"), "webdavs://cloud.example/dav/app");
        assert_eq!(server.name(), "https://cloud.example");
        assert!(!format!("{server:?}").contains("p@ss") && !format!("{server:?}").contains("p%40ss"));
    }

    #[test]
    fn what_is_no_base_is_refused_without_repeating_it() {
        for text in [
            "",
            "cloud.example",
            "ftp://me:hunter2@h",
            "https://me:hunter2@h/?x=1",
            "https://me:hunter2%zz@h",
        ] {
            let config = WebDavConfig { url: Some(text.into()), ..WebDavConfig::default() };
            let error = Server::new(&config).unwrap_err().to_string();
            assert!(error.starts_with("invalid webdav-url: ") && !error.contains("hunter2"), "{error}");
        }
    }
}
