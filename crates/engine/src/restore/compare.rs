//! What differs between two states of a database.
//!
//! Invariant: every page that differs is counted, byte for byte and in whichever state it is there; a page belongs to
//! what SQLite says it belongs to, in either state.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use rusqlite::Connection;

use super::write;
use crate::error::EngineError;

/// What differs between two databases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differences {
    /// How many pages differ, or are only in one of the two.
    pub pages: usize,
    /// How many of them belong to no table or index in either: free pages, and SQLite's own.
    pub other_pages: usize,
    /// Tables and indexes with pages that differ, those with the most first.
    pub objects: Vec<ChangedObject>,
}

/// A table or an index with pages that differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedObject {
    /// Its name.
    pub name: String,
    /// Whether it is a table; else it is an index.
    pub is_table: bool,
    /// How many of its pages differ.
    pub pages: usize,
    /// How many rows a table has before and after. `None` where it does not exist, and for an index.
    pub rows: [Option<u64>; 2],
}

/// Compares two databases that nobody uses, both of pages of `page_size` bytes.
pub fn compare(before: &Path, after: &Path, page_size: usize) -> Result<Differences, EngineError> {
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
    Ok(ChangedObject { name, is_table, pages: pages.len(), rows })
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

    fn rows(&self, name: &str) -> Result<Option<u64>, EngineError> {
        if !self.is_table(name)? {
            return Ok(None);
        }
        let count = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows = self.database.query_row(&count, [], |row| row.get::<_, i64>(0));
        Ok(u64::try_from(rows.map_err(EngineError::sqlite(self.path))?).ok())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A database with these rows of two tables, one of them indexed.
    fn database(folder: &TempDir, name: &str, sql: &str) -> std::path::PathBuf {
        let path = folder.path().join(name);
        let database = Connection::open(&path).unwrap();
        database
            .execute_batch(
                "CREATE TABLE kept (x); CREATE TABLE \"a \"\"b\"\"\" (x); CREATE INDEX by_x ON \"a \"\"b\"\"\" (x);
                 INSERT INTO kept VALUES (1), (2); INSERT INTO \"a \"\"b\"\"\" VALUES (1), (2), (3);",
            )
            .unwrap();
        database.execute_batch(sql).unwrap();
        path
    }

    #[test]
    fn changed_tables_and_indexes_are_named_with_their_rows() {
        let folder = TempDir::new().unwrap();
        let before = database(&folder, "before", "");
        let same = compare(&before, &database(&folder, "same", ""), 4096).unwrap();
        assert_eq!((same.pages, same.objects), (0, vec![]));

        let after =
            database(&folder, "after", "DELETE FROM \"a \"\"b\"\"\" WHERE x > 1; CREATE TABLE new (x);");
        let found = compare(&before, &after, 4096).unwrap();
        let object = |name: &str| found.objects.iter().find(|object| object.name == name).unwrap().clone();
        let changed =
            ChangedObject { name: "a \"b\"".to_owned(), is_table: true, pages: 1, rows: [Some(3), Some(1)] };
        assert_eq!(object("a \"b\""), changed);
        assert_eq!((object("by_x").is_table, object("by_x").rows), (false, [None, None]));
        assert_eq!(object("new").rows, [None, Some(0)]);
        assert_eq!(object("sqlite_schema").rows, [Some(3), Some(4)]);
        assert_eq!((found.objects.len(), found.pages, found.other_pages), (4, 4, 0));
    }

    #[test]
    fn pages_of_only_one_of_the_two_differ() {
        let folder = TempDir::new().unwrap();
        let before = database(&folder, "before", "INSERT INTO kept VALUES (zeroblob(20000));");
        let after = database(&folder, "after", "");
        let (shrunk, grown) =
            (compare(&before, &after, 4096).unwrap(), compare(&after, &before, 4096).unwrap());
        assert_eq!(shrunk.pages, grown.pages);
        assert_eq!((shrunk.objects[0].name.as_str(), shrunk.objects[0].rows), ("kept", [Some(3), Some(2)]));
        assert!(shrunk.objects[0].pages >= 5, "{shrunk:?}");
    }
}
