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

    /// The pages that are not claimed yet and begin like pages of indexes, or else of tables with rowids.
    pub(super) fn open(&self, changes: &Changes, index: bool) -> impl Iterator<Item = (Side, Pgno)> {
        let is_wanted = move |side: Side, pgno| {
            let kind = changes.head(side, pgno).and_then(Head::kind);
            kind.is_some_and(|kind| kind.is_index() == index)
        };
        let of_side = move |side: Side| {
            let open = self.open[side.index()].iter().map(move |&pgno| (side, pgno));
            open.filter(move |&(side, pgno)| is_wanted(side, pgno))
        };
        Side::BOTH.into_iter().flat_map(of_side)
    }

    /// The pages of a tree in one state.
    pub(super) fn of(&self, tree: usize, side: Side) -> &[Pgno] {
        &self.owned[tree][side.index()]
    }
}
