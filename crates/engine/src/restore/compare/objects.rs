//! Which tables and indexes the pages belong to that differ.
//!
//! Invariant: an object has one tree, whose number is its place in [`Objects`]. One that is in both states under one
//! name is one object; one that got another name is one tree all the same, so that nothing of it is read that did not
//! change.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use walstream_ltx::Pgno;

use super::btree::{Head, Kind, Shape};
use super::changes::Changes;
use super::claims::Claims;
use super::overflow::{follow_own, follow_shared};
use super::rows::{Count, Rows, change};
use super::schema::{Object, objects};
use super::versions::{Side, Versions};
use super::walk::{Entries, Tree, walk};
use super::{ChangedObject, Differences};
use crate::error::EngineError;

/// The pages that are read, at most, to count the rows of a table that nobody asked to count.
const FEW: usize = 64;

/// What a tree is called in each state.
type Named = [Option<Object>; 2];

/// Every table and index of both states.
struct Objects(Vec<Named>);

impl Objects {
    fn pair([before, after]: [Vec<Object>; 2], changes: &Changes) -> Objects {
        let mut later: Vec<Option<Object>> = after.into_iter().map(Some).collect();
        let names =
            later.iter().enumerate().filter_map(|(at, object)| Some((object.as_ref()?.name.clone(), at)));
        let names: HashMap<String, usize> = names.collect();
        let mut pairs: Vec<Named> = Vec::new();
        for object in before {
            let same = names.get(&object.name).and_then(|&at| later[at].take());
            pairs.push([Some(object), same]);
        }
        let roots = later.iter().enumerate().filter_map(|(at, object)| Some((object.as_ref()?.root, at)));
        let roots: HashMap<Pgno, usize> = roots.filter(|(root, _)| !changes.contains(*root)).collect();
        for [before, after] in &mut pairs {
            let root = before.as_ref().filter(|_| after.is_none()).and_then(|object| roots.get(&object.root));
            *after = root.and_then(|&at| later[at].take()).or(after.take());
        }
        pairs.extend(later.into_iter().flatten().map(|object| [None, Some(object)]));
        Objects(pairs)
    }

    fn tree(&self, number: usize) -> Tree {
        let [before, after] = &self.0[number];
        Tree { number, roots: [before, after].map(|object| object.as_ref().map(|object| object.root)) }
    }

    fn is_table(&self, number: usize) -> bool {
        self.0[number].iter().flatten().any(|object| object.is_table)
    }

    fn is_in_both(&self, number: usize) -> bool {
        self.0[number].iter().all(Option::is_some)
    }
}

/// Finds out what the pages that differ belong to, and counts rows: all rows of the tables with such pages if
/// `count_all`.
pub(super) async fn attribute(
    versions: &mut Versions,
    changes: &Changes,
    scratch: &Path,
    count_all: bool,
) -> Result<Differences, EngineError> {
    if changes.len() == 0 {
        return Ok(Differences { pages: 0, other_pages: 0, objects: Vec::new() });
    }
    let mut shapes = [Shape::default(); 2];
    let mut named = [Vec::new(), Vec::new()];
    for side in Side::BOTH {
        let first = versions.pages(&[(side, Pgno::FIRST)]).await?.pop().flatten();
        let shape = first.and_then(|page| Shape::of(&page)).unwrap_or_default();
        shapes[side.index()] = shape;
        named[side.index()] = objects(versions, side, shape, scratch).await?;
    }
    let all = Objects::pair(named, changes);
    let most = if count_all { usize::MAX } else { FEW };
    let mut work = Attribution {
        claims: Claims::new(versions, changes, &shapes, all.0.len()).await?,
        entries: vec![None; all.0.len()],
        versions,
        changes,
        shapes,
        all,
        most,
    };
    work.explain().await?;
    work.describe().await
}

/// The state of the work.
struct Attribution<'a> {
    versions: &'a mut Versions,
    changes: &'a Changes,
    shapes: [Shape; 2],
    all: Objects,
    claims: Claims,
    /// Of each tree that was walked through.
    entries: Vec<Option<Entries>>,
    /// Pages that are the same in both states and may be read to count rows.
    most: usize,
}

