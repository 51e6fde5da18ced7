//! A walk through b-trees in both states at once.
//!
//! Invariant: a page that does not differ and is in the same tree in both states is read once, and what hangs on it is
//! the same in both. Of leaves only those are read that tell how high a tree is: all of its leaves are equally deep. A
//! guide leaves out pages of tables that nothing hangs on that is looked for.

use walstream_ltx::Pgno;

use super::btree::{Shape, TreePage};
use super::changes::Changes;
use super::claims::Claims;
use super::versions::{Side, Versions};
use crate::error::EngineError;

/// SQLite follows no tree deeper.
const DEEPEST: usize = 20;

/// A tree to walk through: its number among all, and its root in each state, where it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    pub(super) number: usize,
    pub(super) roots: [Option<Pgno>; 2],
}

/// The pages of a tree that hold entries: the leaves of a table, every page of an index or of a table without rowids.
#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    /// In each state, those that differ or are not in this tree in the other state.
    pub(super) own: [Vec<Pgno>; 2],
    /// The same pages in both; `None` if there are too many.
    pub(super) shared: Option<Vec<Pgno>>,
}

/// Rowids in the pages of tables that are looked for, in order.
pub(super) struct Guide(Vec<i64>);

impl Guide {
    pub(super) fn new(mut rowids: Vec<i64>) -> Guide {
        rowids.sort_unstable();
        Guide(rowids)
    }

    /// Whether any of them is greater than the one and not greater than the other.
    fn leads_between(&self, above: Option<i64>, up_to: Option<i64>) -> bool {
        let first = self.0.partition_point(|&rowid| above.is_some_and(|above| rowid <= above));
        self.0.get(first).is_some_and(|&rowid| up_to.is_none_or(|up_to| rowid <= up_to))
    }
}

/// Which part of the trees is of interest.
#[derive(Clone, Copy)]
pub(super) struct Interest<'a> {
    /// With a guide, trees are those of tables with rowids.
    pub(super) guide: Option<&'a Guide>,
    /// Pages of each tree to keep that are the same in both states.
    pub(super) keep: usize,
}

/// Walks through `trees`, claims the pages that differ, and tells where the entries are.
pub(super) async fn walk(
    versions: &mut Versions,
    (changes, claims, shapes): (&Changes, &mut Claims, &[Shape; 2]),
    trees: &[Tree],
    interest: Interest<'_>,
) -> Result<Vec<Entries>, EngineError> {
    let heights = heights(versions, shapes, trees).await?;
    let begin = |(&tree, heights)| Walk::new(tree, heights, interest);
    let mut walks: Vec<Walk<'_>> = trees.iter().zip(&heights).map(begin).collect();
    let highest = walks.iter().map(|walk| walk.levels.len() - 1).max().unwrap_or_default();
    for height in (1..=highest).rev() {
        let mut jobs: Vec<(usize, Place, Pgno)> = Vec::new();
        for (number, walk) in walks.iter_mut().enumerate() {
            jobs.extend(
                walk.take_level(height, changes).into_iter().map(|(place, pgno)| (number, place, pgno)),
            );
        }
        for jobs in jobs.chunks(versions.batch()) {
            let wanted: Vec<_> = jobs.iter().map(|&(_, place, pgno)| (place.side(), pgno)).collect();
            let pages = versions.pages(&wanted).await?;
            for (&(number, place, pgno), page) in jobs.iter().zip(&pages) {
                let usable = shapes[place.side().index()].usable;
                let page = page.as_deref().and_then(|page| TreePage::parse(pgno, page, usable));
                if let Some(page) = page {
                    walks[number].expand(height, place, (pgno, &page), (changes, claims));
                }
            }
        }
    }
    for walk in &mut walks {
        for (place, pgno) in walk.take_level(0, changes) {
            walk.note_entries(place, pgno);
            walk.claim(place, pgno, claims);
        }
    }
    Ok(walks.into_iter().map(|walk| walk.entries).collect())
}

/// How many levels each tree has above its leaves, in each state; `None` where it is not there.
async fn heights(
    versions: &mut Versions,
    shapes: &[Shape; 2],
    trees: &[Tree],
) -> Result<Vec<[Option<usize>; 2]>, EngineError> {
    let mut heights = vec![[None; 2]; trees.len()];
    let roots = |(tree, roots): (usize, [Option<Pgno>; 2])| {
        Side::BOTH.into_iter().filter_map(move |side| Some((tree, side, roots[side.index()]?)))
    };
    let mut leftmost: Vec<_> = trees.iter().map(|tree| tree.roots).enumerate().flat_map(roots).collect();
    for depth in 0..DEEPEST {
        let mut below = Vec::new();
        for part in leftmost.chunks(versions.batch()) {
            let wanted: Vec<_> = part.iter().map(|&(_, side, pgno)| (side, pgno)).collect();
            let pages = versions.pages(&wanted).await?;
            for (&(tree, side, pgno), page) in part.iter().zip(&pages) {
                let usable = shapes[side.index()].usable;
                let page = page.as_deref().and_then(|page| TreePage::parse(pgno, page, usable));
                let Some(page) = page else { continue };
                match page.children().next() {
                    Some((child, _)) => below.push((tree, side, child)),
                    None => heights[tree][side.index()] = Some(depth),
                }
            }
        }
        leftmost = below;
    }
    Ok(heights)
}

