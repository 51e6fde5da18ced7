//! What the pages that differ belong to.
//!
//! Invariant: it goes from what is likely and cheap to what is not, and ends when every page is explained. In a sound
//! database every page is, so a wrong guess costs time and nothing else.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::Path;

use walstream_ltx::Pgno;

use super::Differences;
use super::btree::{Shape, TreePage};
use super::changes::Changes;
use super::claims::Claims;
use super::objects::Objects;
use super::overflow::{follow_own, follow_shared};
use super::rows::Count;
use super::schema::objects;
use super::versions::{Side, Versions};
use super::walk::{Entries, Guide, Interest, Tree, walk};
use crate::error::EngineError;

/// The pages that are read, at most, to count the rows of a table that nobody asked to count.
const FEW: usize = 64;
/// With more pages of tables than these, no guide is made: they are everywhere.
const MANY: usize = 1024;

/// Finds out what the pages that differ belong to, and counts rows: all rows of the tables with such pages if
/// `count_all`.
pub(super) async fn explain(
    versions: &mut Versions,
    changes: &Changes,
    scratch: &Path,
    count_all: bool,
) -> Result<Differences, EngineError> {
    if changes.len() == 0 {
        return Ok(Differences { pages: 0, other_pages: 0, objects: Vec::new() });
    }
    let (mut shapes, mut named) = ([Shape::default(); 2], [Vec::new(), Vec::new()]);
    for side in Side::BOTH {
        let first = versions.pages(&[(side, Pgno::FIRST)]).await?.pop().flatten();
        let shape = first.and_then(|page| Shape::of(&page)).unwrap_or_default();
        shapes[side.index()] = shape;
        named[side.index()] = objects(versions, side, shape, scratch).await?;
    }
    let all = Objects::pair(named, changes);
    let claims = Claims::new(versions, changes, &shapes, all.numbers().len()).await?;
    let entries = vec![None; all.numbers().len()];
    let mut work = Explanation { versions, changes, shapes, all, claims, entries, count_all };
    work.find_trees().await?;
    work.find_chains().await?;
    work.differences().await
}

/// The state of the work.
struct Explanation<'a> {
    versions: &'a mut Versions,
    changes: &'a Changes,
    shapes: [Shape; 2],
    all: Objects,
    claims: Claims,
    /// Of each tree that was walked through.
    entries: Vec<Option<Entries>>,
    count_all: bool,
}

