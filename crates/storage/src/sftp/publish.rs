//! How a whole file gets its name.
//!
//! Invariant: where the server can refuse a taken name, that is what decides; elsewhere the name is looked up first.
//!
//! The protocol leaves open what a rename does to a file that has the new name already: OpenSSH refuses, others write
//! over it. So it is tried out, once, with files whose names are no LTX names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use russh_sftp::protocol::{FileAttributes, OpenFlags};

use super::connection::{Connection, Opened, is_unsupported};
use super::failure::Failure;
use crate::client::PutOutcome;

/// The way in which files get their names on a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publishing {
    /// Renamed: the server refuses a taken name.
    Rename,
    /// Given the name as a second one: a rename would write over a file.
    Link,
    /// Renamed after a look: the server refuses nothing.
    LookThenRename,
}

impl Publishing {
    /// Whether a taken name is refused by the server itself.
    pub(super) fn is_exclusive(self) -> bool {
        self != Publishing::LookThenRename
    }

    /// Gives the file `temp` the name `target`, unless that is taken.
    pub(super) async fn publish(
        self,
        connection: &Connection,
        temp: &str,
        target: &str,
    ) -> Result<PutOutcome, Failure> {
        let Connection { sftp, .. } = connection;
        if self == Publishing::LookThenRename && connection.exists(target).await? {
            return Ok(PutOutcome::AlreadyExists);
        }
        let named = match self {
            Publishing::Link => connection.ask(sftp.hardlink(temp, target)).await,
            Publishing::Rename | Publishing::LookThenRename => {
                connection.ask(sftp.rename(temp, target)).await
            }
        };
        match named {
            Ok(_) => Ok(PutOutcome::Created),
            // The kinds of answers do not tell "taken" from other failures.
            Err(Failure::Answer { .. }) if connection.exists(target).await? => Ok(PutOutcome::AlreadyExists),
            Err(failure) => Err(failure),
        }
    }

    /// Tries out what the server does to names that are taken, in a folder that exists.
    pub(super) async fn find_out(connection: &Arc<Connection>, folder: &str) -> Result<Self, Failure> {
        let name = |which| format!("{folder}/.walstream-probe-{}-{which}", unique());
        let (new, taken, free) = (name("new"), name("taken"), name("free"));
        let found = Self::try_out(connection, &new, &taken, &free).await;
        for path in [new, taken, free] {
            // Not all of them are there.
            let _ = connection.ask(connection.sftp.remove(path)).await;
        }
        found
    }

    async fn try_out(
        connection: &Arc<Connection>,
        new: &str,
        taken: &str,
        free: &str,
    ) -> Result<Self, Failure> {
        let Connection { sftp, features, .. } = &**connection;
        for path in [new, taken] {
            create(connection, path).await?;
        }
        match connection.ask(sftp.rename(new, taken)).await {
            Err(Failure::Answer { .. }) => return Ok(Publishing::Rename),
            done => done?,
        };
        if !features.hardlink {
            return Ok(Publishing::LookThenRename);
        }
        create(connection, new).await?;
        let refused = match connection.ask(sftp.hardlink(new, taken)).await {
            Err(Failure::Answer { .. }) => true,
            done => done.map(|_| false)?,
        };
        let linked = match connection.ask(sftp.hardlink(new, free)).await {
            Err(Failure::Answer { .. }) => false,
            done => done.map(|_| true)?,
        };
        Ok(if refused && linked { Publishing::Link } else { Publishing::LookThenRename })
    }
}

/// An empty new file, closed.
async fn create(connection: &Arc<Connection>, path: &str) -> Result<(), Failure> {
    let opened = connection.sftp.open(path, new_file(), FileAttributes::empty());
    let opened = connection.ask(opened).await?;
    drop(Opened::new(connection, opened.handle));
    Ok(())
}

/// How a file is opened that must not be there yet.
pub(super) fn new_file() -> OpenFlags {
    OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUDE
}

/// Part of a name that no other writer uses.
pub(super) fn unique() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
    format!("{:x}-{nanos:x}-{number:x}", std::process::id())
}

/// Makes what was written durable, where the server can.
pub(super) async fn sync(connection: &Connection, handle: &str) -> Result<(), Failure> {
    if !connection.features.fsync {
        return Ok(());
    }
    match connection.ask(connection.sftp.fsync(handle)).await {
        Err(failure) if is_unsupported(&failure) => Ok(()),
        done => done.map(drop),
    }
}
