//! Who we are to S3: keys that were given, else the sources that every AWS program knows.
//!
//! Invariant: the first source that says anything is taken; keys of different sources are never mixed (a session
//! token of the environment does not belong to keys of the configuration).

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key, AwsCredentialProvider};

use super::profile::{self, Keys};
use crate::cloud::Guarded;
use crate::config::S3Config;
use crate::error::StorageError;
use crate::secret::Secret;

const HOW_TO_SET_KEYS: &str =
    "set access-key-id and secret-access-key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";

/// Where the keys come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A key pair.
    Static { id: String, secret: Secret, token: Option<Secret> },
    /// Settings of a service that hands out keys: web identity, container or pod.
    Service { name: &'static str, settings: Vec<(Key, String)> },
    /// The machine's own role.
    InstanceMetadata { endpoint: Option<String> },
}

impl Credentials {
    /// The first of: configuration, `AWS_*`, `LITESTREAM_*`, web identity, profile, container, instance.
    pub(super) fn find(
        config: &S3Config,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, StorageError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let configured = (
            config.access_key_id.clone().filter(|id| !id.is_empty()),
            config.secret_access_key.clone().filter(|secret| !secret.expose().is_empty()),
        );
        if let Some(keys) = pair(configured, None, ["access-key-id", "secret-access-key"])? {
            return Ok(keys);
        }
        for prefix in ["AWS", "LITESTREAM"] {
            let names = [format!("{prefix}_ACCESS_KEY_ID"), format!("{prefix}_SECRET_ACCESS_KEY")];
            let token = (prefix == "AWS").then(|| env("AWS_SESSION_TOKEN").map(Secret::from)).flatten();
            let found = (env(&names[0]), env(&names[1]).map(Secret::from));
            if let Some(keys) = pair(found, token, [&names[0], &names[1]])? {
                return Ok(keys);
            }
        }
        if let Some(identity) = WEB_IDENTITY.find(&env) {
            return Ok(identity);
        }
        if let Some(Keys { id, secret, token }) = profile::read(&env)? {
            return Ok(Credentials::Static { id, secret, token });
        }
        if let Some(service) = CONTAINERS.iter().find_map(|service| service.find(&env)) {
            return Ok(service);
        }
        if env("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Err(StorageError::Config(format!("no AWS credentials are set; {HOW_TO_SET_KEYS}")));
        }
        Ok(Credentials::InstanceMetadata { endpoint: env("AWS_EC2_METADATA_SERVICE_ENDPOINT") })
    }

    /// Hands the source to `object_store`.
    pub(super) fn configure(&self, builder: AmazonS3Builder) -> AmazonS3Builder {
        match self {
            Credentials::Static { id, secret, token } => {
                let builder = builder.with_access_key_id(id).with_secret_access_key(secret.expose());
                match token {
                    Some(token) => builder.with_token(token.expose()),
                    None => builder,
                }
            }
            Credentials::Service { settings, .. } => {
                settings.iter().fold(builder, |builder, (key, value)| builder.with_config(*key, value))
            }
            Credentials::InstanceMetadata { endpoint: Some(endpoint) } => {
                builder.with_metadata_endpoint(endpoint)
            }
            Credentials::InstanceMetadata { endpoint: None } => builder,
        }
    }

    /// The source, with a deadline and an error that a person understands.
    pub(super) fn guard(&self, inner: AwsCredentialProvider) -> AwsCredentialProvider {
        let failure = match self {
            Credentials::Static { .. } => return inner,
            Credentials::Service { name, .. } => format!("the {name} gave no AWS credentials"),
            Credentials::InstanceMetadata { .. } => format!(
                "no AWS credentials: none are set and this machine's instance metadata service gave none; \
                 {HOW_TO_SET_KEYS}"
            ),
        };
        Arc::new(Guarded::new(inner, "S3", failure))
    }
}

/// A service that hands out keys, and the variables that tell where it is; the first few must be set.
struct Service {
    name: &'static str,
    required: usize,
    variables: &'static [(Key, &'static str)],
}

