//! Whether a server is the one that it should be.
//!
//! Invariants: where a key of the server is known, no other is ever accepted; where none is, it is accepted only by
//! those who said so.

use std::fs;
use std::path::PathBuf;

use ring::hmac;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, HashAlg, PublicKey};

use super::settings::Settings;

/// A key that is known of a server, and where that is said.
#[derive(Clone, Debug)]
struct Known {
    key: PublicKey,
    revoked: bool,
    said_in: String,
}

/// What is known of one server.
#[derive(Clone, Debug)]
pub(super) struct HostKeys {
    server: String,
    host: String,
    port: u16,
    known: Vec<Known>,
    accept_unknown: bool,
}

impl HostKeys {
    /// Reads what is known of the server of these settings. The file system may block.
    pub(super) fn read(settings: &Settings) -> Self {
        let server = settings.server().to_lowercase();
        let known = match &settings.host_key {
            Some(key) => vec![Known { key: key.clone(), revoked: false, said_in: "host-key".into() }],
            None => settings.known_hosts.iter().flat_map(|path| keys_in(path, &server)).collect(),
        };
        HostKeys {
            server,
            host: settings.host.clone(),
            port: settings.port,
            known,
            accept_unknown: settings.accept_unknown_host_key,
        }
    }

    /// Kinds of keys in the order in which the server shall be asked for them: those that can be compared first.
    pub(super) fn preferred(&self, all: &[Algorithm]) -> Vec<Algorithm> {
        let is_known = |kind: &Algorithm| {
            self.known.iter().any(|known| !known.revoked && same_kind(&known.key.algorithm(), kind))
        };
        let (mut first, rest): (Vec<_>, Vec<_>) = all.iter().cloned().partition(is_known);
        first.extend(rest);
        first
    }

    /// An error is why this server must not be spoken to.
    pub(super) fn judge(&self, key: &PublicKey) -> Result<(), String> {
        let same = |known: &&Known| known.key.key_data() == key.key_data();
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        let (server, kind) = (&self.server, key.algorithm());
        if let Some(known) = self.known.iter().filter(|known| known.revoked).find(same) {
            return Err(format!(
                "the key of {server} ({kind} {fingerprint}) is marked as revoked in {}",
                known.said_in
            ));
        }
        if self.known.iter().any(|known| same(&known)) {
            return Ok(());
        }
        if let Some(known) = self.known.iter().find(|known| !known.revoked) {
            let HostKeys { host, .. } = self;
            return Err(format!(
                "the key of {server} is not the one in {}: somebody may be answering in its place, or it was set up anew; its key now is \
                 {kind} {fingerprint}; if {host} confirms this one, put it there instead",
                known.said_in
            ));
        }
        if self.accept_unknown {
            tracing::warn!(server, key = %fingerprint, "the server's key is not known and was accepted without proof");
            return Ok(());
        }
        let HostKeys { host, port, .. } = self;
        let line = key.to_openssh().unwrap_or_default();
        Err(format!(
            "the key of {server} is not known: {kind} {fingerprint}; if this is the server's, accept it with \
             \"ssh-keyscan -p {port} {host} >> ~/.ssh/known_hosts\" or with host-key: \"{line}\""
        ))
    }
}

/// RSA keys sign in several ways; it is the same key.
fn same_kind(one: &Algorithm, other: &Algorithm) -> bool {
    one == other || matches!((one, other), (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }))
}

/// The keys of a server in a file of known hosts. Lines that cannot be read say nothing, as for `ssh`.
fn keys_in(path: &PathBuf, server: &str) -> Vec<Known> {
    let Ok(text) = fs::read(path) else { return Vec::new() };
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().enumerate().filter_map(|(number, line)| {
        // Fields may be parted by any white space.
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let entry: Entry = line.parse().ok().filter(|_| !line.starts_with('#'))?;
        let revoked = match entry.marker() {
            // The key of an authority is nobody's own.
            Some(Marker::CertAuthority) => return None,
            marker => marker == Some(&Marker::Revoked),
        };
        is_of(server, entry.host_patterns()).then(|| Known {
            key: entry.public_key().clone(),
            revoked,
            said_in: format!("{} line {}", path.display(), number + 1),
        })
    });
    lines.collect()
}

