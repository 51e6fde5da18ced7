//! Who we are to Azure: a shared access signature, a shared key, or an identity that Azure's own libraries would find.
//!
//! Invariant: the first source that says anything is taken; sources are never mixed.

use std::sync::Arc;

use object_store::azure::{
    AzureAccessKey, AzureConfigKey as Key, AzureCredential, AzureCredentialProvider, MicrosoftAzureBuilder,
    split_sas,
};

use crate::cloud::Guarded;
use crate::config::AzureConfig;
use crate::error::StorageError;
use crate::secret::Secret;

const HOW_TO_SET_THEM: &str = "set account-key or sas-token, or LITESTREAM_AZURE_ACCOUNT_KEY or LITESTREAM_AZURE_SAS_TOKEN, \
     or the AZURE_* variables of an identity";

/// Where the credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A shared access signature, which is part of every address.
    Signature(Secret),
    /// The key of the account.
    SharedKey(Secret),
    /// An identity of Azure's directory: an application, a pod, or whoever uses the command line.
    Identity { name: &'static str, settings: Vec<(Key, Secret)> },
    /// The identity of the machine that we run on.
    Machine { settings: Vec<(Key, Secret)> },
}

/// An identity and the variables that tell of it; the first few must be set.
struct Identity {
    name: &'static str,
    required: usize,
    variables: &'static [(Key, &'static str)],
}

const IDENTITIES: &[Identity] = &[
    Identity {
        name: "application that AZURE_CLIENT_ID names",
        required: 3,
        variables: &[
            (Key::ClientId, "AZURE_CLIENT_ID"),
            (Key::ClientSecret, "AZURE_CLIENT_SECRET"),
            (Key::AuthorityId, "AZURE_TENANT_ID"),
            (Key::AuthorityHost, "AZURE_AUTHORITY_HOST"),
        ],
    },
    Identity {
        name: "workload identity",
        required: 3,
        variables: &[
            (Key::FederatedTokenFile, "AZURE_FEDERATED_TOKEN_FILE"),
            (Key::ClientId, "AZURE_CLIENT_ID"),
            (Key::AuthorityId, "AZURE_TENANT_ID"),
            (Key::AuthorityHost, "AZURE_AUTHORITY_HOST"),
        ],
    },
    Identity {
        name: "Azure command line (az login)",
        required: 1,
        variables: &[(Key::UseAzureCli, "AZURE_USE_AZURE_CLI")],
    },
];

const MACHINE: &[(Key, &str)] =
    &[(Key::ClientId, "AZURE_CLIENT_ID"), (Key::MsiEndpoint, "IDENTITY_ENDPOINT")];

impl Credentials {
    /// The first of: shared access signature, shared key, application, workload identity, command line, machine. Each
    /// of the former two is in the configuration or in the environment.
    pub(super) fn find(
        config: &AzureConfig,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, StorageError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty()).map(Secret::from);
        let said = |value: &Option<Secret>| value.clone().filter(|value| !value.expose().is_empty());
        if let Some(token) = said(&config.sas_token).or_else(|| env("LITESTREAM_AZURE_SAS_TOKEN")) {
            check_signature(&token)?;
            return Ok(Credentials::Signature(token));
        }
        if let Some(key) = said(&config.account_key).or_else(|| env("LITESTREAM_AZURE_ACCOUNT_KEY")) {
            AzureAccessKey::try_new(key.expose())
                .map_err(|_| StorageError::Config("the Azure account key must be base64".to_owned()))?;
            return Ok(Credentials::SharedKey(key));
        }
        let set = |variables: &[(Key, &str)]| -> Vec<(Key, Secret)> {
            variables.iter().filter_map(|(key, variable)| Some((*key, env(variable)?))).collect()
        };
        let identity = IDENTITIES.iter().find(|identity| {
            let required = &identity.variables[..identity.required];
            set(required).len() == identity.required
        });
        Ok(match identity {
            Some(Identity { name, variables, .. }) => {
                Credentials::Identity { name, settings: set(variables) }
            }
            None => Credentials::Machine { settings: set(MACHINE) },
        })
    }

    /// The shared key, for whoever must sign by himself.
    pub(super) fn shared_key(&self) -> object_store::Result<Option<AzureCredential>> {
        match self {
            Credentials::SharedKey(key) => {
                Ok(Some(AzureCredential::AccessKey(AzureAccessKey::try_new(key.expose())?)))
            }
            _ => Ok(None),
        }
    }

    /// Hands the source to `object_store`.
    pub(super) fn configure(&self, builder: MicrosoftAzureBuilder) -> MicrosoftAzureBuilder {
        match self {
            Credentials::Signature(token) => builder.with_config(Key::SasKey, token.expose()),
            Credentials::SharedKey(key) => builder.with_access_key(key.expose()),
            Credentials::Identity { settings, .. } | Credentials::Machine { settings } => settings
                .iter()
                .fold(builder, |builder, (key, value)| builder.with_config(*key, value.expose())),
        }
    }

    /// The source, with a deadline and an error that a person understands.
    pub(super) fn guard(&self, inner: AzureCredentialProvider) -> AzureCredentialProvider {
        let failure = match self {
            Credentials::Signature(_) | Credentials::SharedKey(_) => return inner,
            Credentials::Identity { name, .. } => format!("Azure gave no token for the {name}"),
            Credentials::Machine { .. } => format!(
                "no Azure credentials: none are set and this machine has no managed identity; {HOW_TO_SET_THEM}"
            ),
        };
        Arc::new(Guarded::new(inner, "Azure", failure))
    }
}

