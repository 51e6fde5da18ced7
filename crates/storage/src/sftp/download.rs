//! Reading files and folders.
//!
//! Invariant: memory is bounded by what was asked for, or by the requests under way.

use std::ops::Range;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use russh_sftp::protocol::{File, FileAttributes, OpenFlags};

use super::connection::{Connection, Opened};
use super::failure::Failure;

/// Room that is made for an answer before any of it is there.
const LARGEST_READ: u64 = 8 << 20;

/// A range of a file, as far as the file goes.
pub(super) async fn read(
    connection: &Arc<Connection>,
    path: &str,
    range: Range<u64>,
) -> Result<Vec<u8>, Failure> {
    let opened = connection.ask(connection.sftp.open(path, OpenFlags::READ, FileAttributes::empty())).await?;
    let file = Opened::new(connection, opened.handle);
    read_open(&file, range).await
}

async fn read_open(file: &Opened, range: Range<u64>) -> Result<Vec<u8>, Failure> {
    let step = u64::from(file.connection.features.read);
    let mut bytes =
        Vec::with_capacity(usize::try_from((range.end - range.start).min(LARGEST_READ)).unwrap_or(0));
    let starts = stream::iter((range.start..range.end).step_by(usize::try_from(step).unwrap_or(usize::MAX)));
    let parts = starts.map(|from| async move {
        let wanted = range.end.min(from.saturating_add(step)) - from;
        let part = read_part(file, from, wanted).await?;
        Ok::<_, Failure>((part.len() as u64 == wanted, part))
    });
    let mut parts = std::pin::pin!(parts.buffered(file.connection.reads_at_once()));
    while let Some((whole, part)) = parts.try_next().await? {
        bytes.extend_from_slice(&part);
        // The file ends here.
        if !whole {
            break;
        }
    }
    Ok(bytes)
}

/// So many bytes, fewer only where the file ends. A server may give less than it was asked for.
async fn read_part(file: &Opened, from: u64, wanted: u64) -> Result<Vec<u8>, Failure> {
    let Opened { connection, handle } = file;
    let mut part = Vec::new();
    while (part.len() as u64) < wanted {
        let have = part.len() as u64;
        let length = u32::try_from(wanted - have).unwrap_or(u32::MAX);
        match connection.ask(connection.sftp.read(handle, from + have, length)).await {
            Ok(data) if data.data.is_empty() => break,
            Ok(data) if part.is_empty() => part = data.data,
            Ok(data) => part.extend_from_slice(&data.data),
            Err(failure) if failure.is_end() => break,
            Err(failure) => return Err(failure),
        }
    }
    Ok(part)
}

/// What lies in a folder; nothing if there is no such folder.
pub(super) async fn entries_of(connection: &Arc<Connection>, folder: &str) -> Result<Vec<File>, Failure> {
    let Some(opened) = connection.ask_if_there(connection.sftp.opendir(folder)).await? else {
        return Ok(Vec::new());
    };
    let opened = Opened::new(connection, opened.handle);
    let mut entries = Vec::new();
    loop {
        match connection.ask(connection.sftp.readdir(&opened.handle)).await {
            Ok(name) if name.files.is_empty() => return Ok(entries),
            Ok(name) => entries.extend(name.files),
            Err(failure) if failure.is_end() => return Ok(entries),
            Err(failure) => return Err(failure),
        }
    }
}
