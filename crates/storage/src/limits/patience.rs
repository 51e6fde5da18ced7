//! How long a store may take for a call.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};
use tokio::time::Instant;

use super::Limits;
use crate::client::ReplicaClient;
use crate::error::StorageError;

/// Calls that may need many requests have so many times as long.
const MANY: u32 = 5;
/// As much as a store may collect before it sends it, while there is more to come; MiB.
const COLLECTED_MIB: u32 = 64;

/// The patience for one call.
pub(super) struct Patience<'a> {
    pub(super) limits: &'a Limits,
    pub(super) store: &'a dyn ReplicaClient,
    pub(super) operation: &'static str,
}

impl Patience<'_> {
    /// For a call that moves so many bytes.
    pub(super) async fn for_bytes<T>(
        &self,
        bytes: u64,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let mib = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
        self.until(self.limits.silence.saturating_add(self.limits.per_mib.saturating_mul(mib)), call).await
    }

    /// For a call that may need many requests.
    pub(super) async fn for_many<T>(
        &self,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        self.until(self.limits.silence.saturating_mul(MANY), call).await
    }

    async fn until<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(self.lost(limit)))
    }

    /// For an upload of unknown length: what counts is the time in which the store does not ask for more.
    pub(super) async fn for_supply<T>(
        &self,
        supply: &Supply,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let limit_of = |mib| {
            let limit = self.limits.silence.saturating_mul(MANY);
            limit.saturating_add(self.limits.per_mib.saturating_mul(mib))
        };
        let step = limit_of(COLLECTED_MIB) / 8;
        tokio::pin!(call);
        loop {
            let limit = limit_of(supply.may_be_collected());
            match tokio::time::timeout(step, &mut call).await {
                Ok(outcome) => return outcome,
                Err(_) if supply.unasked_for() >= limit => return Err(self.lost(limit)),
                Err(_) => {}
            }
        }
    }

    fn lost(&self, limit: Duration) -> StorageError {
        StorageError::Unavailable {
            location: self.store.location(),
            operation: self.operation,
            reason: format!("the store did not get it done within {} s", limit.as_secs()),
        }
    }
}

/// What a store takes of a body of unknown length.
#[derive(Default)]
pub(super) struct Supply {
    taken: Mutex<Taken>,
}

#[derive(Clone, Copy, Default)]
struct Taken {
    /// When it got the last chunk, or the end, unless it has asked for another since.
    given: Option<Instant>,
    bytes: u64,
    /// Whether it has everything. Some stores must have it all before they send any of it.
    ended: bool,
}

impl Supply {
    pub(super) fn watch(
        supply: &Arc<Supply>,
        body: BoxStream<'static, Result<Bytes, std::io::Error>>,
    ) -> BoxStream<'static, Result<Bytes, std::io::Error>> {
        Watched { supply: Arc::clone(supply), body }.boxed()
    }

    fn note(&self, next: &Poll<Option<Result<Bytes, std::io::Error>>>) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.given = next.is_ready().then(Instant::now);
        match next {
            Poll::Ready(Some(Ok(chunk))) => taken.bytes += chunk.len() as u64,
            Poll::Ready(None) => taken.ended = true,
            _ => {}
        }
    }

    fn taken(&self) -> Taken {
        *self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unasked_for(&self) -> Duration {
        self.taken().given.map_or(Duration::ZERO, |given| given.elapsed())
    }

    /// How much the store may have yet to send; MiB.
    fn may_be_collected(&self) -> u32 {
        let Taken { bytes, ended, .. } = self.taken();
        let all = u32::try_from(bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
        if ended { all.max(COLLECTED_MIB) } else { COLLECTED_MIB }
    }
}

struct Watched {
    supply: Arc<Supply>,
    body: BoxStream<'static, Result<Bytes, std::io::Error>>,
}

impl Stream for Watched {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.body.poll_next_unpin(context);
        self.supply.note(&next);
        next
    }
}

/// A download that goes on, and not too slowly. Only the time in which somebody waits for it counts.
pub(super) fn watch(
    body: BoxStream<'static, Result<Bytes, StorageError>>,
    limits: Limits,
    location: String,
) -> BoxStream<'static, Result<Bytes, StorageError>> {
    let watched = Download { body, limits, location, waited: Duration::ZERO, got: 0, over: false };
    stream::unfold(watched, |mut download| async { download.next().await.map(|item| (item, download)) })
        .boxed()
}

