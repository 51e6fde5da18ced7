//! Trying again: how often, and after which pauses.
//!
//! Invariant: what many clients lost at the same moment they do not all ask for again at the same moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// Five tries more, within some three seconds of waiting. More patience is the caller's, who can say meanwhile that the
/// store is away.
const MOST: usize = 5;
const WITHIN: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The tries of one call.
pub(crate) struct Tries {
    left: usize,
    pause: Duration,
    begun: Instant,
}

impl Default for Tries {
    fn default() -> Self {
        Tries { left: MOST, pause: FIRST_PAUSE, begun: Instant::now() }
    }
}

impl Tries {
    /// So many more at most; for the first check, where an answer at once matters more than success.
    pub(crate) fn at_most(more: usize) -> Self {
        Tries { left: more, ..Tries::default() }
    }

    /// Waits a little, each time longer; `false` if it was tried often enough.
    pub(crate) async fn again(&mut self) -> bool {
        self.again_after(None).await
    }

    /// Waits as long as the server wants, where it says so.
    pub(crate) async fn again_after(&mut self, wanted: Option<Duration>) -> bool {
        if self.left == 0 || self.begun.elapsed() > WITHIN {
            return false;
        }
        self.left -= 1;
        tokio::time::sleep(wanted.unwrap_or_else(|| jittered(self.pause))).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
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
            assert_eq!(count, MOST);
            waits.push(begun.elapsed());
        }
        let (least, most) = (Duration::from_millis(1550), Duration::from_millis(3120));
        assert!(waits.iter().all(|wait| (least..most).contains(wait)), "{waits:?}");
        waits.dedup();
        assert!(waits.len() > 1, "all clients come back at the same moment");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_wants_a_pause_gets_it_but_not_for_ever() {
        let mut tries = Tries::default();
        let begun = Instant::now();
        while tries.again_after(Some(Duration::from_secs(20))).await {}
        assert_eq!(begun.elapsed().as_secs(), 40);
        assert!(!Tries::at_most(0).again().await);
    }
}
