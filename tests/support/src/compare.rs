//! Whether two databases are the same.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use tempfile::TempDir;

/// Every row of the user's tables and the schema itself, as text in a fixed order. Litestream's own two tables are
/// left out: they are bookkeeping, not the user's data.
pub fn rows(database: &Path) -> Vec<String> {
    assert!(database.exists(), "{} is missing", database.display());
    let connection = Connection::open(database).unwrap();
    let schema = strings(
        &connection,
        "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_schema
         WHERE name NOT LIKE '\\_litestream\\_%' ESCAPE '\\' ORDER BY 1",
    );
    let tables = strings(
        &connection,
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
         AND name NOT LIKE '\\_litestream\\_%' ESCAPE '\\' ORDER BY 1",
    );
    let contents = tables.iter().flat_map(|table| {
        let columns = strings(
            &connection,
            &format!("SELECT 'quote(\"' || name || '\")' FROM pragma_table_info('{table}')"),
        );
        strings(
            &connection,
            &format!("SELECT '{table}: ' || {} FROM \"{table}\" ORDER BY 1", columns.join("||','||")),
        )
    });
    schema.into_iter().chain(contents.collect::<Vec<_>>()).collect()
}

fn strings(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// The two hold the same rows under the same schema, and the second is a sound database.
#[track_caller]
pub fn assert_same_rows(source: &Path, restored: &Path) {
    assert_sound(restored);
    assert_rows(&rows(source), restored);
}

/// The database holds exactly these rows, as [`rows`] gave them earlier.
#[track_caller]
pub fn assert_rows(expected: &[String], restored: &Path) {
    let found = rows(restored);
    let shorten = |line: Option<&String>| line.map(|line| line.chars().take(120).collect::<String>());
    let longest = expected.len().max(found.len());
    if let Some(at) = (0..longest).find(|&at| expected.get(at) != found.get(at)) {
        panic!(
            "{}: {} rows instead of {}; the first that differs is number {at}: {:?} instead of {:?}",
            restored.display(),
            found.len(),
            expected.len(),
            shorten(found.get(at)),
            shorten(expected.get(at)),
        );
    }
}

/// `PRAGMA integrity_check` finds nothing.
#[track_caller]
pub fn assert_sound(database: &Path) {
    assert!(database.exists(), "{} is missing", database.display());
    let findings = strings(&Connection::open(database).unwrap(), "PRAGMA integrity_check(3)");
    assert_eq!(findings, ["ok"], "{}", database.display());
}

/// The restored file is, byte for byte, the source with its WAL folded in.
#[track_caller]
pub fn assert_same_pages(source: &Path, restored: &Path) {
    let folded = folded_copy(source);
    let (expected, found) = (folded.path().join("copy"), restored);
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!(size(found), size(&expected), "size of {}", restored.display());
    if let Some(at) = first_difference(&expected, found) {
        panic!("{} differs from {} first at byte {at}", restored.display(), source.display());
    }
}

/// Where two files of the same size differ first; read in pieces, since they may be large.
fn first_difference(left: &Path, right: &Path) -> Option<u64> {
    const PIECE: u64 = 1 << 20;
    let [mut left, mut right] = [left, right].map(|path| File::open(path).unwrap());
    let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
    for start in (0..).step_by(PIECE as usize) {
        for (file, piece) in [(&mut left, &mut of_left), (&mut right, &mut of_right)] {
            piece.clear();
            file.take(PIECE).read_to_end(piece).unwrap();
        }
        if of_left != of_right {
            let at = of_left.iter().zip(&of_right).position(|(left, right)| left != right);
            return Some(start + at.unwrap_or(of_left.len()) as u64);
        }
        if of_left.is_empty() {
            return None;
        }
    }
    None
}

/// A copy of a database, with its WAL folded in, named `copy` in a folder of its own.
pub fn folded_copy(source: &Path) -> TempDir {
    let folder = TempDir::new().unwrap();
    let copy = folder.path().join("copy");
    copy_by_process(source, &copy);
    let wal = with_suffix(source, "-wal");
    if wal.exists() {
        copy_by_process(&wal, &with_suffix(&copy, "-wal"));
    }
    let connection = Connection::open(&copy).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    folder
}

/// Copies with `cp`: a descriptor on the database that *this* process closed would take the POSIX locks of the
/// application in this process with it.
fn copy_by_process(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// `PATH` + suffix, such as "-wal".
pub fn with_suffix(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
