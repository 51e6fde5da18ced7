//! Two states of real databases, compared page by page and, to decide what is right, as a whole by SQLite.

use std::fs;
use std::io;
use std::path::PathBuf;

use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;
use walstream_ltx::{Checksum, Decoder, Encoder, Lineage, Pgno, WalSpan, merge, page_digest};

use super::*;
use crate::restore::tests::golden::Golden;
use crate::restore::tests::model::{range, time};
use crate::testing::MemoryReplica;

/// A database whose every state is kept as a file and put into a replica.
struct History {
    folder: TempDir,
    database: Connection,
    page_size: PageSize,
    replica: Arc<MemoryReplica>,
    states: u64,
    /// Whether the files carry digests.
    lineage: bool,
}

impl History {
    fn new(page_size: u32, auto_vacuum: u8) -> History {
        let folder = TempDir::new().unwrap();
        let database = Connection::open(folder.path().join("live.db")).unwrap();
        database
            .execute_batch(&format!("PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = {auto_vacuum};"))
            .unwrap();
        let page_size = PageSize::new(page_size).unwrap();
        History { folder, database, page_size, replica: Arc::default(), states: 0, lineage: true }
    }

    fn sql(&self, sql: &str) {
        self.database.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn path(&self, state: u64) -> PathBuf {
        self.folder.path().join(format!("{state}.db"))
    }

    fn client(&self) -> Arc<dyn ReplicaClient> {
        Arc::clone(&self.replica) as Arc<dyn ReplicaClient>
    }

    /// Keeps the present state.
    fn capture(&mut self) -> u64 {
        self.states += 1;
        fs::copy(self.folder.path().join("live.db"), self.path(self.states)).unwrap();
        self.store(self.states);
        self.states
    }

    /// Stores what changed in this TXID, and a page more that did not.
    fn store(&self, txid: u64) {
        let before = if txid == 1 { Vec::new() } else { fs::read(self.path(txid - 1)).unwrap() };
        let after = fs::read(self.path(txid)).unwrap();
        let pages = |image: &'_ [u8]| -> Vec<Vec<u8>> {
            image.chunks(self.page_size.bytes()).map(<[u8]>::to_vec).collect()
        };
        let (before, after) = (pages(&before), pages(&after));
        let header = Header {
            page_size: self.page_size,
            commit: Commit::new(after.len() as u32),
            txids: range(txid, txid),
            timestamp: time(txid),
            tracked: false,
            pre_apply: None,
            wal: WalSpan::default(),
            node_id: 0,
            lineage: Lineage {
                pre_apply: digest(&before).filter(|_| self.lineage && txid > 1),
                post_apply: digest(&after).filter(|_| self.lineage),
            },
        };
        let mut encoder = Encoder::new(Vec::new(), header).unwrap();
        for (at, page) in after.iter().enumerate() {
            if before.get(at) != Some(page) || at == txid as usize {
                encoder.page(Pgno::new(at as u32 + 1).unwrap(), page).unwrap();
            }
        }
        self.replica.insert(Level::L0, range(txid, txid), time(txid), encoder.finish(None).unwrap().0);
    }

    /// Stores the merged level-0 files of these TXIDs.
    fn compact(&self, level: u8, min: u64, max: u64) {
        let file = |txid| self.replica.content(Level::L0, range(txid, txid)).unwrap();
        let inputs = (min..=max).map(|txid| Decoder::new(io::Cursor::new(file(txid))).unwrap()).collect();
        let (level, bytes) = (Level::new(level).unwrap(), merge(inputs, Vec::new()).unwrap().0);
        self.replica.insert(level, range(min, max), time(max), bytes);
    }

    async fn compare(&self, from: u64, to: u64, count_all: bool) -> Comparison {
        let targets = [from, to].map(|txid| Target::Txid(Txid::new(txid)));
        let scratch = TempDir::new().unwrap();
        let found = compare(&self.client(), targets, scratch.path(), count_all).await.unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "left behind");
        found
    }

    /// Compares, and has SQLite say whether it is right.
    async fn check(&self, from: u64, to: u64) -> Comparison {
        let right = whole::compare(&self.path(from), &self.path(to), self.page_size.bytes()).unwrap();
        for count_all in [true, false] {
            let found = self.compare(from, to, count_all).await.differences;
            assert_eq!(
                (found.pages, found.other_pages),
                (right.pages, right.other_pages),
                "{found:#?} {right:#?}"
            );
            let touched = found.objects.iter().filter(|object| object.pages > 0);
            assert_eq!(by_name(touched.map(without_rows)), by_name(right.objects.iter().map(without_rows)));
            for object in &found.objects {
                match right.objects.iter().find(|right| right.name == object.name) {
                    Some(right) => assert_rows(object, right, count_all),
                    // Its pages are all still there, as free ones, or were there before.
                    None => assert!(!object.is_table || object.rows.contains(&Rows::None), "{object:?}"),
                }
            }
        }
        self.compare(from, to, false).await
    }
}

