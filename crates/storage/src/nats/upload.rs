//! From a body to an object.
//!
//! Invariants: an object is seen only when all of its chunks are stored; a name that is taken stays as it is. An upload
//! that fails or is dropped removes its chunks, unless nobody can tell whether it succeeded after all.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use ring::digest::{Context, SHA256};
use serde::de::IgnoredAny;
use walstream_ltx::Timestamp;

use super::bucket::Bucket;
use super::connection::{Connection, understand};
use super::failure::Failure;
use super::info::{CHUNK, Info};
use super::server::Server;
use crate::chunks::Chunks;
use crate::client::PutOutcome;
use crate::tries::Tries;

/// Chunks that are not confirmed yet: 2 MiB.
const CHUNKS_AT_ONCE: usize = 16;
/// Room for the subject and the like in a message.
const ENVELOPE: usize = 4 << 10;

/// Chunks without a description. They are removed when it is dropped.
struct Draft {
    server: Arc<Server>,
    bucket: Bucket,
    subject: String,
    keep: bool,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let (false, Ok(runtime)) = (self.keep, tokio::runtime::Handle::try_current()) {
            let (server, bucket) = (Arc::clone(&self.server), self.bucket.clone());
            let subject = std::mem::take(&mut self.subject);
            runtime.spawn(async move { server.remove_chunks(bucket, subject).await });
        }
    }
}

/// Stores a body under a name, unless the name is taken.
///
/// Crash points: before the description is stored there are chunks that nobody sees; after it the object is whole.
pub(super) async fn put(
    server: &Arc<Server>,
    bucket: &Bucket,
    name: &str,
    created_at: Timestamp,
    body: &mut Chunks,
) -> Result<PutOutcome, Failure> {
    server.remove_left_over().await;
    let connection = server.connection().await?;
    let found = bucket.find(&connection, name).await?;
    if found.as_ref().is_some_and(|found| !found.info.deleted) {
        return Ok(PutOutcome::AlreadyExists);
    }
    let chunk_size = CHUNK.min(connection.max_payload().saturating_sub(ENVELOPE)).max(1);
    let mut info = Info::new(&bucket.0, name, created_at, chunk_size);
    let subject = bucket.chunks(&info.nuid);
    let mut draft = Draft { server: Arc::clone(server), bucket: bucket.clone(), subject, keep: false };
    write(&connection, &draft, body, chunk_size, &mut info).await?;
    publish(&mut draft, &info, found.map_or(0, |found| found.sequence)).await
}

/// Stores the chunks, several at a time and in their order, and describes them.
async fn write(
    connection: &Connection,
    draft: &Draft,
    body: &mut Chunks,
    chunk_size: usize,
    info: &mut Info,
) -> Result<(), Failure> {
    let mut digest = Context::new(&SHA256);
    let breaks = connection.breaks();
    let (inbox, mut acks) = connection.inbox().await?;
    let mut under_way = 0;
    loop {
        let chunk = body.next(chunk_size).await.map_err(Failure::Ours)?;
        let is_end = chunk.is_empty();
        if !is_end {
            digest.update(&chunk);
            info.size += chunk.len() as u64;
            info.chunks += 1;
            connection.request_to(&inbox, breaks, draft.subject.clone(), chunk).await?;
            under_way += 1;
        }
        while under_way >= CHUNKS_AT_ONCE || is_end && under_way > 0 {
            let ack = connection.next(&draft.subject, breaks, &mut acks).await?;
            if ack.status.is_some() {
                return Err(Failure::Lost("no object store takes the chunks at the moment".into()));
            }
            understand::<IgnoredAny>(&ack)?;
            under_way -= 1;
        }
        if is_end {
            break;
        }
    }
    info.digest = Some(format!("SHA-256={}", URL_SAFE.encode(digest.finish())));
    Ok(())
}

/// Gives the chunks their name, unless it is taken. `after` is what the name's subject holds: nothing, or that
/// something was deleted.
async fn publish(draft: &mut Draft, info: &Info, mut after: u64) -> Result<PutOutcome, Failure> {
    let (server, bucket) = (Arc::clone(&draft.server), draft.bucket.clone());
    // From here on the chunks may belong to an object.
    draft.keep = true;
    let (mut tries, mut doubt) = (Tries::default(), false);
    loop {
        let stored = match server.connection().await {
            Ok(connection) => match bucket.publish(&connection, info, after).await {
                Err(failure) if failure.is_conflict() => bucket.find(&connection, &info.name).await.map(Some),
                stored => stored.map(|_| None),
            },
            Err(failure) => Err(failure),
        };
        match stored {
            Ok(None) => return Ok(PutOutcome::Created),
            Ok(Some(Some(found))) if found.info.nuid == info.nuid && !found.info.deleted => {
                return Ok(PutOutcome::Created);
            }
            Ok(Some(Some(found))) if !found.info.deleted => {
                draft.keep = false;
                return Ok(PutOutcome::AlreadyExists);
            }
            // Something was deleted meanwhile.
            Ok(Some(found)) => {
                after = found.map_or(0, |found| found.sequence);
                if !tries.again().await {
                    return Err(Failure::Lost("the name changes hands all the time".into()));
                }
            }
            Err(failure) => {
                doubt |= failure.leaves_doubt();
                if !(failure.may_pass() && tries.again().await) {
                    draft.keep = doubt;
                    return Err(failure);
                }
            }
        }
    }
}
