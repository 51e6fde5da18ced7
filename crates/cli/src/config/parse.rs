//! From the text of a file to its keys, with errors that name the line.
//!
//! The one place that knows the YAML library. The dialect is the peer's: `yes` and `on` are booleans, `0600`
//! is octal, merge keys (`<<`) work.

use std::path::Path;

use serde_yaml::{Error, Options};

use super::ConfigError;
use super::keys::RootKeys;
use crate::error::nearest;

/// Keys of version 0.3 and of other tools that people look for, and where the setting is now.
const MOVED: [(&str, &str); 3] = [
    ("database", "databases are listed under dbs:"),
    ("databases", "databases are listed under dbs:"),
    ("access-key", "the key is access-key-id"),
];

/// Parses the text. An empty file has no keys.
pub(crate) fn parse(file: &Path, text: &str) -> Result<RootKeys, ConfigError> {
    serde_yaml::from_str_with_options::<Option<RootKeys>>(text, options())
        .map(Option::unwrap_or_default)
        .map_err(|error| explain(file, &error))
}

fn options() -> Options {
    // Without snippet: the text holds passwords, which must not reach a log.
    serde_yaml::options! { legacy_octal_numbers: true, with_snippet: false }
}

fn explain(file: &Path, error: &Error) -> ConfigError {
    let (message, hint) = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown key {field:?}"), unknown_key_hint(field, expected))
        }
        Error::DuplicateMappingKey { key, .. } => {
            (format!("key {:?} is given twice", key.as_deref().unwrap_or("?")), None)
        }
        Error::Unexpected { expected, .. } => (format!("expected {}", in_words(expected)), None),
        Error::InvalidScalar { ty, .. } => (format!("expected {}", in_words(ty)), None),
        Error::MultipleDocuments { .. } => ("the file holds more than one YAML document".to_owned(), None),
        Error::Message { msg, .. } => (msg.clone(), None),
        other => (without_location(&other.to_string()), None),
    };
    let mut explained = ConfigError::new(message).file(file);
    explained.line = error.location().map(|location| location.line());
    explained.hint = hint;
    explained
}

fn unknown_key_hint(field: &str, expected: &[&str]) -> Option<String> {
    if let Some((_, advice)) = MOVED.iter().find(|(name, _)| *name == field) {
        return Some((*advice).to_owned());
    }
    // Some people write snake_case, which would otherwise look far from the key.
    let near = nearest(&field.replace('_', "-"), expected.iter().copied())?;
    Some(format!("did you mean {near:?}?"))
}

/// The library's names of YAML things, for people.
fn in_words(expected: &str) -> &str {
    match expected {
        "mapping start" => "keys and values here, such as \"interval: 1h\"",
        "sequence start" => "a list here, each entry after a dash",
        "string scalar" => "a single value here",
        "boolean" => "true or false",
        "i64" => "a whole number",
        "u32" | "u64" => "a whole number that is not negative",
        other => other,
    }
}

fn without_location(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(message, _)| message).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        let error = parse(Path::new("c.yml"), text).unwrap_err();
        match &error.hint {
            Some(hint) => format!("{error} ({hint})"),
            None => error.to_string(),
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_key() {
        for (text, message) in [
            ("dbs:\n  - ptah: /a\n", "c.yml:2: unknown key \"ptah\" (did you mean \"path\"?)"),
            (
                "dbs:\n- path: /a\n  replica:\n    path: b\n    sync_interval: 1s\n",
                "c.yml:5: unknown key \"sync_interval\" (did you mean \"sync-interval\"?)",
            ),
            ("databases: []\n", "c.yml:1: unknown key \"databases\" (databases are listed under dbs:)"),
            ("colour: red\n", "c.yml:1: unknown key \"colour\""),
        ] {
            assert_eq!(error(text), message);
        }
    }

    #[test]
    fn wrong_shapes_are_explained() {
        for (text, message) in [
            ("dbs: /a", "c.yml:1: expected a list here, each entry after a dash"),
            ("retention: 24h", "c.yml:1: expected keys and values here, such as \"interval: 1h\""),
            ("\nexec: [a]", "c.yml:2: expected a single value here"),
            ("verify-compaction: maybe", "c.yml:1: expected true or false"),
            ("l0-retention: 5", "c.yml:1: duration \"5\" has no unit: write 5s, 5m or 5h"),
            ("exec: a\nexec: b", "c.yml:2: key \"exec\" is given twice"),
            ("---\nexec: a\n---\nexec: b", "c.yml:4: the file holds more than one YAML document"),
            ("exec: *a", "c.yml:1: alias references unknown anchor"),
        ] {
            assert_eq!(error(text), message, "{text}");
        }
    }

    #[test]
    fn the_peers_dialect_is_read() {
        let keys = parse(
            Path::new("c.yml"),
            "verify-compaction: yes\nsnapshot:\nsocket: {enabled: off, permissions: 0600}\naccess-key-id: 0123\n",
        )
        .unwrap();
        assert_eq!(keys.verify_compaction, Some(true));
        assert!(keys.snapshot.is_none(), "an empty section is no section");
        assert_eq!(keys.access_key_id.as_deref(), Some("0123"));
        assert!(parse(Path::new("c.yml"), "# nothing\n").unwrap().dbs.is_empty());
    }

    #[test]
    fn shared_settings_are_inherited_and_own_ones_win() {
        let text = "sync-interval: 5s\nregion: a\ndbs:\n- path: /a\n  replica: {region: b}\n";
        let mut keys = parse(Path::new("c.yml"), text).unwrap();
        let mut replica = keys.dbs.remove(0).replica.unwrap();
        replica.inherit(&keys);
        assert_eq!(replica.region.as_deref(), Some("b"));
        assert_eq!(replica.sync_interval.map(|d| d.to_string()).as_deref(), Some("5s"));
    }

    #[test]
    fn hostile_files_end_in_an_error() {
        let deep = "[".repeat(100_000);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
            + &(1..20).map(|i| format!("b{i}: &b{i} [*a,*a,*a,*a,*a,*a,*a]\n")).collect::<String>();
        for text in [&deep, &bomb, "\u{0}", "\t:", "? ?", "!!python/object:os.system x"] {
            assert!(parse(Path::new("c.yml"), text).is_err());
        }
    }
}
