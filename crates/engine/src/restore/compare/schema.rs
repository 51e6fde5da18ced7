//! The tables and indexes of a state, as SQLite itself reads them.
//!
//! Invariant: SQLite gets exactly the pages of `sqlite_schema`, in a file that has nothing else in it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rusqlite::Connection;
use tokio::task::spawn_blocking;
use walstream_ltx::{Header, Pgno};

use super::btree::{Shape, TreePage, next_of_chain};
use super::versions::{Side, Versions};
use crate::error::EngineError;
use crate::restore::write;

/// The name of the table of tables.
pub(super) const SCHEMA: &str = "sqlite_schema";

/// A table or an index that has pages of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) name: String,
    /// Else it is an index.
    pub(super) is_table: bool,
    /// The table of an index; of a table, itself.
    pub(super) table: String,
    pub(super) root: Pgno,
}

/// Every table and index of one state, `sqlite_schema` first. A database without pages has none.
pub(super) async fn objects(
    versions: &mut Versions,
    side: Side,
    shape: Shape,
    scratch: &Path,
) -> Result<Vec<Object>, EngineError> {
    let pages = schema_pages(versions, side, shape).await?;
    if pages.is_empty() {
        return Ok(Vec::new());
    }
    let header = versions.header(side).clone();
    let path = scratch.join("schema.db");
    spawn_blocking(move || read(&path, &header, &pages)).await?
}

/// The pages of `sqlite_schema` with their overflow pages.
async fn schema_pages(
    versions: &mut Versions,
    side: Side,
    shape: Shape,
) -> Result<Vec<(Pgno, Bytes)>, EngineError> {
    let mut found: Vec<(Pgno, Bytes)> = Vec::new();
    // What comes next, and for how many pages a chain goes on; no number for a page of the tree itself.
    let mut next = vec![(Pgno::FIRST, None)];
    while !next.is_empty() {
        next.sort_unstable();
        next.dedup();
        next.retain(|(pgno, _)| found.binary_search_by_key(pgno, |(pgno, _)| *pgno).is_err());
        let wanted: Vec<_> = next.iter().map(|&(pgno, _)| (side, pgno)).collect();
        let pages = versions.pages(&wanted).await?;
        for ((pgno, left), page) in std::mem::take(&mut next).into_iter().zip(pages) {
            let Some(page) = page else { continue };
            match (left, TreePage::parse(pgno, &page, shape.usable)) {
                (Some(left), _) if left > 1 => {
                    next.extend(next_of_chain(&page).map(|pgno| (pgno, Some(left - 1))));
                }
                (None, Some(tree)) => {
                    next.extend(tree.children().map(|(pgno, _)| (pgno, None)));
                    next.extend(tree.chains().map(|(pgno, length)| (pgno, Some(length))));
                }
                _ => {}
            }
            found.push((pgno, page));
        }
        found.sort_by_key(|(pgno, _)| *pgno);
    }
    Ok(found)
}

fn read(path: &PathBuf, header: &Header, pages: &[(Pgno, Bytes)]) -> Result<Vec<Object>, EngineError> {
    write_pages(path, header, pages).map_err(EngineError::io("write", path))?;
    let objects = query(path).map_err(EngineError::sqlite(path));
    fs::remove_file(path).map_err(EngineError::io("remove", path))?;
    objects
}

/// A file as long as the database, with holes where the other pages are.
fn write_pages(path: &Path, header: &Header, pages: &[(Pgno, Bytes)]) -> io::Result<()> {
    let Header { page_size, commit, .. } = *header;
    let file = File::create(path)?;
    file.set_len(u64::from(commit.get()) * u64::from(page_size.get()))?;
    pages.iter().try_for_each(|(pgno, page)| file.write_all_at(page, page_size.offset_of(*pgno)))
}

fn query(path: &Path) -> Result<Vec<Object>, rusqlite::Error> {
    let database: Connection = write::open(path)?;
    let of_all = "SELECT name, type = 'table', tbl_name, rootpage FROM sqlite_schema WHERE rootpage > 0";
    let mut statement = database.prepare(of_all)?;
    let (name, table) = (SCHEMA.to_owned(), SCHEMA.to_owned());
    let mut objects = vec![Object { name, is_table: true, table, root: Pgno::FIRST }];
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, is_table, table, root) = (row.get(0)?, row.get(1)?, row.get(2)?, Pgno::new(row.get(3)?));
        objects.extend(root.map(|root| Object { name, is_table, table, root }));
    }
    Ok(objects)
}
