//! Who lets users in at a NATS server by signed tokens: what the tools of NATS do for an operator.

use std::path::PathBuf;

use nkeys::{KeyPair, KeyPairType};
use serde_json::{Value, json};

use crate::nats::{NatsServer, base64};

/// An operator with one account and one user (<https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt>).
pub struct NatsAuthority {
    operator: KeyPair,
    account: KeyPair,
    system: KeyPair,
    user: KeyPair,
}

impl NatsAuthority {
    /// Always with the same keys.
    pub fn new() -> NatsAuthority {
        let key = |kind, n| KeyPair::new_from_raw(kind, [n; 32]).unwrap();
        NatsAuthority {
            operator: key(KeyPairType::Operator, 1),
            account: key(KeyPairType::Account, 2),
            system: key(KeyPairType::Account, 3),
            user: key(KeyPairType::User, 4),
        }
    }

    /// What the server's configuration file says of it.
    pub fn server_config(&self) -> String {
        let operator = token(&self.operator, &self.operator, json!({ "type": "operator" }));
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1,
            "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        let account = token(&self.operator, &self.account, json!({ "type": "account", "limits": limits }));
        let system = token(&self.operator, &self.system, json!({ "type": "account" }));
        let (account_key, system_key) = (self.account.public_key(), self.system.public_key());
        format!(
            "operator: {operator}\nresolver: MEMORY\nsystem_account: {system_key}\n\
             resolver_preload: {{{account_key}: {account}, {system_key}: {system}}}"
        )
    }

    /// The user's token.
    pub fn user_token(&self) -> String {
        token(&self.account, &self.user, json!({ "type": "user", "subs": -1, "data": -1, "payload": -1 }))
    }

    /// The user's secret key.
    pub fn user_seed(&self) -> String {
        self.user.seed().unwrap()
    }

    /// Both, in a file of the server's folder.
    pub fn credentials_file(&self, server: &NatsServer) -> PathBuf {
        let (token, seed) = (self.user_token(), self.user_seed());
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let path = server.path("user.creds");
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Default for NatsAuthority {
    fn default() -> Self {
        NatsAuthority::new()
    }
}

/// A JSON web token about `subject`, signed by `issuer`.
fn token(issuer: &KeyPair, subject: &KeyPair, mut nats: Value) -> String {
    nats["version"] = 2.into();
    let claims = json!({
        "jti": "walstream-test", "iat": 1_700_000_000, "name": "walstream-test",
        "iss": issuer.public_key(), "sub": subject.public_key(), "nats": nats,
    });
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let unpadded = |bytes: &[u8]| base64(bytes).trim_end_matches('=').to_owned();
    let signed =
        format!("{}.{}", unpadded(header.to_string().as_bytes()), unpadded(claims.to_string().as_bytes()));
    let signature = unpadded(&issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}
