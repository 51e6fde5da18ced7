//! Those who wait until something is on the replica.
//!
//! Invariant: nobody's wait costs a capture or an upload of its own. Who waits joins the next capture that the pace allows,
//! and is answered after the first upload that covers it, together with all others.

use walstream_ltx::Txid;

use super::command::Answer;

/// What somebody waited for, and how far the replica was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// What he waited for.
    pub txid: Txid,
    /// Everything up to here is on the replica.
    pub replica: Txid,
}

/// How far a replica is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    /// Level 0 is there up to this TXID.
    pub(crate) uploaded: Txid,
    /// The newest snapshot is of this TXID.
    pub(crate) snapshot: Txid,
    /// From this TXID on, states need a snapshot that is as new; zero: they need none.
    pub(crate) snapshot_wanted: Txid,
}

impl Reached {
    fn newest(self) -> Txid {
        self.uploaded.max(self.snapshot)
    }

    /// Whether what was committed up to a TXID can be restored.
    fn covers(self, txid: Txid) -> bool {
        let leads_on = self.snapshot_wanted > txid || self.snapshot >= self.snapshot_wanted;
        self.snapshot >= txid || (self.uploaded >= txid && leads_on)
    }
}

/// Everybody who waits for one database.
#[derive(Default)]
pub(crate) struct Waiters {
    /// For what is committed now, which is not captured yet.
    joining: Vec<Answer<Shipped>>,
    waiting: Vec<(Txid, Answer<Shipped>)>,
}

impl Waiters {
    /// Somebody waits for everything that is committed now.
    pub(crate) fn join(&mut self, answer: Answer<Shipped>) {
        self.joining.push(answer);
    }

    /// Somebody waits for a TXID.
    pub(crate) fn wait(&mut self, txid: Txid, answer: Answer<Shipped>) {
        self.waiting.push((txid, answer));
    }

    /// Whether somebody waits for a capture.
    pub(crate) fn need_capture(&self) -> bool {
        !self.joining.is_empty()
    }

    /// Whether somebody waits for an upload.
    pub(crate) fn need_upload(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Everything that was committed when the last of them joined is captured, up to this TXID.
    pub(crate) fn captured(&mut self, txid: Txid) {
        self.waiting.extend(self.joining.drain(..).map(|answer| (txid, answer)));
    }

    /// Answers those who have waited long enough, and forgets those who have lost patience.
    pub(crate) fn answer(&mut self, reached: Reached) {
        let covered =
            |(txid, answer): &mut (Txid, Answer<Shipped>)| answer.is_closed() || reached.covers(*txid);
        for (txid, answer) in self.waiting.extract_if(.., covered) {
            // One who has lost patience does not need it.
            let _ = answer.send(Ok(Shipped { txid, replica: reached.newest() }));
        }
        self.joining.retain(|answer| !answer.is_closed());
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn reached(uploaded: u64, snapshot: u64, snapshot_wanted: u64) -> Reached {
        let [uploaded, snapshot, snapshot_wanted] = [uploaded, snapshot, snapshot_wanted].map(Txid::new);
        Reached { uploaded, snapshot, snapshot_wanted }
    }

    #[test]
    fn a_state_is_there_once_it_can_be_restored() {
        for (at, covers) in [
            (reached(4, 1, 1), false),
            (reached(5, 1, 1), true),
            (reached(0, 6, 6), true),
            // The snapshot that it needs is not there.
            (reached(5, 1, 3), false),
            (reached(5, 3, 3), true),
            // One that only later states need does not matter.
            (reached(5, 1, 7), true),
        ] {
            assert_eq!(at.covers(Txid::new(5)), covers, "{at:?}");
        }
    }

    #[test]
    fn all_who_wait_for_the_same_are_answered_together() {
        let mut waiters = Waiters::default();
        let (first, mut first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        let (gone, _) = oneshot::channel();
        waiters.join(first);
        waiters.join(gone);
        waiters.wait(Txid::new(3), second);
        waiters.captured(Txid::new(2));
        assert!(!waiters.need_capture());
        waiters.answer(reached(1, 1, 1));
        assert!(first_answer.try_recv().is_err());
        waiters.answer(reached(2, 1, 1));
        let shipped = first_answer.try_recv().unwrap().unwrap();
        assert_eq!(shipped, Shipped { txid: Txid::new(2), replica: Txid::new(2) });
        assert!(second_answer.try_recv().is_err() && waiters.need_upload());
        waiters.answer(reached(3, 1, 1));
        assert!(second_answer.try_recv().is_ok() && !waiters.need_upload());
    }
}
