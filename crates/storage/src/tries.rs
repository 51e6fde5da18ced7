//! Trying again: how often, and after which pauses.
//!
//! Invariant: what many clients lost at the same moment they do not all ask for again at the same moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Five tries more, within some three seconds of waiting. More patience is the caller's, who can say meanwhile that the
/// store is away.
pub(crate) const RETRIES: usize = 5;
/// A single request is not made again after this time.
pub(crate) const RETRY_WITHIN: Duration = Duration::from_secs(30);
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The tries of one call.
pub(crate) struct Tries {
    left: usize,
    pause: Duration,
    until: Option<Instant>,
}

impl Default for Tries {
    /// However long each try takes: what is tried may be a long upload.
    fn default() -> Self {
        Tries { left: RETRIES, pause: FIRST_PAUSE, until: None }
    }
}

impl Tries {
    /// Those of a single request: so many more, and none after [`RETRY_WITHIN`].
    pub(crate) fn of_request(more: usize) -> Self {
        Tries { left: more, until: Some(Instant::now() + RETRY_WITHIN), ..Tries::default() }
    }

    /// Waits a little, each time longer; `false` if it was tried often enough.
    pub(crate) async fn again(&mut self) -> bool {
        self.again_after(None).await
    }

    /// Waits as long as the server wants, where it says so.
    pub(crate) async fn again_after(&mut self, wanted: Option<Duration>) -> bool {
        if self.left == 0 || self.until.is_some_and(|until| Instant::now() > until) {
            return false;
        }
        self.left -= 1;
        tokio::time::sleep(wanted.unwrap_or_else(|| jittered(self.pause))).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

/// Does something that may be done twice, again where the failure may pass.
pub(crate) async fn repeat<T, E, F>(may_pass: impl Fn(&E) -> bool, attempt: impl Fn() -> F) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let mut tries = Tries::default();
    loop {
        match attempt().await {
            Err(failure) if may_pass(&failure) && tries.again().await => {}
            done => return done,
        }
    }
}

/// Somewhere between half of it and the whole.
fn jittered(pause: Duration) -> Duration {
    // Each state is seeded at random; that is all the randomness that is needed.
    let chance = RandomState::new().build_hasher().finish() as u32;
    pause / 2 + (pause / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_differ_and_end() {
        let mut waits = Vec::new();
        for _ in 0..8 {
            let (mut tries, begun) = (Tries::default(), Instant::now());
            let mut count = 0;
            while tries.again().await {
                count += 1;
            }
            assert_eq!(count, RETRIES);
            waits.push(begun.elapsed());
        }
        let (least, most) = (Duration::from_millis(1550), Duration::from_millis(3120));
        assert!(waits.iter().all(|wait| (least..most).contains(wait)), "{waits:?}");
        waits.dedup();
        assert!(waits.len() > 1, "all clients come back at the same moment");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_wants_a_pause_gets_it_but_not_for_ever() {
        let mut tries = Tries::of_request(RETRIES);
        let begun = Instant::now();
        while tries.again_after(Some(Duration::from_secs(20))).await {}
        assert_eq!(begun.elapsed().as_secs(), 40);
        assert!(!Tries::of_request(0).again().await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_upload_that_breaks_is_tried_again() {
        let mut tries = Tries::default();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(tries.again().await);
    }
}