/// A signature is a list of parameters, `sv=…&sp=…&sig=…`.
fn check_signature(token: &Secret) -> Result<(), StorageError> {
    let pairs = split_sas(token.expose()).unwrap_or_default();
    match pairs.iter().any(|(name, _)| name == "sig") {
        true => Ok(()),
        false => Err(StorageError::Config(
            "the Azure SAS token must be a list of parameters with sig=…, such as sv=…&se=…&sp=…&sig=…"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(config: &AzureConfig, variables: &[(&str, &str)]) -> Result<Credentials, StorageError> {
        let env = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Credentials::find(config, &env)
    }

    #[test]
    fn the_first_source_wins_and_sources_do_not_mix() {
        let (signature, key) = (Secret::new("sv=1&sig=x"), Secret::new("c2VjcmV0"));
        let config = AzureConfig { account_key: Some(key.clone()), ..AzureConfig::default() };
        let none = AzureConfig::default();
        let env = [
            ("LITESTREAM_AZURE_SAS_TOKEN", signature.expose()),
            ("LITESTREAM_AZURE_ACCOUNT_KEY", key.expose()),
            ("AZURE_CLIENT_SECRET", "secret"),
            ("AZURE_FEDERATED_TOKEN_FILE", "/token"),
            ("AZURE_CLIENT_ID", "id"),
            ("AZURE_TENANT_ID", "tenant"),
        ];
        assert_eq!(find(&config, &env).unwrap(), Credentials::Signature(signature.clone()));
        assert_eq!(find(&config, &[]).unwrap(), Credentials::SharedKey(key.clone()));
        assert_eq!(find(&none, &env[1..]).unwrap(), Credentials::SharedKey(key.clone()));
        for (from, expected) in [(2, "application that AZURE_CLIENT_ID names"), (3, "workload identity")] {
            let Credentials::Identity { name, settings } = find(&none, &env[from..]).unwrap() else {
                panic!()
            };
            assert_eq!((name, settings.len()), (expected, 3));
        }
        let client = (Key::ClientId, Secret::new("id"));
        assert_eq!(find(&none, &env[4..]).unwrap(), Credentials::Machine { settings: vec![client] });
        assert_eq!(find(&none, &[]).unwrap(), Credentials::Machine { settings: Vec::new() });
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_reason() {
        for (variable, value, sentence) in [
            ("LITESTREAM_AZURE_ACCOUNT_KEY", "not base64!", "the Azure account key must be base64"),
            ("LITESTREAM_AZURE_SAS_TOKEN", "sv=1", "the Azure SAS token must be a list of parameters"),
            ("LITESTREAM_AZURE_SAS_TOKEN", "words", "the Azure SAS token must be a list of parameters"),
        ] {
            let error = find(&AzureConfig::default(), &[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(sentence) && !error.contains(value), "{error}");
        }
    }
}
