//! Local paths as people write them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::ConfigError;

/// `~`, `~/x`, `sqlite:///x` and paths relative to the working directory, made absolute and tidy.
/// Nothing needs to exist.
pub(crate) fn expand_path(text: &OsStr) -> Result<PathBuf, ConfigError> {
    let without_scheme = text
        .to_str()
        .and_then(|text| text.strip_prefix("sqlite://").or_else(|| text.strip_prefix("sqlite3://")))
        .map_or(text, OsStr::new);
    let path = Path::new(without_scheme);
    let path = match path.strip_prefix("~") {
        Ok(rest) => home()?.join(rest),
        Err(_) => path.to_owned(),
    };
    let absolute = std::path::absolute(&path)
        .map_err(|error| ConfigError::new(format!("cannot make path {:?} absolute: {error}", path)))?;
    Ok(clean(&absolute))
}

fn home() -> Result<PathBuf, ConfigError> {
    std::env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .ok_or_else(|| ConfigError::new("cannot expand ~: the home directory is not known").hint("set HOME"))
}

/// Resolves `.` and `..` in the text alone, as Go's `filepath.Clean` does.
fn clean(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            // At the root, `pop` does nothing, and `/..` is `/`.
            Component::ParentDir => {
                cleaned.pop();
            }
            other => cleaned.push(other),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_tidy() {
        let expand = |text: &str| expand_path(OsStr::new(text)).unwrap();
        let here = std::env::current_dir().unwrap();
        let home = std::env::home_dir().unwrap();
        assert_eq!(expand("/a/./b/../c.db"), Path::new("/a/c.db"));
        assert_eq!(expand("/../a"), Path::new("/a"));
        assert_eq!(expand("app.db"), here.join("app.db"));
        assert_eq!(expand("~/app.db"), home.join("app.db"));
        assert_eq!(expand("~"), home);
        assert_eq!(expand("~other/x"), here.join("~other/x"));
        assert_eq!(expand("sqlite:///a/b.db"), Path::new("/a/b.db"));
        assert_eq!(expand("sqlite3://b.db"), here.join("b.db"));
    }
}