/// Where a page is in a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In both states, and the same.
    Both,
    /// In one state; if in the other as well, it differs.
    Only(Side),
}

impl Place {
    /// A state that has it.
    fn side(self) -> Side {
        match self {
            Place::Both => Side::After,
            Place::Only(side) => side,
        }
    }

    fn is_in(self, side: Side) -> bool {
        self == Place::Both || self == Place::Only(side)
    }
}

/// The walk through one tree.
struct Walk<'a> {
    tree: usize,
    /// Pages that were found and not visited yet, by their height above the leaves.
    levels: Vec<[Vec<Pgno>; 2]>,
    entries: Entries,
    interest: Interest<'a>,
}

impl<'a> Walk<'a> {
    fn new(tree: Tree, heights: &[Option<usize>; 2], interest: Interest<'a>) -> Self {
        let highest = heights.iter().flatten().max().copied().unwrap_or_default();
        let mut levels = vec![<[Vec<Pgno>; 2]>::default(); highest + 1];
        for side in Side::BOTH.map(Side::index) {
            if let Some((root, height)) = tree.roots[side].zip(heights[side]) {
                levels[height][side].push(root);
            }
        }
        let entries = Entries { own: Default::default(), shared: Some(Vec::new()) };
        Walk { tree: tree.number, levels, entries, interest }
    }

    /// The pages of a level, each with its place.
    fn take_level(&mut self, height: usize, changes: &Changes) -> Vec<(Place, Pgno)> {
        let Some(level) = self.levels.get_mut(height) else { return Vec::new() };
        let [mut before, mut after] = std::mem::take(level);
        for pages in [&mut before, &mut after] {
            pages.sort_unstable();
            pages.dedup();
        }
        let shared =
            |pgno: &Pgno, other: &[Pgno]| other.binary_search(pgno).is_ok() && !changes.contains(*pgno);
        let of_before =
            before.iter().filter(|pgno| !shared(pgno, &after)).map(|&pgno| (Place::Only(Side::Before), pgno));
        let of_after = after.iter().map(|&pgno| match shared(&pgno, &before) {
            true => (Place::Both, pgno),
            false => (Place::Only(Side::After), pgno),
        });
        of_before.chain(of_after).collect()
    }

    /// Notes a page above the leaves and what hangs on it.
    fn expand(
        &mut self,
        height: usize,
        place: Place,
        (pgno, page): (Pgno, &TreePage<'_>),
        (changes, claims): (&Changes, &mut Claims),
    ) {
        self.claim(place, pgno, claims);
        if page.kind.is_index() {
            self.note_entries(place, pgno);
        }
        let mut above = None;
        for (child, up_to) in page.children() {
            let guide = self.interest.guide.filter(|_| place == Place::Both && height > 1);
            if guide.is_some_and(|guide| !guide.leads_between(above, up_to)) {
                self.entries.shared = None;
            } else if height == 1 && place == Place::Both {
                self.note_leaf_of_both(child, (changes, claims));
            } else {
                let sides = Side::BOTH.into_iter().filter(|&side| place.is_in(side));
                sides.for_each(|side| self.levels[height - 1][side.index()].push(child));
            }
            above = up_to;
        }
    }

    /// Most leaves are these. They are not gathered first, for there are many.
    fn note_leaf_of_both(&mut self, leaf: Pgno, (changes, claims): (&Changes, &mut Claims)) {
        if !changes.contains(leaf) {
            return self.note_entries(Place::Both, leaf);
        }
        for place in Side::BOTH.map(Place::Only) {
            self.note_entries(place, leaf);
            self.claim(place, leaf, claims);
        }
    }

    fn note_entries(&mut self, place: Place, pgno: Pgno) {
        match place {
            Place::Only(side) => self.entries.own[side.index()].push(pgno),
            Place::Both => {
                let shared = self.entries.shared.take().filter(|shared| shared.len() < self.interest.keep);
                self.entries.shared = shared.map(|mut shared| {
                    shared.push(pgno);
                    shared
                });
            }
        }
    }

    fn claim(&self, place: Place, pgno: Pgno, claims: &mut Claims) {
        if let Place::Only(side) = place {
            claims.claim(self.tree, side, pgno);
        }
    }
}
