//! The tables and indexes of both states, and what is said of those that differ.
//!
//! Invariant: an object has one tree, whose number is its place in [`Objects`]. One that is in both states under one
//! name is one object; one that got another name is one tree all the same, so that nothing of it is read that did not
//! change.

use std::collections::HashMap;

use walstream_ltx::Pgno;

use super::ChangedObject;
use super::changes::Changes;
use super::rows::{Count, Rows, change};
use super::schema::Object;
use super::versions::Side;
use super::walk::Tree;

/// What a tree is called in each state.
type Named = [Option<Object>; 2];

/// Every table and index of both states.
pub(super) struct Objects(Vec<Named>);

impl Objects {
    /// Finds the same trees in both.
    pub(super) fn pair([before, after]: [Vec<Object>; 2], changes: &Changes) -> Objects {
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

    /// The numbers of all; that of `sqlite_schema` is 0.
    pub(super) fn numbers(&self) -> std::ops::Range<usize> {
        0..self.0.len()
    }

    pub(super) fn tree(&self, number: usize) -> Tree {
        let [before, after] = &self.0[number];
        Tree { number, roots: [before, after].map(|object| object.as_ref().map(|object| object.root)) }
    }

    pub(super) fn is_table(&self, number: usize) -> bool {
        self.0[number].iter().flatten().any(|object| object.is_table)
    }

    /// Whether it is an index of one of these, or one of these itself.
    pub(super) fn belongs_to(&self, number: usize, tables: &[usize]) -> bool {
        let names = |number: usize| self.0[number].iter().flatten().map(|object| &object.table);
        names(number).any(|table| tables.iter().any(|&of| names(of).any(|name| name == table)))
    }

    pub(super) fn is_in_both(&self, number: usize) -> bool {
        self.0[number].iter().all(Option::is_some)
    }

    /// One object, or two if it got another name.
    pub(super) fn describe(
        &self,
        number: usize,
        claimed: [Vec<Pgno>; 2],
        count: Option<Count>,
    ) -> Vec<ChangedObject> {
        let named = &self.0[number];
        let rows = Side::BOTH.map(|side| match &named[side.index()] {
            Some(object) if object.is_table => count.map_or(Rows::Uncounted, |count| count.rows(side)),
            _ => Rows::None,
        });
        if let [Some(before), Some(after)] = named
            && before.name != after.name
        {
            let [old, new] = claimed;
            let gone = changed(&before.name, before.is_table, old, [rows[0], Rows::None]);
            return vec![gone, changed(&after.name, after.is_table, new, [Rows::None, rows[1]])];
        }
        let name = named.iter().flatten().map(|object| object.name.as_str()).next().unwrap_or_default();
        let object = changed(name, self.is_table(number), claimed.concat(), rows);
        let is_table_in_both = !rows.contains(&Rows::None);
        let change = count.filter(|_| is_table_in_both).and_then(|count| count.change()).or(object.change);
        vec![ChangedObject { change, ..object }]
    }
}

fn changed(name: &str, is_table: bool, mut pages: Vec<Pgno>, rows: [Rows; 2]) -> ChangedObject {
    pages.sort_unstable();
    pages.dedup();
    ChangedObject { name: name.to_owned(), is_table, pages: pages.len(), rows, change: change(rows) }
}
