//! Writing one file under a name that is free.
//!
//! Invariant: a file gets its name by a rename that leaves an existing one alone, after the server has said that it has
//! the whole content; so whatever goes wrong, the name stands for the whole file or for nothing.
//!
//! Crash points: before the rename there is only a temporary file, which no listing shows and which is removed days
//! later; after it, only our knowledge of it may be lost, and the next try finds the name taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::{Response, StatusCode};
use url::Url;
use walstream_ltx::{FileName, Timestamp};

use super::body::Body;
use super::exchange::Request;
use super::failure::Place;
use super::server::Server;
use crate::client::PutOutcome;
use crate::error::StorageError;

/// Older temporary files belong to nobody any more: no upload takes so long.
const ABANDONED_AFTER: Duration = Duration::from_secs(3 * 24 * 3600);
/// Nextcloud refuses times of the first day as a mistake.
const FIRST_TIME: i64 = 24 * 3600;

/// Where a file will be.
pub(super) struct Target {
    pub(super) server: Arc<Server>,
    pub(super) place: Place,
    pub(super) url: Url,
    /// Its path below the server's base.
    pub(super) path: String,
}

/// A temporary file beside its target. Dropped before it is settled, it is deleted.
pub(super) struct Temp<'a> {
    target: &'a Target,
    url: Option<Url>,
}

impl Target {
    /// Whether the name is taken.
    pub(super) async fn exists(&self) -> Result<bool, StorageError> {
        let answer = self.server.send(Request::new("HEAD", &self.url)).await;
        let response = answer.map_err(|trouble| self.place.failed("looking it up", &trouble))?;
        match response.status() {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(false),
            _ => Err(self.place.refused("looking it up", response).await),
        }
    }

    /// A temporary file that nothing was written to yet.
    pub(super) fn temp(&self) -> Temp<'_> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unique = format!("{:x}-{:x}-{:x}", std::process::id(), now.subsec_nanos(), number);
        // No dot at the beginning: many servers deny access to such names.
        let path = format!("{}.{:x}-{unique}.tmp", self.path, now.as_secs());
        Temp { target: self, url: Some(self.server.url(&path)) }
    }
}

impl Temp<'_> {
    /// Writes the whole content; `Some` is the answer of a server that refuses.
    pub(super) async fn write(
        &self,
        body: &Body,
        created_at: Timestamp,
    ) -> Result<Option<Response>, StorageError> {
        let Target { server, place, url, .. } = self.target;
        let url = self.url.as_ref().unwrap_or(url);
        let mut request =
            Request::new("PUT", url).body(body).header("content-type", "application/octet-stream");
        let seconds = created_at.as_millis() / 1000;
        if seconds > FIRST_TIME {
            // Nextcloud, ownCloud and rclone give the file this time; others ignore it.
            request = request.header("x-oc-mtime", seconds.to_string());
        }
        let response = server.send(request).await.map_err(|trouble| place.failed("upload", &trouble))?;
        Ok((!response.status().is_success()).then_some(response))
    }

    /// Gives the file its name, if that is free.
    pub(super) async fn publish(mut self) -> Result<PutOutcome, StorageError> {
        let outcome = self.rename().await;
        match outcome {
            Ok(PutOutcome::Created) => self.url = None,
            _ => self.remove().await,
        }
        outcome
    }

    async fn rename(&self) -> Result<PutOutcome, StorageError> {
        let Target { server, place, url, .. } = self.target;
        let from = self.url.as_ref().unwrap_or(url);
        loop {
            let by_path = server.wants_paths.load(Ordering::Relaxed);
            let to = if by_path { url.path() } else { url.as_str() };
            let request = Request::new("MOVE", from).header("destination", to).header("overwrite", "F");
            let response = server.send(request).await.map_err(|trouble| place.failed("upload", &trouble))?;
            match response.status().as_u16() {
                201 | 204 => return Ok(PutOutcome::Created),
                412 => return Ok(PutOutcome::AlreadyExists),
                // The source is gone: the answer to an earlier try was lost.
                404 | 409 if self.target.exists().await? => return Ok(PutOutcome::AlreadyExists),
                404 | 409 => return Err(place.unavailable("upload", "the server lost the temporary file")),
                // Behind a proxy a server may take its own URL for that of another.
                400 | 502 if !by_path => server.wants_paths.store(true, Ordering::Relaxed),
                _ => {
                    server.wants_paths.store(false, Ordering::Relaxed);
                    return Err(place.refused("upload", response).await);
                }
            }
        }
    }

    /// Deletes it. It is not worth an error if that fails.
    pub(super) async fn remove(mut self) {
        if let Some(url) = self.url.take() {
            remove(&self.target.server, &url).await;
        }
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if let (Some(url), Ok(runtime)) = (self.url.take(), tokio::runtime::Handle::try_current()) {
            let server = Arc::clone(&self.target.server);
            runtime.spawn(async move { remove(&server, &url).await });
        }
    }
}

/// Deletes a temporary file.
pub(super) async fn remove(server: &Server, url: &Url) {
    match server.send(Request::new("DELETE", url)).await {
        Ok(response) if response.status().is_success() || response.status() == StatusCode::NOT_FOUND => {}
        Ok(response) => tracing::debug!(%url, status = %response.status(), "cannot delete a temporary file"),
        Err(error) => tracing::debug!(%url, %error, "cannot delete a temporary file"),
    }
}

/// Whether a name is one that [`Target::temp`] gave long ago.
pub(super) fn is_abandoned(name: &str, now: SystemTime) -> bool {
    let begun = || {
        let (file, rest) = name.strip_suffix(".tmp")?.split_once(".ltx.")?;
        format!("{file}.ltx").parse::<FileName>().ok()?;
        let seconds = u64::from_str_radix(rest.split('-').next()?, 16).ok()?;
        UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    };
    let age = begun().and_then(|begun| now.duration_since(begun).ok());
    age.is_some_and(|age| age > ABANDONED_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_temporary_files_of_ours_are_abandoned() {
        let file = "0000000000000001-0000000000000001.ltx";
        let now = UNIX_EPOCH + Duration::from_secs(0x6000_0000);
        for (name, abandoned) in [
            (format!("{file}.5fff0000-1-2-3.tmp"), false),
            (format!("{file}.5ff00000-1-2-3.tmp"), true),
            (format!("{file}.6fffffff-1-2-3.tmp"), false),
            (format!("{file}.tmp"), false),
            (format!("{file}.zz-1.tmp"), false),
            (format!("{file}.ffffffffffffffff-1.tmp"), false),
            ("notes.ltx.1-1.tmp".to_owned(), false),
            (file.to_owned(), false),
        ] {
            assert_eq!(is_abandoned(&name, now), abandoned, "{name}");
        }
    }
}