/// With the rows of all tables counted, or of some.
fn assert_rows(found: &ChangedObject, right: &ChangedObject, all: bool) {
    for (found, right) in found.rows.iter().zip(right.rows) {
        assert!(*found == right || (!all && *found == Rows::Uncounted), "{found:?} for {right:?}");
    }
    let renamed = found.rows.contains(&Rows::None);
    assert!(found.change == right.change || (renamed && !all), "{found:?} for {right:?}");
}

fn without_rows(object: &ChangedObject) -> (String, bool, usize) {
    (object.name.clone(), object.is_table, object.pages)
}

fn by_name<T: Ord>(objects: impl Iterator<Item = T>) -> Vec<T> {
    let mut objects: Vec<T> = objects.collect();
    objects.sort();
    objects
}

fn digest(pages: &[Vec<u8>]) -> Option<Checksum> {
    let page = |(pgno, page): (u32, &Vec<u8>)| page_digest(Pgno::new(pgno).unwrap(), page);
    Some((1..).zip(pages).map(page).fold(Checksum::EMPTY, Checksum::toggle))
}

fn object<'a>(found: &'a Differences, name: &str) -> &'a ChangedObject {
    found.objects.iter().find(|object| object.name == name).unwrap_or_else(|| panic!("{name}: {found:#?}"))
}

/// Tables of every kind, some of them with rows.
fn with_tables(page_size: u32, auto_vacuum: u8) -> History {
    let history = History::new(page_size, auto_vacuum);
    history.sql(
        "CREATE TABLE r0 (id INTEGER PRIMARY KEY, v, w); CREATE INDEX r0_v ON r0 (v);
         CREATE TABLE r1 (id INTEGER PRIMARY KEY, v, w); CREATE INDEX r1_w ON r1 (w);
         CREATE TABLE k (v, id, w, PRIMARY KEY (v, id)) WITHOUT ROWID;
         CREATE VIEW both AS SELECT * FROM r0 UNION SELECT * FROM r1;
         CREATE TABLE u (x UNIQUE, y);",
    );
    history
}