impl Attribution<'_> {
    /// Goes from what is likely and cheap to what is not, until all is explained.
    async fn explain(&mut self) -> Result<(), EngineError> {
        if self.all.0.is_empty() {
            return Ok(());
        }
        self.walk(&[0], self.most).await?;
        let open = |kind: fn(Kind) -> bool| {
            self.claims.any_open(self.changes, |head: Head| head.kind().is_some_and(kind))
        };
        let (tables, indexes) = (open(|kind| !kind.is_index()), open(Kind::is_index));
        let wanted = |&number: &usize| match self.all.is_table(number) {
            _ if !self.all.is_in_both(number) => true,
            true => tables || indexes,
            false => indexes,
        };
        let wanted: Vec<usize> = (1..self.all.0.len()).filter(wanted).collect();
        self.walk(&wanted, self.most).await?;
        for number in std::iter::once(0).chain(wanted) {
            self.follow(number, false).await?;
        }
        for number in self.most_likely_first() {
            if Side::BOTH.iter().all(|&side| self.claims.are_complete(side)) {
                break;
            }
            self.walk(&[number], usize::MAX).await?;
            self.follow(number, true).await?;
        }
        Ok(())
    }

    async fn walk(&mut self, numbers: &[usize], keep: usize) -> Result<(), EngineError> {
        let trees: Vec<Tree> = numbers.iter().map(|&number| self.all.tree(number)).collect();
        let work = (self.changes, &mut self.claims, &self.shapes);
        let walked = walk(self.versions, work, &trees, keep).await?;
        for (&number, entries) in numbers.iter().zip(walked) {
            self.entries[number] = Some(entries);
        }
        Ok(())
    }

    async fn follow(&mut self, number: usize, shared: bool) -> Result<(), EngineError> {
        let Some(entries) = &self.entries[number] else { return Ok(()) };
        let tree = (number, entries);
        follow_own(self.versions, (self.changes, &mut self.claims, &self.shapes), tree).await?;
        if shared {
            follow_shared(self.versions, (self.changes, &mut self.claims, &self.shapes), tree).await?;
        }
        Ok(())
    }

    /// Trees with other pages that differ, then tables, then indexes.
    fn most_likely_first(&self) -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..self.all.0.len()).collect();
        numbers.sort_by_key(|&number| {
            let claimed: usize = Side::BOTH.map(|side| self.claims.of(number, side).len()).iter().sum();
            std::cmp::Reverse((claimed, self.all.is_table(number)))
        });
        numbers
    }

    async fn describe(mut self) -> Result<Differences, EngineError> {
        let mut owned = BTreeSet::new();
        let mut objects = Vec::new();
        for number in 0..self.all.0.len() {
            let claimed = Side::BOTH.map(|side| self.claims.of(number, side).to_vec());
            owned.extend(claimed.iter().flatten().copied());
            if claimed.iter().all(Vec::is_empty) && self.all.is_in_both(number) {
                continue;
            }
            let count = self.count(number).await?;
            objects.extend(describe(&self.all.0[number], claimed, count));
        }
        objects.sort_by_key(|object| std::cmp::Reverse(object.pages));
        let pages = self.changes.len();
        Ok(Differences { pages, other_pages: pages - owned.len(), objects })
    }

    async fn count(&mut self, number: usize) -> Result<Option<Count>, EngineError> {
        let Some(entries) = self.entries[number].as_ref().filter(|_| self.all.is_table(number)) else {
            return Ok(None);
        };
        Count::of(self.versions, (self.changes, &self.shapes), entries, self.most).await.map(Some)
    }
}

/// One object, or two if it got another name.
fn describe(named: &Named, claimed: [Vec<Pgno>; 2], count: Option<Count>) -> Vec<ChangedObject> {
    let rows = |side: Side| match (&named[side.index()], count) {
        (Some(object), Some(count)) if object.is_table => count.rows(side),
        _ => Rows::None,
    };
    let one = |name: &str, is_table, mut pages: Vec<Pgno>, rows, change| {
        pages.sort_unstable();
        pages.dedup();
        ChangedObject { name: name.to_owned(), is_table, pages: pages.len(), rows, change }
    };
    let rows = Side::BOTH.map(rows);
    match named {
        [Some(before), Some(after)] if before.name != after.name => {
            let [old, new] = claimed;
            let gone =
                one(&before.name, before.is_table, old, [rows[0], Rows::None], change([rows[0], Rows::None]));
            let new =
                one(&after.name, after.is_table, new, [Rows::None, rows[1]], change([Rows::None, rows[1]]));
            vec![gone, new]
        }
        _ => {
            let objects = || named.iter().flatten();
            let name = objects().map(|object| object.name.as_str()).next().unwrap_or_default();
            let is_table = objects().any(|object| object.is_table);
            let more = count.and_then(|count| count.change()).filter(|_| is_table);
            vec![one(name, is_table, claimed.concat(), rows, more)]
        }
    }
}
