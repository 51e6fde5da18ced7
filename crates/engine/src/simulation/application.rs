//! The application: two connections and a reader, and everything that an application may do to its database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, ffi, params};

use super::image::Image;
use super::random::Random;

/// A larger database would only make the simulation slower.
const ENOUGH_BYTES: usize = 400_000;

/// What the application may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Insert,
    Update,
    /// The same change in many pages.
    Twins,
    /// Pages are written, and stay what they were.
    Rewrite,
    Delete,
    /// Grows by pages that hold nothing.
    Grow,
    CreateTable,
    CreateIndex,
    DropIndex,
    DropTable,
    Vacuum,
    /// For the next VACUUM, or at once.
    SetAutoVacuum,
    IncrementalVacuum,
    /// A transaction that spills into the WAL and is rolled back.
    RolledBack,
    Savepoint,
    /// A transaction on the second connection, over several steps.
    Begin,
    WriteInside,
    Commit,
    Rollback,
    OpenReader,
    CloseReader,
    /// The content of a backup takes the place of everything, in one transaction.
    Restore,
    BackUp,
    /// Back to a rollback journal, where nobody else has the database open.
    LeaveWal,
    Checkpoint(&'static str),
}

/// What became of a deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Well,
    /// Somebody else was in the way.
    Busy,
    /// The disk failed.
    Failed,
}

pub(super) const DEEDS: &[(usize, Deed)] = &[
    (14, Deed::Insert),
    (14, Deed::Update),
    (6, Deed::Twins),
    (3, Deed::Rewrite),
    (6, Deed::Delete),
    (4, Deed::Grow),
    (3, Deed::CreateTable),
    (2, Deed::CreateIndex),
    (2, Deed::DropIndex),
    (3, Deed::DropTable),
    (3, Deed::Vacuum),
    (2, Deed::SetAutoVacuum),
    (3, Deed::IncrementalVacuum),
    (5, Deed::RolledBack),
    (4, Deed::Savepoint),
    (6, Deed::Begin),
    (4, Deed::WriteInside),
    (8, Deed::Commit),
    (4, Deed::Rollback),
    (5, Deed::OpenReader),
    (7, Deed::CloseReader),
    (2, Deed::BackUp),
    (2, Deed::Restore),
    (1, Deed::LeaveWal),
    (5, Deed::Checkpoint("PASSIVE")),
    (3, Deed::Checkpoint("FULL")),
    (3, Deed::Checkpoint("RESTART")),
    (4, Deed::Checkpoint("TRUNCATE")),
];

/// How the application has set up its database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    pub(super) page_size: u32,
    pub(super) auto_vacuum: u32,
    pub(super) autocheckpoint: u32,
    pub(super) synchronous: &'static str,
}

impl Habits {
    pub(super) fn choose(random: &mut Random) -> Self {
        Habits {
            page_size: random.weighed(&[(3, 512), (4, 1024), (5, 4096), (1, 65536)]),
            auto_vacuum: random.pick(&[0, 0, 1, 2]),
            autocheckpoint: random.pick(&[0, 0, 8, 40, 1000]),
            synchronous: random.pick(&["NORMAL", "FULL"]),
        }
    }
}

/// Its open connections.
pub(super) struct Application {
    main: Connection,
    second: Connection,
    reader: Option<Connection>,
    backup: Option<Connection>,
    /// Whether others may be in the way, although nobody waits for anybody.
    pub(super) expects_others: bool,
}

impl Application {
    /// Opens the database; creates it, if it is not there.
    pub(super) fn open(path: &Path, habits: &Habits) -> Self {
        let is_new = !path.exists();
        let main = connect(path);
        if is_new {
            let Habits { page_size, auto_vacuum, .. } = habits;
            main.execute_batch(&format!(
                "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum}; PRAGMA journal_mode = wal"
            ))
            .unwrap();
        }
        // A power cut may have taken the first commit.
        main.execute_batch("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, flag INTEGER, value BLOB)")
            .unwrap();
        let second = connect(path);
        second.execute_batch("PRAGMA cache_size = 3").unwrap();
        for connection in [&main, &second] {
            connection.pragma_update(None, "wal_autocheckpoint", habits.autocheckpoint).unwrap();
            connection.pragma_update(None, "synchronous", habits.synchronous).unwrap();
        }
        Application { main, second, reader: None, backup: None, expects_others: false }
    }

    /// What SQLite says is in the database.
    pub(super) fn image(&mut self) -> rusqlite::Result<Image> {
        Image::of(&mut self.main)
    }

