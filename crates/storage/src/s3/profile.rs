//! Keys in the file that the AWS command line writes, `~/.aws/credentials`.
//!
//! Invariant: only the wanted profile is looked at; a file that cannot be understood holds no keys.

use std::path::PathBuf;

use crate::error::StorageError;
use crate::secret::Secret;

/// A key pair, and the token that temporary ones need.
pub(super) struct Keys {
    pub(super) id: String,
    pub(super) secret: Secret,
    pub(super) token: Option<Secret>,
}

/// The keys of the profile that `AWS_PROFILE` names, else of the default one. A profile that was asked for by name
/// must have keys.
pub(super) fn read(env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Keys>, StorageError> {
    let file = env("AWS_SHARED_CREDENTIALS_FILE").map(PathBuf::from);
    let file = file.or_else(|| Some(PathBuf::from(env("HOME")?).join(".aws/credentials")));
    let text = file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let wanted = env("AWS_PROFILE");
    match (keys_of(&text, wanted.as_deref().unwrap_or("default")), wanted, file) {
        (None, Some(profile), Some(file)) => Err(StorageError::Config(format!(
            "AWS_PROFILE is {profile:?}, but {} has no access key for it; SSO, assumed roles and credential_process are \
             not supported yet",
            file.display()
        ))),
        (keys, _, _) => Ok(keys),
    }
}

fn keys_of(text: &str, profile: &str) -> Option<Keys> {
    let heading = format!("[{profile}]");
    let lines = text.lines().map(str::trim).skip_while(|line| *line != heading).skip(1);
    let settings: Vec<(&str, &str)> = lines
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect();
    let setting = |wanted: &str| {
        let found = settings.iter().find(|(name, value)| *name == wanted && !value.is_empty());
        found.map(|(_, value)| (*value).to_owned())
    };
    Some(Keys {
        id: setting("aws_access_key_id")?,
        secret: setting("aws_secret_access_key")?.into(),
        token: setting("aws_session_token").map(Secret::from),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# of the AWS command line
[default]
aws_access_key_id = AK1
aws_secret_access_key=s1

[work]
; temporary
aws_access_key_id=AK2
aws_secret_access_key = s2
aws_session_token = t2
[sso]
sso_session = x
";

    #[test]
    fn each_profile_has_its_own_keys() {
        let keys = |profile| keys_of(FILE, profile).map(|keys| (keys.id, keys.token.is_some()));
        assert_eq!(keys("default"), Some(("AK1".into(), false)));
        assert_eq!(keys("work"), Some(("AK2".into(), true)));
        assert_eq!((keys("sso"), keys("missing")), (None, None));
    }

    #[test]
    fn a_profile_that_was_asked_for_must_have_keys() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(&file, FILE).unwrap();
        let with_profile = |profile: Option<&str>| {
            let env = |name: &str| match name {
                "AWS_SHARED_CREDENTIALS_FILE" => Some(file.display().to_string()),
                "AWS_PROFILE" => profile.map(str::to_owned),
                _ => None,
            };
            read(&env)
        };
        assert_eq!(with_profile(None).unwrap().unwrap().id, "AK1");
        let error = with_profile(Some("sso")).err().unwrap().to_string();
        assert!(error.contains("AWS_PROFILE is \"sso\", but ") && error.contains("no access key"), "{error}");
        assert!(read(&|_| None).unwrap().is_none());
    }
}
