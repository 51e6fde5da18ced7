//! Whose the pages are that differ.
//!
//! Invariant: in each state a page belongs to one tree at most, and only pages that differ are noted.

use std::collections::HashSet;

use walstream_ltx::Pgno;

use super::btree::{Head, Shape, free_pages};
use super::changes::Changes;
use super::versions::{Side, Versions};
use crate::error::EngineError;

/// What is known so far.
pub(super) struct Claims {
    /// The pages that belong to some tree, in either state, and it is not known to which.
    open: [HashSet<Pgno>; 2],
    /// For each tree, its pages in either state.
    owned: Vec<[Vec<Pgno>; 2]>,
}

impl Claims {
    /// Nothing is known but that free pages, and pages of the pointer map, belong to no tree.
    pub(super) async fn new(
        versions: &mut Versions,
        changes: &Changes,
        shapes: &[Shape; 2],
        trees: usize,
    ) -> Result<Claims, EngineError> {
        let lock = versions.page_size().lock_pgno();
        let open = Side::BOTH.map(|side| {
            let pages = changes.of(side).map(|(pgno, _)| pgno);
            pages.filter(|&pgno| !shapes[side.index()].is_map(pgno, lock)).collect()
        });
        let mut claims = Claims { open, owned: vec![Default::default(); trees] };
        for side in Side::BOTH {
            claims.leave_free_pages_out(versions, side, shapes[side.index()].free).await?;
        }
        Ok(claims)
    }

    async fn leave_free_pages_out(
        &mut self,
        versions: &mut Versions,
        side: Side,
        first: Option<Pgno>,
    ) -> Result<(), EngineError> {
        let (mut next, mut left) = (first, versions.header(side).commit.get());
        while let Some(pgno) = next.take_if(|_| left > 0 && !self.open[side.index()].is_empty()) {
            let page = versions.pages(&[(side, pgno)]).await?.pop().flatten();
            let Some(page) = page else { break };
            let (following, free) = free_pages(&page);
            self.open[side.index()].remove(&pgno);
            free.for_each(|free| _ = self.open[side.index()].remove(&free));
            (next, left) = (following, left - 1);
        }
        Ok(())
    }

    /// Notes that a page of one state belongs to a tree, if it is one of those that differ.
    pub(super) fn claim(&mut self, tree: usize, side: Side, pgno: Pgno) {
        if self.open[side.index()].remove(&pgno) {
            self.owned[tree][side.index()].push(pgno);
        }
    }

    /// Whether all is known of one state.
    pub(super) fn are_complete(&self, side: Side) -> bool {
        self.open[side.index()].is_empty()
    }

    /// Whether any page that is not claimed yet begins like this.
    pub(super) fn any_open(&self, changes: &Changes, like: impl Fn(Head) -> bool) -> bool {
        let open = |side: &Side| {
            let head = |&pgno: &Pgno| changes.head(*side, pgno);
            self.open[side.index()].iter().filter_map(head).any(&like)
        };
        Side::BOTH.iter().any(open)
    }

    /// The pages of a tree in one state.
    pub(super) fn of(&self, tree: usize, side: Side) -> &[Pgno] {
        &self.owned[tree][side.index()]
    }
}