    /// Does something. An error is not the fault of another of the application's own transactions.
    pub(super) fn act(&mut self, deed: Deed, random: &mut Random) -> rusqlite::Result<Done> {
        let may_be_busy = self.is_inside() || self.expects_others || deed == Deed::LeaveWal;
        match self.try_act(deed, random) {
            Ok(()) => Ok(Done::Well),
            Err(error) if may_be_busy && is_busy(&error) => {
                self.recover();
                Ok(Done::Busy)
            }
            Err(error) => Err(error),
        }
    }

    /// After an error: the first connection is in no transaction any more.
    pub(super) fn recover(&mut self) {
        if !self.main.is_autocommit() {
            // On a disk that fails, this may fail too, and then the transaction is over all the same.
            let _ = self.main.execute_batch("ROLLBACK");
        }
    }

    fn is_inside(&self) -> bool {
        !self.second.is_autocommit()
    }

    fn try_act(&mut self, deed: Deed, random: &mut Random) -> rusqlite::Result<()> {
        match deed {
            Deed::Insert => insert(&self.main, random),
            Deed::Grow => self.grow(random),
            Deed::Update => update(&self.main, random),
            Deed::Twins => self.main.execute_batch("UPDATE t SET flag = 1 - flag"),
            Deed::Rewrite => self.main.execute_batch("UPDATE t SET value = value, flag = flag"),
            Deed::Delete => {
                let sql = format!("DELETE FROM t WHERE id % {} = 0", 1 + random.below(7));
                self.main.execute_batch(&sql)
            }
            Deed::CreateTable => {
                let name = random.below(4);
                self.main.execute_batch(&format!(
                    "CREATE TABLE IF NOT EXISTS extra{name} AS SELECT id, flag FROM t WHERE id % 3 = 0"
                ))
            }
            Deed::CreateIndex => self.main.execute_batch("CREATE INDEX IF NOT EXISTS flags ON t (flag, id)"),
            Deed::DropIndex => self.main.execute_batch("DROP INDEX IF EXISTS flags"),
            Deed::DropTable => {
                let name = random.below(4);
                self.main.execute_batch(&format!("DROP TABLE IF EXISTS extra{name}"))
            }
            Deed::Vacuum => self.main.execute_batch("VACUUM"),
            Deed::SetAutoVacuum => {
                let mode = random.below(3);
                self.main.execute_batch(&format!("PRAGMA auto_vacuum = {mode}"))
            }
            Deed::IncrementalVacuum => self.main.execute_batch("PRAGMA incremental_vacuum(5)"),
            Deed::RolledBack => rolled_back(&self.main, random),
            Deed::Savepoint => savepoint(&self.main, random),
            Deed::Begin if !self.is_inside() && self.is_in_wal_mode() => {
                self.second.execute_batch("BEGIN IMMEDIATE")?;
                insert(&self.second, random)
            }
            Deed::WriteInside if self.is_inside() => update(&self.second, random),
            Deed::Commit if self.is_inside() => self.second.execute_batch("COMMIT"),
            Deed::Rollback if self.is_inside() => self.second.execute_batch("ROLLBACK"),
            Deed::OpenReader if self.reader.is_none() && self.is_in_wal_mode() => {
                let reader = try_connect(&path_of(&self.main))?;
                reader.execute_batch("BEGIN")?;
                reader.query_row("SELECT count(*) FROM t", [], |_| Ok(()))?;
                self.reader = Some(reader);
                Ok(())
            }
            Deed::CloseReader => {
                self.reader = None;
                Ok(())
            }
            Deed::BackUp => {
                self.backup = Some(self.copy()?);
                Ok(())
            }
            Deed::Restore => self.restore(),
            Deed::LeaveWal => self.main.query_row("PRAGMA journal_mode = delete", [], |_| Ok(())),
            Deed::Checkpoint(mode) => {
                self.main.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
            }
            Deed::Begin | Deed::WriteInside | Deed::Commit | Deed::Rollback | Deed::OpenReader => Ok(()),
        }
    }

    fn grow(&mut self, random: &mut Random) -> rusqlite::Result<()> {
        let value = vec![0u8; random.below(40_000)];
        self.main.execute_batch("BEGIN IMMEDIATE")?;
        self.main.execute("INSERT INTO t (flag, value) VALUES (1, ?1)", params![value])?;
        self.main.execute_batch("DELETE FROM t WHERE id = (SELECT max(id) FROM t); COMMIT")
    }