impl Explanation<'_> {
    /// Walks through the trees that pages of their kind are looked for in, and those that are in one state only.
    async fn find_trees(&mut self) -> Result<(), EngineError> {
        let always = |&number: &usize| number == 0 || !self.all.is_in_both(number);
        let (always, others): (Vec<usize>, Vec<usize>) = self.all.numbers().partition(always);
        self.walk(&always, None).await?;
        let (tables, indexes): (Vec<usize>, Vec<usize>) =
            others.into_iter().partition(|&number| self.all.is_table(number));
        let (like_indexes, tables) = self.by_root(tables).await?;
        if self.looks_for(false) {
            let guide = self.guide().await?;
            self.walk(&tables, guide.as_ref()).await?;
        }
        if self.looks_for(true) {
            self.walk(&like_indexes, None).await?;
        }
        let changed: Vec<usize> = self.all.numbers().filter(|&number| self.claimed(number) > 0).collect();
        let (likely, others): (Vec<usize>, Vec<usize>) =
            indexes.into_iter().partition(|&number| self.all.belongs_to(number, &changed));
        for indexes in [likely, others] {
            if self.looks_for(true) {
                self.walk(&indexes, None).await?;
            }
        }
        Ok(())
    }

    /// Whether pages are not explained yet that look like those of indexes, or else of tables with rowids.
    fn looks_for(&self, index: bool) -> bool {
        self.claims.open(self.changes, index).next().is_some()
    }

    /// How many pages are known to belong to a tree.
    fn claimed(&self, number: usize) -> usize {
        Side::BOTH.map(|side| self.claims.of(number, side).len()).iter().sum()
    }

    /// Tables without rowids, which are like indexes, and the others.
    async fn by_root(&mut self, tables: Vec<usize>) -> Result<(Vec<usize>, Vec<usize>), EngineError> {
        let root = |&number: &usize| self.all.tree(number).roots[Side::After.index()];
        let wanted: Vec<_> = tables.iter().filter_map(root).map(|root| (Side::After, root)).collect();
        let mut like_indexes = BTreeSet::new();
        for wanted in wanted.chunks(self.versions.batch()) {
            for (&(side, pgno), page) in wanted.iter().zip(self.versions.pages(wanted).await?) {
                let usable = self.shapes[side.index()].usable;
                let page = page.as_deref().and_then(|page| TreePage::parse(pgno, page, usable));
                like_indexes.extend(page.filter(|page| page.kind.is_index()).map(|_| pgno));
            }
        }
        Ok(tables.iter().partition(|number| root(number).is_some_and(|root| like_indexes.contains(&root))))
    }

    /// Where to look for the pages of tables that are not explained yet; `None` for everywhere.
    async fn guide(&mut self) -> Result<Option<Guide>, EngineError> {
        let open: Vec<_> = self.claims.open(self.changes, false).take(MANY + 1).collect();
        if self.count_all || open.len() > MANY {
            return Ok(None);
        }
        let mut rowids = Vec::new();
        for wanted in open.chunks(self.versions.batch()) {
            for (&(side, pgno), page) in wanted.iter().zip(self.versions.pages(wanted).await?) {
                let usable = self.shapes[side.index()].usable;
                let page = page.as_deref().and_then(|page| TreePage::parse(pgno, page, usable));
                rowids.push(page.and_then(|page| page.any_rowid()));
            }
        }
        let rowids: Option<Vec<i64>> = rowids.into_iter().collect();
        Ok(rowids.map(Guide::new))
    }

    async fn walk(&mut self, numbers: &[usize], guide: Option<&Guide>) -> Result<(), EngineError> {
        let keep = if self.count_all { usize::MAX } else { FEW };
        self.walk_with(numbers, Interest { guide, keep }).await
    }

    async fn walk_with(&mut self, numbers: &[usize], interest: Interest<'_>) -> Result<(), EngineError> {
        let trees: Vec<Tree> = numbers.iter().map(|&number| self.all.tree(number)).collect();
        let work = (self.changes, &mut self.claims, &self.shapes);
        let walked = walk(self.versions, work, &trees, interest).await?;
        for (&number, entries) in numbers.iter().zip(walked) {
            self.entries[number] = Some(entries);
        }
        Ok(())
    }

    /// What is left belongs to overflow chains. Most of these begin in pages that differ; for others all is read.
    async fn find_chains(&mut self) -> Result<(), EngineError> {
        for number in self.all.numbers() {
            let Some(entries) = &self.entries[number] else { continue };
            let work = (self.changes, &mut self.claims, &self.shapes);
            follow_own(self.versions, work, (number, entries)).await?;
        }
        for number in self.likely_first() {
            if Side::BOTH.iter().all(|&side| self.claims.are_complete(side)) {
                break;
            }
            self.walk_with(&[number], Interest { guide: None, keep: usize::MAX }).await?;
            let Some(entries) = &self.entries[number] else { continue };
            let work = (self.changes, &mut self.claims, &self.shapes);
            follow_own(self.versions, work, (number, entries)).await?;
            let work = (self.changes, &mut self.claims, &self.shapes);
            follow_shared(self.versions, work, (number, entries)).await?;
        }
        Ok(())
    }

    /// Trees with other pages that differ, then tables, then indexes.
    fn likely_first(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = self.all.numbers().collect();
        numbers.sort_by_key(|&number| Reverse((self.claimed(number), self.all.is_table(number))));
        numbers
    }

    async fn differences(mut self) -> Result<Differences, EngineError> {
        let mut owned = BTreeSet::new();
        let mut objects = Vec::new();
        for number in self.all.numbers() {
            let claimed = Side::BOTH.map(|side| self.claims.of(number, side).to_vec());
            owned.extend(claimed.iter().flatten().copied());
            if self.claimed(number) > 0 || !self.all.is_in_both(number) {
                let count = self.count(number).await?;
                objects.extend(self.all.describe(number, claimed, count));
            }
        }
        objects.sort_by_key(|object| Reverse(object.pages));
        let pages = self.changes.len();
        Ok(Differences { pages, other_pages: pages - owned.len(), objects })
    }

    async fn count(&mut self, number: usize) -> Result<Option<Count>, EngineError> {
        let most = if self.count_all { usize::MAX } else { FEW };
        match self.entries[number].as_ref().filter(|_| self.all.is_table(number)) {
            Some(entries) => {
                Count::of(self.versions, (self.changes, &self.shapes), entries, most).await.map(Some)
            }
            None => Ok(None),
        }
    }
}
