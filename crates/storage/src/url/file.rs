//! `file:///backups/app`.

use std::path::PathBuf;

use super::{bad, percent_decode};
use crate::config::FileConfig;
use crate::error::StorageError;
use crate::layout::clean_path;

/// The peer takes the path as the URL spells it: `file:///a b` is the directory `/a%20b`, and a host is the first
/// directory (`file://a/b` is `/a/b`).
pub(super) fn parse(url: &str, rest: &str) -> Result<FileConfig, StorageError> {
    let (front, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let path = front.split('?').next().unwrap_or_default();
    let escape =
        |text| escape_path(text).ok_or_else(|| bad(url, "a % must be followed by two hexadecimal digits"));
    let mut escaped = escape(path)?;
    if !fragment.is_empty() {
        escaped = format!("{escaped}#{}", escape(fragment)?);
    }
    let clean = clean_path(&escaped);
    if clean.is_empty() {
        return Err(bad(url, "no directory given, expected file:///DIRECTORY"));
    }
    Ok(FileConfig { path: Some(PathBuf::from(format!("/{clean}"))), access: None })
}

/// A path as Go's URL type prints it: left alone if every byte may stand in a path, else decoded and escaped anew.
fn escape_path(path: &str) -> Option<String> {
    let decoded = percent_decode(path)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&b);
    if path.bytes().all(|b| plain(b) || b"!'()*[]%".contains(&b)) {
        return Some(path.to_owned());
    }
    let mut escaped = String::new();
    for byte in decoded.bytes() {
        match plain(byte) {
            true => escaped.push(char::from(byte)),
            false => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use crate::config::ReplicaConfig;

    #[test]
    fn a_directory_is_where_the_peer_puts_it() {
        for (url, directory) in [
            ("file:///backups/app", "/backups/app"),
            ("file:///a/../b//c/", "/b/c"),
            ("file:///a?x=1", "/a"),
            // Each of these was tried with Litestream 0.5.17.
            ("file:///a b", "/a%20b"),
            ("file:///a%20b", "/a%20b"),
            ("file:///ü~é", "/%C3%BC~%C3%A9"),
            ("file:///f#g", "/f#g"),
            ("file://rel/x", "/rel/x"),
        ] {
            let Ok(ReplicaConfig::File(config)) = url.parse() else { panic!("{url}") };
            assert_eq!(config.path.as_deref(), Some(std::path::Path::new(directory)), "{url}");
        }
    }
}
