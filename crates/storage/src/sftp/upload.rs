//! From a body to a file.
//!
//! Invariants: a file has its name only when its content and its time are on the server's disk, as far as the server
//! lets that be known; an upload that fails or is dropped is taken back. What a crash leaves is removed by a later
//! listing ([`is_abandoned`]).

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use russh_sftp::protocol::{FileAttributes, OpenFlags};
use walstream_ltx::Timestamp;

use super::connection::{Connection, Opened};
use super::failure::Failure;
use super::publish::{Publishing, new_file, sync, unique};
use super::server::Server;
use crate::chunks::Chunks;
use crate::client::PutOutcome;

/// A temporary file is abandoned when it has not been written to for this long. Clocks may differ by less.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A file on its way to its name.
pub(super) struct Upload {
    temp: Temp,
    folder: Option<Opened>,
    target: String,
}

/// Removed when dropped.
struct Temp {
    server: Arc<Server>,
    file: Opened,
    path: String,
}

impl Drop for Temp {
    fn drop(&mut self) {
        let (server, connection) = (Arc::clone(&self.server), Arc::clone(&self.file.connection));
        let path = std::mem::take(&mut self.path);
        if let (false, Ok(runtime)) = (path.is_empty(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { server.remove_temp(&connection, path).await });
        }
    }
}

impl Upload {
    /// Begins to write the file `target`; `None` if that exists. Missing folders are made.
    pub(super) async fn begin(
        server: &Arc<Server>,
        connection: &Arc<Connection>,
        target: &str,
    ) -> Result<Option<Self>, Failure> {
        let (folder, name) = target.rsplit_once('/').unwrap_or((".", target));
        let path = format!("{folder}/.{name}.{}.tmp", unique());
        let open =
            || connection.ask_if_there(connection.sftp.open(&path, new_file(), FileAttributes::empty()));
        let (taken, opened) = tokio::join!(connection.exists(target), open());
        let opened = match opened? {
            Some(opened) => opened,
            None => {
                make_folders(connection, folder).await?;
                open().await?.ok_or_else(|| Failure::Lost(format!("{folder} vanished while it was used")))?
            }
        };
        let temp = Temp { server: Arc::clone(server), file: Opened::new(connection, opened.handle), path };
        if taken? {
            return Ok(None);
        }
        let folder = if connection.features.fsync { open_folder(connection, folder).await? } else { None };
        Ok(Some(Upload { temp, folder, target: target.to_owned() }))
    }

    /// Writes the whole body, several requests at a time, and makes it durable.
    pub(super) async fn write(&self, body: &mut Chunks, created_at: Timestamp) -> Result<(), Failure> {
        let Opened { connection, handle } = &self.temp.file;
        let mut under_way = FuturesUnordered::new();
        let mut at = 0;
        loop {
            let chunk = body.next(connection.features.write).await.map_err(Failure::Ours)?;
            if chunk.is_empty() {
                break;
            }
            let length = chunk.len() as u64;
            under_way.push(connection.ask(connection.sftp.write(handle, at, chunk.into())));
            at += length;
            // A request is sent when it is first looked at.
            while let Some(Some(written)) = under_way.next().now_or_never() {
                written?;
            }
            while under_way.len() >= connection.writes_at_once() {
                under_way.next().await.transpose()?;
            }
        }
        while under_way.next().await.transpose()?.is_some() {}
        // The time comes before the name: no crash may leave a file under its name with the time of the upload.
        if let Some(times) = times(created_at) {
            connection.ask(connection.sftp.fsetstat(handle, times)).await?;
        }
        sync(connection, handle).await
    }

    /// Gives the file its name, durably, unless the name is taken.
    pub(super) async fn publish(mut self, way: Publishing) -> Result<PutOutcome, Failure> {
        let connection = Arc::clone(&self.temp.file.connection);
        let outcome = way.publish(&connection, &self.temp.path, &self.target).await?;
        if outcome == PutOutcome::Created {
            if way != Publishing::Link {
                self.temp.path.clear();
            }
            if let Some(folder) = &self.folder {
                sync(&connection, &folder.handle).await?;
            }
        }
        Ok(outcome)
    }
}

/// A folder opened like a file, for its sync; not every server can.
async fn open_folder(connection: &Arc<Connection>, folder: &str) -> Result<Option<Opened>, Failure> {
    let opened = connection.sftp.open(folder, OpenFlags::READ, FileAttributes::empty());
    match connection.ask(opened).await {
        Ok(opened) => Ok(Some(Opened::new(connection, opened.handle))),
        Err(Failure::Answer { .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Makes a folder and those above it.
pub(super) async fn make_folders(connection: &Connection, folder: &str) -> Result<(), Failure> {
    // The lowest that is there, then downwards.
    let mut missing = vec![folder];
    while let Some((above, _)) = missing.last().and_then(|folder| folder.rsplit_once('/')) {
        if above.is_empty() || connection.exists(above).await? {
            break;
        }
        missing.push(above);
    }
    for folder in missing.into_iter().rev() {
        match connection.ask(connection.sftp.mkdir(folder, FileAttributes::empty())).await {
            // Another writer was quicker.
            Err(Failure::Answer { .. }) if connection.exists(folder).await? => {}
            done => drop(done?),
        }
    }
    Ok(())
}

/// The time of the header in whole seconds, and now as the time of the last access: it tells the age of a temporary
/// file. `None` for times that the protocol cannot express.
fn times(created_at: Timestamp) -> Option<FileAttributes> {
    let mtime = u32::try_from(created_at.as_millis().div_euclid(1000)).ok()?;
    Some(FileAttributes { mtime: Some(mtime), atime: Some(now()), ..FileAttributes::empty() })
}

fn now() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

/// Whether a name and its times are those of a temporary file, of ours or the peer's, that nobody works on any more.
pub(super) fn is_abandoned(name: &str, attributes: &FileAttributes) -> bool {
    let touched = attributes.mtime.max(attributes.atime);
    let age = touched.map_or(0, |touched| now().saturating_sub(touched));
    name.contains(".ltx.") && name.ends_with(".tmp") && u64::from(age) > ABANDONED_AFTER.as_secs()
}
