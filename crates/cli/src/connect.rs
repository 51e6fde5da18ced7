//! From a configuration to a client of the store.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use walstream_storage::{FileAccess, Limits, ReplicaClient, ReplicaConfig, Traffic};

use crate::config::DatabaseConfig;
use crate::error::CliError;

/// A client for reading a replica, or for writing one that is not tied to a database file.
pub(crate) fn connect(replica: &ReplicaConfig, limits: &Limits) -> Result<Arc<dyn ReplicaClient>, CliError> {
    Ok(walstream_storage::connect_within(replica, limits)?)
}

/// A client for writing the replica of a database. Files of a directory replica get the owner and the
/// permissions of the database, so that whoever may read the one may read the other. What is asked of it is counted.
pub(crate) fn connect_for(
    database: &DatabaseConfig,
    traffic: &Traffic,
) -> Result<Arc<dyn ReplicaClient>, CliError> {
    let mut replica = database.replica.clone();
    if let ReplicaConfig::File(file) = &mut replica {
        file.access = file.access.or_else(|| access_of(&database.path));
    }
    connect(&replica, &database.settings.limits).map(|client| traffic.count(client))
}

fn access_of(database: &Path) -> Option<FileAccess> {
    let file = std::fs::metadata(database).ok()?;
    let folder = std::fs::metadata(database.parent()?).ok()?;
    Some(FileAccess {
        file_mode: file.mode() & 0o777,
        dir_mode: folder.mode() & 0o777,
        uid: file.uid(),
        gid: file.gid(),
    })
}