const WEB_IDENTITY: Service = Service {
    name: "web identity provider",
    required: 2,
    variables: &[
        (Key::WebIdentityTokenFile, "AWS_WEB_IDENTITY_TOKEN_FILE"),
        (Key::RoleArn, "AWS_ROLE_ARN"),
        (Key::RoleSessionName, "AWS_ROLE_SESSION_NAME"),
        (Key::StsEndpoint, "AWS_ENDPOINT_URL_STS"),
    ],
};

const CONTAINERS: &[Service] = &[
    Service {
        name: "container's credential service",
        required: 1,
        variables: &[(Key::ContainerCredentialsRelativeUri, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")],
    },
    Service {
        name: "pod's credential service",
        required: 2,
        variables: &[
            (Key::ContainerCredentialsFullUri, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
            (Key::ContainerAuthorizationTokenFile, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
        ],
    },
];

impl Service {
    fn find(&self, env: &dyn Fn(&str) -> Option<String>) -> Option<Credentials> {
        let required = self.variables.iter().take(self.required);
        required.map(|(_, variable)| env(variable)).collect::<Option<Vec<_>>>()?;
        let set = self.variables.iter().filter_map(|(key, variable)| Some((*key, env(variable)?)));
        Some(Credentials::Service { name: self.name, settings: set.collect() })
    }
}

fn pair(
    found: (Option<String>, Option<Secret>),
    token: Option<Secret>,
    names: [&str; 2],
) -> Result<Option<Credentials>, StorageError> {
    let lonely = |have: &str, missing: &str| {
        Err(StorageError::Config(format!("{have} is set but {missing} is missing; an S3 key needs both")))
    };
    match found {
        (Some(id), Some(secret)) => Ok(Some(Credentials::Static { id, secret, token })),
        (Some(_), None) => lonely(names[0], names[1]),
        (None, Some(_)) => lonely(names[1], names[0]),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(config: &S3Config, variables: &[(&str, &str)]) -> Result<Credentials, StorageError> {
        let env = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Credentials::find(config, &env)
    }

    fn keys(id: &str, token: Option<&str>) -> Credentials {
        Credentials::Static { id: id.into(), secret: Secret::new("s"), token: token.map(Secret::new) }
    }

    #[test]
    fn the_nearest_source_wins_and_sources_do_not_mix() {
        let config = S3Config {
            access_key_id: Some("config".into()),
            secret_access_key: Some(Secret::new("s")),
            ..S3Config::default()
        };
        let env = [
            ("AWS_SESSION_TOKEN", "t"),
            ("AWS_ACCESS_KEY_ID", "aws"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("LITESTREAM_ACCESS_KEY_ID", "litestream"),
            ("LITESTREAM_SECRET_ACCESS_KEY", "s"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/x"),
        ];
        let none = S3Config::default();
        assert_eq!(find(&config, &env).unwrap(), keys("config", None));
        assert_eq!(find(&none, &env).unwrap(), keys("aws", Some("t")));
        assert_eq!(find(&none, &env[3..]).unwrap(), keys("litestream", None));
        assert!(matches!(find(&none, &env[5..]).unwrap(), Credentials::Service { .. }));
        assert_eq!(find(&none, &[]).unwrap(), Credentials::InstanceMetadata { endpoint: None });
        let disabled = find(&none, &[("AWS_EC2_METADATA_DISABLED", "true")]).unwrap_err().to_string();
        assert!(disabled.starts_with("no AWS credentials are set; set access-key-id"), "{disabled}");
    }

    #[test]
    fn half_a_key_pair_is_an_error() {
        let error = find(&S3Config::default(), &[("AWS_SECRET_ACCESS_KEY", "s")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "AWS_SECRET_ACCESS_KEY is set but AWS_ACCESS_KEY_ID is missing; an S3 key needs both"
        );
    }

    #[test]
    fn keys_are_never_printed() {
        let shown = format!("{:?}", keys("id", Some("token")));
        assert!(!shown.contains("token\""), "{shown}");
    }
}
