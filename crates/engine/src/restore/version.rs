//! From which of the two versions a state is restored.
//!
//! Invariant: what is shown as a plan is what a restore at the same moment reads, and where names alone show that it
//! cannot succeed, both end with the same error.

use futures::try_join;
use walstream_storage::{FileInfo, LegacyObject, ReplicaClient};

use super::plan::{self, RestorePlan, Target};
use super::v3;
use crate::error::EngineError;

/// What a restore reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// LTX files.
    Files(RestorePlan),
    /// A backup of Litestream 0.3.
    Legacy(v3::Backup),
}

/// Looks through a replica, all levels at once, and chooses what leads to `target`.
pub async fn plan(client: &dyn ReplicaClient, target: &Target) -> Result<Plan, EngineError> {
    let (listing, legacy) = try_join!(plan::list(client, target), v3::list(client))?;
    decide(&listing, &legacy, client, target)
}

/// Chooses from a listing of both versions.
pub(super) fn decide(
    listing: &[FileInfo],
    legacy: &[LegacyObject],
    client: &dyn ReplicaClient,
    target: &Target,
) -> Result<Plan, EngineError> {
    match v3::choose(legacy, listing, target) {
        Some(backup) => backup.check_names(&client.location()).map(|()| Plan::Legacy(backup)),
        None => plan::plan_from(listing, legacy, client, target).map(Plan::Files),
    }
}
