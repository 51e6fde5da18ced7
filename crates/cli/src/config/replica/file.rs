//! Replicas in directories.

use walstream_storage::FileConfig;

use super::super::{ConfigError, expand_path};

pub(super) fn at(path: Option<String>) -> FileConfig {
    FileConfig { path: path.map(Into::into), access: None }
}

pub(super) fn complete(mut file: FileConfig) -> Result<FileConfig, ConfigError> {
    let path = file.path.filter(|path| !path.as_os_str().is_empty());
    let path = path.ok_or_else(|| ConfigError::new("file replica path required"))?;
    file.path = Some(expand_path(path.as_os_str())?);
    Ok(file)
}