/// One change, of a kind, with two numbers for whatever it needs.
fn change_sql((kind, a, b): (u8, u16, u16), page_size: u32, step: usize) -> String {
    let (table, length, from) =
        (["r0", "r1", "k", "u"][usize::from(a % 3)], u32::from(b) % (page_size * 3), a % 97);
    let rows = format!(
        "WITH RECURSIVE n(i) AS (SELECT {step} * 1000 UNION ALL SELECT i + 1 FROM n LIMIT {})",
        b % 60 + 1
    );
    match kind {
        0..=3 => format!(
            "{rows} INSERT OR IGNORE INTO {table} (id, v, w) SELECT i, randomblob(i % 40), randomblob({length} / 9) FROM n"
        ),
        4 => format!(
            "INSERT OR IGNORE INTO {table} (id, v, w) VALUES ({step}, randomblob({length}), zeroblob({length}))"
        ),
        // SQLite writes over values of the same length in their place.
        5..=7 => format!("UPDATE {table} SET w = randomblob(length(w)) WHERE id % 89 = {}", from % 89),
        8 => format!("UPDATE {table} SET v = randomblob({length}) WHERE id % 97 = {from}"),
        9 | 10 => format!("DELETE FROM {table} WHERE id % 7 = {}", a % 7),
        11 => format!("DELETE FROM {table}"),
        12 => "VACUUM".to_owned(),
        13 => format!("PRAGMA incremental_vacuum({})", a % 5),
        14 => format!(
            "CREATE TABLE IF NOT EXISTS new{} (x, y, CHECK (x <> '{}')); INSERT INTO new{0} VALUES (randomblob({length}), 1)",
            a % 3,
            "long ".repeat(usize::from(b % 200))
        ),
        15 => format!("DROP TABLE IF EXISTS new{}", a % 3),
        16 => format!("DROP INDEX IF EXISTS i; CREATE INDEX i ON {table} (w, v)"),
        17 => format!("{rows} INSERT OR IGNORE INTO u SELECT randomblob({length} / 5 + 3), i FROM n"),
        18 => format!(
            "CREATE TABLE IF NOT EXISTS new{} (x, y); DROP TABLE IF EXISTS other; ALTER TABLE new{0} RENAME TO other",
            a % 3
        ),
        _ => format!("DELETE FROM {table} WHERE id > {}", step * 1000),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn two_states_differ_in_what_sqlite_says(
        steps in prop::collection::vec(prop::collection::vec((0..20u8, any::<u16>(), any::<u16>()), 1..6), 2..7),
        page_size in prop::sample::select(vec![512u32, 1024, 4096]),
        auto_vacuum in 0..3u8,
        lineage in any::<bool>(),
        compacted in prop::option::of((1..6u64, 1..4u64)),
        snapshot in prop::option::of(1..6u64),
    ) {
        let mut history = with_tables(page_size, auto_vacuum);
        history.lineage = lineage;
        history.capture();
        for (step, changes) in steps.iter().enumerate() {
            for &change in changes {
                history.sql(&change_sql(change, page_size, step + 1));
            }
            history.capture();
        }
        let last = history.states;
        if let Some((min, length)) = compacted.filter(|&(min, _)| min < last) {
            history.compact(1, min, last.min(min + length));
        }
        if let Some(end) = snapshot.filter(|&end| end <= last) {
            history.compact(9, 1, end);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (from, to) in [(1, last), (last - 1, last), (last, last / 2), (1, 2)] {
            runtime.block_on(history.check(from.max(1), to.max(1)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_pages_are_it_ends(
        bytes in prop::collection::vec((0..40u32, 0..512u32, any::<u8>()), 1..60),
        auto_vacuum in 0..2u8,
    ) {
        let mut history = with_tables(512, auto_vacuum);
        for change in [(0, 0, 59), (4, 1, 900), (4, 2, 1200), (17, 0, 700), (14, 0, 199)] {
            history.sql(&change_sql(change, 512, 1));
        }
        history.capture();
        history.sql("DELETE FROM r0 WHERE id % 2; UPDATE r1 SET w = 1");
        let after = history.capture();
        let mut image = fs::read(history.path(after)).unwrap();
        for (page, at, byte) in bytes {
            let place = (page * 512 + at) as usize;
            // The size and the number of the pages stay, or nothing would be compared.
            if let Some(there) = image.get_mut(place).filter(|_| place >= 32) {
                *there = byte;
            }
        }
        fs::write(history.path(after), image).unwrap();
        history.store(after);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let scratch = TempDir::new().unwrap();
        let targets = [1, 2].map(|txid| Target::Txid(Txid::new(txid)));
        // What SQLite says of a malformed schema is an error.
        let _ = runtime.block_on(compare(&history.client(), targets, scratch.path(), true));
    }
}

/// Many rows in a table with an index.
fn large() -> History {
    let history = History::new(4096, 0);
    history.sql(
        "CREATE TABLE item (id INTEGER PRIMARY KEY, name, data); CREATE INDEX by_name ON item (name);
         CREATE TABLE other (id INTEGER PRIMARY KEY, data); CREATE INDEX by_data ON other (data);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000)
         INSERT INTO item SELECT i, hex(randomblob(8)), randomblob(300) FROM n;
         INSERT INTO other SELECT id, data FROM item;",
    );
    history
}

#[tokio::test]
async fn a_change_of_one_row_reads_a_small_part() {
    let mut history = large();
    let before = history.capture();
    history.sql("INSERT INTO item VALUES (100000, 'new', 'x')");
    let after = history.capture();
    let found = history.check(before, after).await;
    let item = object(&found.differences, "item");
    assert_eq!((item.change, item.rows), (Some(1), [Rows::Uncounted; 2]));
    assert_eq!(object(&found.differences, "by_name").change, None);
    let all = fs::metadata(history.path(after)).unwrap().len();
    assert!(found.bytes_fetched < all / 20, "{} of {all}", found.bytes_fetched);

    let counted = history.compare(before, after, true).await.differences;
    assert_eq!(object(&counted, "item").rows, [Rows::Counted(20_000), Rows::Counted(20_001)]);
}

#[tokio::test]
async fn tables_that_come_go_and_get_another_name() {
    let mut history = large();
    history.sql("CREATE TABLE gone (x); INSERT INTO gone VALUES (1), (2); CREATE TABLE spare (x)");
    history.sql("DROP TABLE spare");
    let before = history.capture();
    history.sql("DROP TABLE gone; ALTER TABLE item RENAME TO thing; CREATE TABLE \"a \"\"b\" (x); INSERT INTO thing (name) VALUES (1)");
    let after = history.capture();
    let found = history.check(before, after).await;
    let differences = &found.differences;
    let rows = |name: &str| (object(differences, name).rows, object(differences, name).change);
    assert_eq!(rows("gone"), ([Rows::Counted(2), Rows::None], Some(-2)));
    assert_eq!(rows("a \"b"), ([Rows::None, Rows::Counted(0)], Some(0)));
    assert_eq!(rows("item"), ([Rows::Uncounted, Rows::None], None));
    assert_eq!(rows("thing"), ([Rows::None, Rows::Uncounted], None));
    let all = fs::metadata(history.path(before)).unwrap().len();
    assert!(found.bytes_fetched < all / 20, "{} of {all}", found.bytes_fetched);
}

#[tokio::test]
async fn a_name_may_be_of_a_table_and_then_of_an_index() {
    let mut history = large();
    history.sql("CREATE TABLE changing (x); INSERT INTO changing VALUES (1), (2), (3)");
    let before = history.capture();
    history.sql("DROP TABLE changing; CREATE INDEX changing ON other (id)");
    let after = history.capture();
    let found = history.check(before, after).await;
    let changing = object(&found.differences, "changing");
    assert_eq!((changing.rows, changing.change), ([Rows::Counted(3), Rows::None], Some(-3)));
}

#[tokio::test]
async fn damage_is_not_taken_for_a_difference() {
    let mut history = large();
    let before = history.capture();
    history.sql("UPDATE item SET data = 1 WHERE id = 7");
    let after = history.capture();
    let honest = history.replica.content(Level::L0, range(2, 2)).unwrap();
    history.sql("UPDATE item SET data = 2 WHERE id = 7");
    fs::copy(history.folder.path().join("live.db"), history.path(after)).unwrap();
    history.store(after);
    // The pages of another history under the header of this one: whole as a file, and yet wrong.
    let mut mixed = history.replica.content(Level::L0, range(2, 2)).unwrap().to_vec();
    mixed[..Header::SIZE].copy_from_slice(&honest[..Header::SIZE]);
    history.replica.insert(Level::L0, range(2, 2), time(2), mixed);
    let targets = [before, after].map(|txid| Target::Txid(Txid::new(txid)));
    let scratch = TempDir::new().unwrap();
    let error = compare(&history.client(), targets, scratch.path(), false).await.unwrap_err();
    assert!(error.to_string().contains("its checksum promises"), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_passed_by_where_others_lead_to_the_same_state() {
    let mut history = large();
    for name in ["a", "b", "c"] {
        history.sql(&format!("UPDATE item SET name = '{name}' WHERE id = 9"));
        history.capture();
    }
    let level_1 = Level::new(1).unwrap();
    history.replica.insert(level_1, range(2, 3), time(3), &b"no file at all"[..]);
    history.check(1, 3).await;
}

#[tokio::test]
async fn a_replica_of_version_0_3_is_compared_as_a_whole() {
    let golden = Golden::open("v3-a");
    let points = crate::restore::points(&*golden.client()).await.unwrap();
    let (first, last) = (points.first().unwrap(), points.last().unwrap());
    let targets = [Target::At(first.created_at), Target::At(last.created_at)];
    let scratch = TempDir::new().unwrap();
    let found = compare(&golden.client(), targets, scratch.path(), false).await.unwrap();
    assert!(found.differences.pages > 0 && !found.differences.objects.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_change_of_the_page_size_is_an_error_that_says_what_to_do() {
    let mut history = large();
    let before = history.capture();
    history.sql("PRAGMA page_size = 512; VACUUM");
    history.page_size = PageSize::new(512).unwrap();
    history.states += 1;
    fs::copy(history.folder.path().join("live.db"), history.path(2)).unwrap();
    let all = history.path(1).with_file_name("nothing.db");
    fs::rename(history.path(1), &all).unwrap();
    fs::write(history.path(1), b"").unwrap();
    history.lineage = false;
    history.store(2);
    let targets = [before, 2].map(|txid| Target::Txid(Txid::new(txid)));
    let scratch = TempDir::new().unwrap();
    let error = compare(&history.client(), targets, scratch.path(), false).await.unwrap_err();
    assert!(error.to_string().contains("from 4096 to 512"), "{error}");
}
