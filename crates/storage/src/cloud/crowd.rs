//! How many parts of uploads a store takes at once.
//!
//! Invariant: as many as are wanted until the store refuses one for being too many; then fewer than were under way, for
//! as long as the connections live, but always one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The parts under way in one bucket.
#[derive(Debug)]
pub(super) struct Crowd {
    state: Mutex<State>,
    left: Notify,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    limit: usize,
}

/// A part that is under way; dropped, it makes room for another.
pub(super) struct Entered<'a>(&'a Crowd);

impl Default for Crowd {
    fn default() -> Self {
        Crowd { state: Mutex::new(State { under_way: 0, limit: usize::MAX }), left: Notify::new() }
    }
}

impl Crowd {
    /// Waits until there is room.
    pub(super) async fn enter(&self) -> Entered<'_> {
        loop {
            if self.try_enter() {
                return Entered(self);
            }
            self.left.notified().await;
        }
    }

    fn try_enter(&self) -> bool {
        let mut state = self.state();
        let has_room = state.under_way < state.limit;
        state.under_way += usize::from(has_room);
        has_room
    }

    /// Notes that the store has refused one of those that are under way.
    pub(super) fn refused(&self) {
        let mut state = self.state();
        let fewer = state.under_way.saturating_sub(1).max(1);
        state.limit = state.limit.min(fewer);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
        // It is kept for whoever has just seen that there is no room.
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_refusal_there_is_room_for_one_less() {
        let crowd = Crowd::default();
        let (first, second, third) = (crowd.enter().await, crowd.enter().await, crowd.enter().await);
        crowd.refused();
        drop(third);
        assert!(!crowd.try_enter());
        drop(second);
        let again = crowd.enter().await;
        crowd.refused();
        crowd.refused();
        drop((first, again));
        let _only = crowd.enter().await;
        assert!(!crowd.try_enter());
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_room_of_whoever_leaves() {
        let crowd = Crowd::default();
        let (first, second) = (crowd.enter().await, crowd.enter().await);
        crowd.refused();
        drop(second);
        let waiting = crowd.enter();
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(first);
        waiting.await;
    }
}
