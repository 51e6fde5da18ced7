//! What differs between two database files. It takes both states as a whole, for replicas of Litestream 0.3, whose pages
//! cannot be fetched one by one.
//!
//! Invariant: every page that differs is counted, byte for byte and in whichever state it is there; a page belongs to
//! what SQLite says it belongs to, in either state.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use rusqlite::Connection;

use super::{ChangedObject, Differences, Rows, change};
use crate::error::EngineError;
use crate::restore::write;

/// Compares two databases that nobody uses, both of pages of `page_size` bytes.
pub(super) fn compare(before: &Path, after: &Path, page_size: usize) -> Result<Differences, EngineError> {
    let differing = differing_pages(before, after, page_size)?;
    let states = [State::open(before)?, State::open(after)?];
    let mut owned: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for state in &states {
        state.owners(&differing, &mut owned)?;
    }
    let mut all: Vec<u32> = owned.values().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    let mut objects = owned
        .into_iter()
        .map(|(name, pages)| describe(name, pages, &states))
        .collect::<Result<Vec<_>, EngineError>>()?;
    objects.sort_by_key(|object| std::cmp::Reverse(object.pages));
    Ok(Differences { pages: differing.len(), other_pages: differing.len() - all.len(), objects })
}

fn describe(
    name: String,
    mut pages: Vec<u32>,
    states: &[State<'_>; 2],
) -> Result<ChangedObject, EngineError> {
    pages.sort_unstable();
    pages.dedup();
    let [before, after] = states;
    let is_table = before.is_table(&name)? || after.is_table(&name)?;
    let rows = [before.rows(&name)?, after.rows(&name)?];
    Ok(ChangedObject { name, is_table, pages: pages.len(), rows, change: change(rows) })
}

/// The numbers of the pages that differ, in order.
fn differing_pages(before: &Path, after: &Path, page_size: usize) -> Result<Vec<u32>, EngineError> {
    let (mut old, mut new) = (Pages::open(before, page_size)?, Pages::open(after, page_size)?);
    let mut differing = Vec::new();
    for pgno in 1.. {
        let there = (old.next()?, new.next()?);
        if there == (false, false) {
            break;
        }
        if there != (true, true) || old.page != new.page {
            differing.push(pgno);
        }
    }
    Ok(differing)
}

/// The pages of a database file, one after the other.
struct Pages<'a> {
    path: &'a Path,
    input: BufReader<File>,
    page: Vec<u8>,
}

impl<'a> Pages<'a> {
    fn open(path: &'a Path, page_size: usize) -> Result<Self, EngineError> {
        let file = File::open(path).map_err(EngineError::io("read", path))?;
        Ok(Pages { path, input: BufReader::with_capacity(256 << 10, file), page: vec![0; page_size] })
    }

    /// Reads the next page; false at the end.
    fn next(&mut self) -> Result<bool, EngineError> {
        match self.input.read_exact(&mut self.page) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(EngineError::io("read", self.path)(error)),
        }
    }
}

/// One of the two databases, as SQLite sees it.
struct State<'a> {
    path: &'a Path,
    database: Connection,
}

impl<'a> State<'a> {
    fn open(path: &'a Path) -> Result<Self, EngineError> {
        let database = write::open(path).map_err(EngineError::sqlite(path))?;
        Ok(State { path, database })
    }

    /// Notes whose the differing pages are.
    fn owners(&self, differing: &[u32], owned: &mut BTreeMap<String, Vec<u32>>) -> Result<(), EngineError> {
        let mut note = || {
            let mut statement = self.database.prepare("SELECT pageno, name FROM dbstat")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let pgno: u32 = row.get(0)?;
                if differing.binary_search(&pgno).is_ok() {
                    owned.entry(row.get(1)?).or_default().push(pgno);
                }
            }
            Ok(())
        };
        note().map_err(EngineError::sqlite(self.path))
    }

    fn is_table(&self, name: &str) -> Result<bool, EngineError> {
        let known = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
        let known = self.database.query_row(known, [name], |row| row.get(0));
        Ok(name == "sqlite_schema" || known.map_err(EngineError::sqlite(self.path))?)
    }

    fn rows(&self, name: &str) -> Result<Rows, EngineError> {
        if !self.is_table(name)? {
            return Ok(Rows::None);
        }
        let count = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows = self.database.query_row(&count, [], |row| row.get::<_, i64>(0));
        let rows = u64::try_from(rows.map_err(EngineError::sqlite(self.path))?);
        Ok(rows.map_or(Rows::Uncounted, Rows::Counted))
    }
}
