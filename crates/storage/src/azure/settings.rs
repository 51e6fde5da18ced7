//! From what the user said to what will be done: every default of an Azure replica, in one place.
//!
//! Invariant: [`Settings::resolve`] is a function of the configuration and the environment alone; whatever cannot work
//! is refused here, before any request.

use ::url::Url;

use super::credentials::Credentials;
use crate::config::AzureConfig;
use crate::error::StorageError;
use crate::url::without_secrets;

const ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT_NAME";

/// Everything that is the same for all replicas in a container.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) account: String,
    pub(super) container: String,
    /// Base of all URLs, without the container. `None`: Azure's for the account.
    pub(super) endpoint: Option<String>,
    pub(super) credentials: Credentials,
}

impl Settings {
    /// `env` looks up an environment variable.
    pub(super) fn resolve(
        config: &AzureConfig,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, StorageError> {
        let said = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let container = said(&config.bucket).ok_or_else(|| {
            invalid("an Azure replica needs a container: use abs://ACCOUNT@CONTAINER/PATH".to_owned())
        })?;
        let account = said(&config.account_name).or_else(|| said(&env(ACCOUNT))).ok_or_else(|| {
            invalid(
                "an Azure replica needs an account: set account-name, or use abs://ACCOUNT@CONTAINER/PATH"
                    .to_owned(),
            )
        })?;
        check_name("container", &container)?;
        check_name("account", &account)?;
        Ok(Settings {
            endpoint: said(&config.endpoint).map(|endpoint| parse_endpoint(&endpoint)).transpose()?,
            credentials: Credentials::find(config, env)?,
            account,
            container,
        })
    }
}

fn invalid(reason: String) -> StorageError {
    StorageError::Config(reason)
}

/// `$logs` and `$web` are containers too.
fn check_name(what: &str, name: &str) -> Result<(), StorageError> {
    let possible = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '$';
    match name.chars().all(possible) {
        true => Ok(()),
        false => Err(invalid(format!(
            "invalid Azure {what} name {name:?}: only lower-case letters, digits and - are possible"
        ))),
    }
}

fn parse_endpoint(endpoint: &str) -> Result<String, StorageError> {
    let text = if endpoint.contains("://") { endpoint.to_owned() } else { format!("https://{endpoint}") };
    let wrong = |reason: &str| {
        invalid(format!(
            "invalid Azure endpoint {:?}: {reason}; expected something like \
             https://ACCOUNT.blob.core.windows.net or http://127.0.0.1:10000/devstoreaccount1",
            without_secrets(endpoint)
        ))
    };
    let url = Url::parse(&text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("only http and https are possible"));
    }
    let has_login = !url.username().is_empty() || url.password().is_some();
    if url.query().is_some() || url.fragment().is_some() || has_login {
        return Err(wrong("only scheme, host, port and path are possible"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(account: &str, container: &str) -> AzureConfig {
        let said = |text: &str| Some(text.to_owned());
        AzureConfig { account_name: said(account), bucket: said(container), ..AzureConfig::default() }
    }

    #[test]
    fn an_endpoint_may_have_a_path_and_needs_no_scheme() {
        for (endpoint, base) in [
            ("http://127.0.0.1:10000/devstoreaccount1/", "http://127.0.0.1:10000/devstoreaccount1"),
            ("a.blob.core.chinacloudapi.cn", "https://a.blob.core.chinacloudapi.cn"),
        ] {
            let config = AzureConfig { endpoint: Some(endpoint.to_owned()), ..config("a", "c") };
            assert_eq!(Settings::resolve(&config, &|_| None).unwrap().endpoint.as_deref(), Some(base));
        }
    }

    #[test]
    fn the_account_may_be_in_the_environment() {
        let env = |name: &str| (name == ACCOUNT).then(|| "from-env".to_owned());
        assert_eq!(Settings::resolve(&config("", "c"), &env).unwrap().account, "from-env");
        assert_eq!(Settings::resolve(&config("said", "c"), &env).unwrap().account, "said");
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_reason() {
        let ftp = AzureConfig { endpoint: Some("ftp://h".to_owned()), ..config("a", "c") };
        for (config, sentence) in [
            (config("a", ""), "an Azure replica needs a container"),
            (config("", "c"), "an Azure replica needs an account: set account-name, or use"),
            (config("a", "My_Container"), "invalid Azure container name \"My_Container\""),
            (config("a.b", "c"), "invalid Azure account name \"a.b\""),
            (ftp, "invalid Azure endpoint \"ftp://h\": only http and https are possible"),
        ] {
            let error = Settings::resolve(&config, &|_| None).unwrap_err().to_string();
            assert!(error.starts_with(sentence), "{error}");
        }
    }
}