fn is_of(server: &str, patterns: &HostPatterns) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::verify(&key, server.as_bytes(), hash).is_ok()
        }
        HostPatterns::Patterns(patterns) => {
            let matches = |pattern: &str| matches(pattern.to_lowercase().as_bytes(), server.as_bytes());
            let excluded = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(matches);
            !excluded && patterns.iter().any(|pattern| matches(pattern))
        }
    }
}

/// `*` is any text, `?` any one character.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match last_star {
                Some((star, from)) => {
                    last_star = Some((star, from + 1));
                    (p, t) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn key(line: &str) -> PublicKey {
        PublicKey::from_openssh(line).unwrap()
    }

    /// What is known of `server` by a file of known hosts.
    fn host_keys(server: &str, text: &str) -> HostKeys {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_hosts");
        fs::write(&path, text).unwrap();
        let known = keys_in(&path, server);
        HostKeys { server: server.into(), host: "h".into(), port: 22, known, accept_unknown: false }
    }

    #[test]
    fn a_known_key_is_accepted_however_its_line_names_the_server() {
        for (server, line) in [
            ("pijul.org", format!("pijul.org,37.120.161.53 {ONE}")),
            ("pijul.org", format!("other\t{OTHER}\n# pijul.org {OTHER}\nPijul.org\t{ONE} comment")),
            ("[localhost]:13265", format!("[localhost]:13265 {ONE}")),
            ("a.example.com", format!("*.example.com,!b.example.com {ONE}")),
            ("[a]:2200", format!("[?]:22* {ONE}")),
        ] {
            host_keys(server, &line).judge(&key(ONE)).unwrap();
        }
        let hashed = format!("|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= {OTHER}");
        host_keys("example.com", &hashed).judge(&key(OTHER)).unwrap();
    }

    #[test]
    fn a_changed_key_is_refused_even_where_unknown_ones_are_accepted() {
        let mut keys = host_keys("h", &format!("\nh {OTHER}"));
        keys.accept_unknown = true;
        let refused = keys.judge(&key(ONE)).unwrap_err();
        assert!(
            refused.contains("is not the one in ") && refused.contains("known_hosts line 2"),
            "{refused}"
        );
        host_keys("h", &format!("h {OTHER}\nh {ONE}")).judge(&key(ONE)).unwrap();
        let revoked = host_keys("h", &format!("h {ONE}\n@revoked h {ONE}")).judge(&key(ONE)).unwrap_err();
        assert!(revoked.contains("is marked as revoked"), "{revoked}");
    }

    #[test]
    fn an_unknown_key_is_accepted_only_by_those_who_said_so() {
        for text in
            ["", "other ssh-ed25519 AAAA", &format!("@cert-authority * {ONE}"), &format!("b,!h {ONE}")]
        {
            let mut keys = host_keys("h", text);
            let refused = keys.judge(&key(ONE)).unwrap_err();
            assert!(refused.contains("the key of h is not known: ssh-ed25519 SHA256:"), "{refused}");
            assert!(refused.contains("ssh-keyscan -p 22 h >> ~/.ssh/known_hosts"), "{refused}");
            keys.accept_unknown = true;
            keys.judge(&key(ONE)).unwrap();
        }
    }

    #[test]
    fn the_server_is_asked_for_a_key_that_can_be_compared() {
        let kinds = [Algorithm::Ed25519, Algorithm::Rsa { hash: Some(HashAlg::Sha512) }];
        let keys = host_keys("h", &format!("h {ONE}"));
        assert_eq!(keys.preferred(&[kinds[1].clone(), kinds[0].clone()]), kinds);
    }
}