    fn copy(&self) -> rusqlite::Result<Connection> {
        let mut copy = Connection::open_in_memory()?;
        copy_all(&self.main, &mut copy)?;
        Ok(copy)
    }

    fn restore(&mut self) -> rusqlite::Result<()> {
        let size = |connection: &Connection| {
            connection.query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0))
        };
        let Some(backup) = &self.backup else { return Ok(()) };
        if size(backup)? != size(&self.main)? {
            return Ok(());
        }
        copy_all(backup, &mut self.main)
    }

    /// Keeps the database small.
    pub(super) fn tidy(&mut self, size: usize) -> bool {
        size > ENOUGH_BYTES
            && !self.is_inside()
            && self.main.execute_batch("DELETE FROM t WHERE id % 4 > 0").is_ok()
    }

    /// Ends what would keep somebody from changing the journal mode.
    pub(super) fn make_way(&mut self) {
        self.reader = None;
        if self.is_inside() {
            self.second.execute_batch("ROLLBACK").unwrap();
        }
    }

    pub(super) fn is_in_wal_mode(&self) -> bool {
        let mode = self.main.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
        mode.is_ok_and(|mode| mode == "wal")
    }
}

/// Builds a database that nobody has open anew with another page size, and possibly leaves it in another journal mode.
pub(super) fn rebuild(path: &Path, random: &mut Random) {
    let page_size = random.pick(&[512, 1024, 2048, 4096, 8192, 65536]);
    let leave = random.pick(&["wal", "wal", "delete"]);
    let sql = format!(
        "PRAGMA journal_mode = delete; PRAGMA page_size = {page_size}; VACUUM; PRAGMA journal_mode = {leave}"
    );
    connect(path).execute_batch(&sql).unwrap();
}

fn connect(path: &Path) -> Connection {
    try_connect(path).unwrap()
}

fn try_connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    // Everything happens in one thread, so waiting for a lock would be waiting for oneself.
    connection.busy_timeout(Duration::ZERO)?;
    connection.execute_batch("PRAGMA synchronous = NORMAL")?;
    Ok(connection)
}

/// All pages in one transaction, or none.
fn copy_all(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    match Backup::new(from, to)?.step(-1)? {
        StepResult::Done => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None)),
    }
}

fn path_of(connection: &Connection) -> PathBuf {
    PathBuf::from(connection.path().unwrap())
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    use ErrorCode::{DatabaseBusy, DatabaseLocked, FileLockingProtocolFailed};
    let code = error.sqlite_error_code();
    matches!(code, Some(DatabaseBusy | DatabaseLocked | FileLockingProtocolFailed))
}

fn value(random: &mut Random) -> Vec<u8> {
    let length = random.weighed(&[(6, 40), (4, 700), (2, 6000), (1, 30_000)]);
    let length = 1 + random.below(length);
    random.bytes(length)
}

fn insert(connection: &Connection, random: &mut Random) -> rusqlite::Result<()> {
    let own = connection.is_autocommit();
    if own {
        connection.execute_batch("BEGIN IMMEDIATE")?;
    }
    for _ in 0..1 + random.below(8) {
        connection.execute("INSERT INTO t (flag, value) VALUES (0, ?1)", params![value(random)])?;
    }
    if own { connection.execute_batch("COMMIT") } else { Ok(()) }
}

fn update(connection: &Connection, random: &mut Random) -> rusqlite::Result<()> {
    let (step, rest) = (2 + random.below(20) as i64, random.below(20) as i64);
    connection.execute("UPDATE t SET value = ?1 WHERE id % ?2 = ?3", params![value(random), step, rest])?;
    Ok(())
}

fn rolled_back(connection: &Connection, random: &mut Random) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA cache_size = 2; BEGIN IMMEDIATE")?;
    insert(connection, random)?;
    connection.execute("UPDATE t SET value = ?1", params![value(random)])?;
    connection.execute_batch("ROLLBACK; PRAGMA cache_size = -2000")
}

fn savepoint(connection: &Connection, random: &mut Random) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA cache_size = 2; BEGIN IMMEDIATE; SAVEPOINT inner")?;
    insert(connection, random)?;
    connection.execute_batch("ROLLBACK TO inner; RELEASE inner")?;
    insert(connection, random)?;
    connection.execute_batch("COMMIT; PRAGMA cache_size = -2000")
}

/// The database as a stranger sees it that comes for a moment and leaves everything as it was.
pub(super) fn seen_by_a_stranger(path: &Path) -> Image {
    let mut stranger = connect(path);
    stranger.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    Image::of(&mut stranger).unwrap()
}
