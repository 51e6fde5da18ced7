//! Whose the overflow pages are that differ.
//!
//! Invariant: a chain is followed from the cell where it begins, and no further than the cell says. What is not in a
//! page that differs is read only if pages are left that nothing else explains, as when SQLite has written over a large
//! value in its place.

use std::collections::HashMap;

use walstream_ltx::Pgno;

use super::btree::{Shape, TreePage, next_of_chain};
use super::changes::Changes;
use super::claims::Claims;
use super::versions::{Side, Versions};
use super::walk::Entries;
use crate::error::EngineError;

/// Pages that are read together, for a chain mostly lies in one piece.
const AHEAD: u32 = 16;

/// What is left of a chain.
struct Chain {
    side: Side,
    next: Pgno,
    left: u64,
}

impl Chain {
    /// Goes on as far as that is known without reading; whether there is more.
    fn go_on(&mut self, tree: usize, changes: &Changes, claims: &mut Claims) -> bool {
        while self.left > 0 {
            claims.claim(tree, self.side, self.next);
            let Some(head) = changes.head(self.side, self.next) else { return self.left > 1 };
            self.step(head.next_of_chain());
        }
        false
    }

    fn step(&mut self, next: Option<Pgno>) {
        match next {
            Some(next) => (self.next, self.left) = (next, self.left - 1),
            None => self.left = 0,
        }
    }

    /// The pages that probably come next.
    fn ahead(&self) -> impl Iterator<Item = (Side, Pgno)> {
        let count = u32::try_from(self.left - 1).map_or(AHEAD, |left| left.min(AHEAD));
        let numbers = self.next.get()..self.next.get().saturating_add(count);
        numbers.filter_map(Pgno::new).map(|pgno| (self.side, pgno))
    }
}

/// Follows the chains that begin in pages of a tree which are not the same in both states.
pub(super) async fn follow_own(
    versions: &mut Versions,
    (changes, claims, shapes): (&Changes, &mut Claims, &[Shape; 2]),
    (tree, entries): (usize, &Entries),
) -> Result<(), EngineError> {
    for side in Side::BOTH {
        let pages = &entries.own[side.index()];
        follow(versions, (changes, claims, shapes), (tree, &[side]), pages).await?;
    }
    Ok(())
}

/// Follows the chains that begin in pages of a tree which are the same in both states.
pub(super) async fn follow_shared(
    versions: &mut Versions,
    work: (&Changes, &mut Claims, &[Shape; 2]),
    (tree, entries): (usize, &Entries),
) -> Result<(), EngineError> {
    let pages = entries.shared.as_deref().unwrap_or_default();
    follow(versions, work, (tree, &Side::BOTH), pages).await
}

async fn follow(
    versions: &mut Versions,
    (changes, claims, shapes): (&Changes, &mut Claims, &[Shape; 2]),
    (tree, sides): (usize, &[Side]),
    pages: &[Pgno],
) -> Result<(), EngineError> {
    let longest =
        Side::BOTH.map(|side| u64::from(versions.header(side).commit.get())).into_iter().max().unwrap_or(0);
    for pgnos in pages.chunks(versions.batch()) {
        let open: Vec<Side> = sides.iter().copied().filter(|&side| !claims.are_complete(side)).collect();
        let Some(&side) = open.first() else { return Ok(()) };
        let wanted: Vec<_> = pgnos.iter().map(|&pgno| (side, pgno)).collect();
        let mut chains = Vec::new();
        for (&pgno, page) in pgnos.iter().zip(versions.pages(&wanted).await?) {
            let usable = shapes[side.index()].usable;
            let Some(page) = page.as_deref().and_then(|page| TreePage::parse(pgno, page, usable)) else {
                continue;
            };
            for (next, length) in page.chains() {
                let left = length.min(longest);
                chains.extend(open.iter().map(|&side| Chain { side, next, left }));
            }
        }
        follow_chains(versions, (changes, claims), tree, chains).await?;
    }
    Ok(())
}

async fn follow_chains(
    versions: &mut Versions,
    (changes, claims): (&Changes, &mut Claims),
    tree: usize,
    mut chains: Vec<Chain>,
) -> Result<(), EngineError> {
    loop {
        chains.retain_mut(|chain| chain.go_on(tree, changes, claims));
        chains.retain(|chain| !claims.are_complete(chain.side));
        if chains.is_empty() {
            return Ok(());
        }
        let at_once = (versions.batch() / AHEAD as usize).max(1);
        for chains in chains.chunks_mut(at_once) {
            let ahead: Vec<_> = chains.iter().flat_map(Chain::ahead).collect();
            let pages = versions.pages(&ahead).await?;
            let keys = ahead.into_iter().map(|(side, pgno)| (side.index(), pgno));
            let read: HashMap<_, _> = keys.zip(pages).collect();
            for chain in chains {
                while chain.left > 1
                    && !changes.contains(chain.next)
                    && let Some(page) = read.get(&(chain.side.index(), chain.next))
                {
                    chain.step(page.as_deref().and_then(next_of_chain));
                }
            }
        }
    }
}