struct Download {
    body: BoxStream<'static, Result<Bytes, StorageError>>,
    limits: Limits,
    location: String,
    /// Since when this is counted: time of waiting, and bytes.
    waited: Duration,
    got: u64,
    over: bool,
}

impl Download {
    async fn next(&mut self) -> Option<Result<Bytes, StorageError>> {
        if self.over {
            return None;
        }
        let begun = Instant::now();
        let next = tokio::time::timeout(self.limits.silence, self.body.next()).await;
        self.waited += begun.elapsed();
        let item = match next {
            Err(_) => Err(self.given_up("nothing came")),
            Ok(None) => return None,
            Ok(Some(Err(error))) => Err(error),
            Ok(Some(Ok(chunk))) => {
                self.got += chunk.len() as u64;
                self.judge().map(|()| chunk)
            }
        };
        self.over = item.is_err();
        Some(item)
    }

    fn judge(&mut self) -> Result<(), StorageError> {
        if self.waited < self.limits.silence {
            return Ok(());
        }
        let wanted = u128::from(self.limits.slowest) * self.waited.as_millis() / 1000;
        let enough = u128::from(self.got) >= wanted;
        (self.waited, self.got) = (Duration::ZERO, 0);
        if enough { Ok(()) } else { Err(self.given_up("hardly anything came")) }
    }

    fn given_up(&self, what: &str) -> StorageError {
        StorageError::Unavailable {
            location: self.location.clone(),
            operation: "reading",
            reason: format!("{what} for {} s", self.limits.silence.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { silence: Duration::from_secs(10), slowest: 100, ..Limits::default() }
    }

    /// A body with so many bytes after so many seconds each.
    fn body(chunks: Vec<(u64, usize)>) -> BoxStream<'static, Result<Bytes, StorageError>> {
        let chunk = |(seconds, bytes)| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(Bytes::from(vec![0; bytes]))
        };
        stream::iter(chunks).then(chunk).boxed()
    }

    async fn outcome(chunks: Vec<(u64, usize)>) -> Result<usize, String> {
        let mut watched = watch(body(chunks), limits(), "here".to_owned());
        let mut bytes = 0;
        while let Some(item) = watched.next().await {
            bytes += item.map_err(|error| error.to_string())?.len();
        }
        Ok(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_download_that_goes_on_is_left_alone() {
        assert_eq!(outcome(vec![(0, 5), (9, 900), (9, 900), (9, 900)]).await, Ok(2705));
    }

    #[tokio::test(start_paused = true)]
    async fn a_download_that_drips_is_given_up() {
        let error = outcome(vec![(2, 10); 100]).await.unwrap_err();
        assert_eq!(error, "here: reading failed: hardly anything came for 10 s");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_a_download_may_take_all_the_time() {
        let mut watched = watch(body(vec![(0, 1); 5]), limits(), String::new());
        while let Some(chunk) = watched.next().await {
            chunk.unwrap();
            tokio::time::advance(Duration::from_secs(60)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_it_and_stays_the_end() {
        let mut watched = watch(body(vec![(0, 1), (11, 1), (0, 1)]), limits(), "here".to_owned());
        watched.next().await.unwrap().unwrap();
        let error = watched.next().await.unwrap().unwrap_err().to_string();
        assert_eq!(error, "here: reading failed: nothing came for 10 s");
        assert!(watched.next().await.is_none());
    }

    /// Takes a body of so many MiB, whole, and is then done after so many seconds.
    async fn collected(mib: usize, seconds: u64) -> Result<(), String> {
        let store =
            crate::file::FileClient::new(&crate::FileConfig { path: Some("/x".into()), access: None });
        let limits = Limits { per_mib: Duration::from_secs(1), ..limits() };
        let patience = Patience { limits: &limits, store: &store.unwrap(), operation: "upload" };
        let supply = Arc::new(Supply::default());
        let mut body =
            Supply::watch(&supply, stream::iter((0..mib).map(|_| Ok(Bytes::from(vec![0; 1 << 20])))).boxed());
        let call = async {
            while body.next().await.is_some() {}
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        };
        patience.for_supply(&supply, call).await.map_err(|error| error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_must_have_all_before_it_sends_any_has_time_for_all() {
        assert_eq!(collected(300, 340).await, Ok(()));
        assert_eq!(collected(1, 100).await, Ok(()));
        let error = collected(300, 500).await.unwrap_err();
        assert_eq!(error, "file:///x: upload failed: the store did not get it done within 350 s");
        assert!(collected(1, 200).await.is_err());
    }
}
