//! Captures of a real database, held against what SQLite itself says is in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;
use walstream_ltx::{Decoder, Pgno, Timestamp};

use super::session::{Capture, Position, RemoteNewest, Setup};
use super::source::Source;
use crate::clock::{Clock, SystemClock};
use crate::fs::SystemDisk;
use crate::shadow::folder::ShadowFolder;
use crate::shadow::recover::recover;

/// A database with an application, a capture of it, and a copy that is built from nothing but the files that
/// the capture wrote.
struct World {
    _folder: tempfile::TempDir,
    path: PathBuf,
    meta: PathBuf,
    app: Connection,
    capture: Option<Capture>,
    copy: BTreeMap<Pgno, Vec<u8>>,
    copied: Position,
}

impl World {
    fn new(page_size: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        let app = Connection::open(&path).unwrap();
        // Everything happens in one thread, so waiting for a lock would be waiting for oneself.
        app.busy_timeout(Duration::ZERO).unwrap();
        app.execute_batch(&format!(
            "PRAGMA page_size = {page_size}; PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0;
             CREATE TABLE t (id INTEGER PRIMARY KEY, value BLOB); INSERT INTO t VALUES (0, zeroblob(9000));"
        ))
        .unwrap();
        let meta = crate::options::default_meta_path(&path);
        let mut world = World {
            _folder: folder,
            path,
            meta,
            app,
            capture: None,
            copy: BTreeMap::new(),
            copied: Position::default(),
        };
        world.start(None);
        world.take_base();
        world
    }

    fn shadow(&self) -> ShadowFolder {
        let disk = Arc::new(SystemDisk::like(&self.path).unwrap());
        ShadowFolder::open(&self.meta, self.path.parent().unwrap(), disk).unwrap()
    }

    fn start(&mut self, remote: Option<RemoteNewest>) {
        self.start_with(Arc::new(SystemClock), 0, remote);
    }

    fn start_with(&mut self, clock: Arc<dyn Clock>, max_bytes: u64, remote: Option<RemoteNewest>) {
        let shadow = self.shadow();
        let source = Source::open(&self.path, Duration::from_millis(200)).unwrap();
        let local = recover(&shadow).unwrap();
        let setup = Setup { source, shadow, clock, max_bytes };
        self.capture = Some(Capture::resume(setup, local, remote).unwrap());
    }

    fn stop(&mut self) {
        self.capture = None;
    }

    fn capture(&mut self) -> &mut Capture {
        self.capture.as_mut().unwrap()
    }

    /// Begins the copy with a snapshot.
    fn take_base(&mut self) {
        let (snapshot, _) = self.capture().snapshot().unwrap();
        let mut file = Vec::new();
        snapshot.encode(&mut file).unwrap();
        self.copy.clear();
        self.apply(&file);
        self.copied = self.capture().position();
    }

    fn apply(&mut self, file: &[u8]) -> u32 {
        let mut decoder = Decoder::new(file).unwrap();
        let commit = decoder.header().commit;
        let mut pages = 0;
        while let Some(page) = decoder.next_page().unwrap() {
            self.copy.insert(page.pgno, page.data.to_vec());
            pages += 1;
        }
        decoder.finish().unwrap();
        self.copy.retain(|&pgno, _| commit.contains(pgno));
        pages
    }

    /// Captures everything, applies the new files to the copy and compares it with the database. Returns how
    /// many pages the new files hold.
    fn capture_and_compare(&mut self) -> u32 {
        self.capture().capture_all().unwrap();
        self.compare()
    }

    fn compare(&mut self) -> u32 {
        let shadow = self.shadow();
        let mut pages = 0;
        for file in shadow.files_after(self.copied.txid).unwrap() {
            assert_eq!(file.min(), self.copied.txid.next(), "level-0 files are contiguous");
            let content = std::fs::read(shadow.path(file)).unwrap();
            let header = Decoder::new(&content[..]).unwrap().header().clone();
            assert_eq!(header.lineage.pre_apply, self.copied.checksum);
            pages += self.apply(&content);
            self.copied = Position { txid: file.max(), checksum: header.lineage.post_apply };
        }
        assert_eq!(self.capture().position(), self.copied);
        let copy: Vec<u8> = self.copy.values().flatten().copied().collect();
        assert!(copy == truth(&self.path), "the copy differs from the database");
        pages
    }

    fn sql(&self, sql: &str) {
        self.app.execute_batch(sql).unwrap();
    }

    fn checkpoint(&self, mode: &str) {
        self.app.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(())).unwrap();
    }

    /// The WAL as it is, byte for byte.
    fn wal(&self) -> Vec<u8> {
        read_beside(&self.path, "app.db-wal")
    }
}

/// The database as SQLite sees it: a copy of its files, checkpointed. The copy is made by another process,
/// since closing a descriptor here would drop the locks of this process.
fn truth(path: &Path) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("app.db");
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", path.display());
        if Path::new(&from).exists() {
            let done =
                Command::new("cp").arg(from).arg(format!("{}{suffix}", copy.display())).status().unwrap();
            assert!(done.success());
        }
    }
    let connection = Connection::open(&copy).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    std::fs::read(copy).unwrap()
}

fn read_beside(path: &Path, name: &str) -> Vec<u8> {
    std::fs::read(path.with_file_name(name)).unwrap()
}

#[test]
fn a_file_that_is_longer_than_its_database_is_captured_as_the_database() {
    let mut world = World::new(1024);
    let position = world.capture().position();
    world.stop();
    world.checkpoint("TRUNCATE");
    // Without the map every page is looked at.
    std::fs::remove_file(world.meta.join("walstream.map")).unwrap();
    // As a crash leaves it after a commit that made the database smaller, and before its file is truncated.
    let longer = Command::new("truncate").args(["-s", "+4096"]).arg(&world.path).status().unwrap();
    assert!(longer.success());
    world.start(None);
    world.capture().capture_all().unwrap();
    assert_eq!(world.capture().position(), position);
}

/// An application that commits whenever a file is about to be written, so many times.
struct EagerApplication {
    app: Mutex<Connection>,
    times: AtomicU32,
}

impl EagerApplication {
    fn of(world: &World) -> Arc<Self> {
        let app = Mutex::new(Connection::open(&world.path).unwrap());
        Arc::new(EagerApplication { app, times: AtomicU32::new(0) })
    }
}

impl Clock for EagerApplication {
    fn now(&self) -> Timestamp {
        if self.times.fetch_update(Relaxed, Relaxed, |times| times.checked_sub(1)).is_ok() {
            let app = self.app.lock().unwrap();
            app.execute_batch("UPDATE t SET value = zeroblob(6000); UPDATE t SET value = zeroblob(5000)")
                .unwrap();
        }
        SystemClock.now()
    }
}

#[test]
fn an_application_that_commits_faster_than_files_are_written_does_not_keep_a_capture_for_ever() {
    let mut world = World::new(512);
    world.stop();
    let eager = EagerApplication::of(&world);
    // So small that every commit becomes a file of its own.
    world.start_with(eager.clone(), 512, None);
    world.capture().capture_all().unwrap();

    eager.times.store(100, Relaxed);
    world.sql("UPDATE t SET value = zeroblob(4000); UPDATE t SET value = zeroblob(3000)");
    let captured = world.capture().capture_all().unwrap().len();
    assert!((2..10).contains(&captured), "{captured} files");
}

#[test]
fn frames_that_are_written_over_while_they_are_read_are_taken_from_the_file() {
    let mut world = World::new(512);
    world.stop();
    world.sql("UPDATE t SET value = randomblob(6000)");
    // Everything is in the file, so that the next writer restarts the WAL, whoever reads.
    world.checkpoint("PASSIVE");
    let eager = EagerApplication::of(&world);
    world.start_with(eager.clone(), 0, None);
    eager.times.store(1, Relaxed);
    world.capture().capture_all().unwrap();
    assert_eq!(eager.times.load(Relaxed), 0);
    world.capture_and_compare();
}

#[test]
fn a_commit_is_captured_with_nothing_but_its_pages() {
    let mut world = World::new(4096);
    world.sql("UPDATE t SET value = zeroblob(100) WHERE id = 0");
    let pages = world.capture_and_compare();
    assert!((1..=4).contains(&pages), "{pages} pages");
    assert_eq!(world.capture_and_compare(), 0, "nothing new, nothing written");
}

#[test]
fn capturing_and_checkpointing_add_nothing_to_the_wal() {
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(5000))");
    let before = world.wal();
    world.capture_and_compare();
    let sealed = world.capture().checkpoint().unwrap();
    assert!(sealed.complete && sealed.captured.is_empty());
    assert!(world.wal() == before);
    world.compare();
}

#[test]
fn a_sealed_wal_is_restarted_by_the_next_writer_and_followed_without_a_comparison() {
    let mut world = World::new(4096);
    for round in 0..5 {
        world.sql(&format!("INSERT INTO t VALUES ({}, randomblob(50000))", round + 1));
        world.capture().checkpoint().unwrap();
        world.compare();
        world.sql("UPDATE t SET value = randomblob(10) WHERE id = 0");
        assert!(world.capture_and_compare() <= 3);
        assert!(world.wal().len() < 200_000, "the WAL starts anew each round");
    }
}

#[test]
fn nobody_can_restart_the_wal_before_it_is_captured() {
    let mut world = World::new(4096);
    world.capture().checkpoint().unwrap();
    for round in 0..10 {
        world.sql(&format!("INSERT INTO t VALUES ({}, randomblob(3000))", round + 1));
        for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
            // The read lock makes FULL and the others give up as busy; that is SQLite's answer, not an error.
            world.checkpoint(mode);
        }
    }
    assert!(world.capture_and_compare() < 40, "a diff, found in the WAL");
}

#[test]
fn growth_and_shrinking_are_followed_to_the_page() {
    let mut world = World::new(512);
    world.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
               INSERT INTO t SELECT i, randomblob(700) FROM n",
    );
    world.capture_and_compare();
    world.sql("DELETE FROM t WHERE id > 20; VACUUM;");
    world.capture_and_compare();
    world.sql("INSERT INTO t VALUES (1000, zeroblob(40000)); DELETE FROM t WHERE id = 1000;");
    world.capture_and_compare();
}

#[test]
fn what_happened_while_nobody_watched_costs_a_diff() {
    let mut world = World::new(4096);
    world.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
               INSERT INTO t SELECT i, randomblob(3000) FROM n",
    );
    world.capture_and_compare();
    world.capture().checkpoint().unwrap();
    world.capture().save_map().unwrap();
    for mode in ["PASSIVE", "TRUNCATE"] {
        world.stop();
        world.sql("UPDATE t SET value = randomblob(2999) WHERE id IN (7, 300)");
        world.checkpoint(mode);
        world.sql("UPDATE t SET value = randomblob(2998) WHERE id = 8");
        world.start(None);
        let pages = world.capture_and_compare();
        assert!((2..30).contains(&pages), "{mode}: {pages} pages");
    }
}

#[test]
fn the_lost_commit_of_litestream_is_not_lost() {
    // Stop, commit, PASSIVE checkpoint, a shorter commit elsewhere, start: the frame before the old end of the
    // WAL is still the captured one, and Litestream goes on from the beginning of the new generation.
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(30000)); INSERT INTO t VALUES (2, 'x');");
    world.capture_and_compare();
    world.stop();
    world.sql("UPDATE t SET value = randomblob(30000) WHERE id = 1");
    world.checkpoint("PASSIVE");
    world.sql("UPDATE t SET value = 'y' WHERE id = 2");
    world.start(None);
    world.capture_and_compare();
}

#[test]
fn a_restart_goes_on_in_the_wal_without_reading_the_database() {
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(30000))");
    world.capture_and_compare();
    world.stop();
    world.sql("INSERT INTO t VALUES (2, 'while it was down')");
    world.start(None);
    assert!(world.capture_and_compare() <= 3);
}

#[test]
fn a_restored_database_goes_on_at_the_replicas_position_with_nothing_to_upload() {
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(30000))");
    world.capture_and_compare();
    let position = world.capture().position();
    world.stop();
    std::fs::remove_dir_all(&world.meta).unwrap();
    let commit = walstream_ltx::Commit::new(u32::try_from(truth(&world.path).len() / 4096).unwrap());
    world.start(Some(RemoteNewest { position, commit }));
    assert_eq!(world.capture().position(), position);
    assert_eq!(world.shadow().files().unwrap(), []);
    world.sql("INSERT INTO t VALUES (2, 'and on it goes')");
    assert!(world.capture_and_compare() <= 3);
}

#[test]
fn a_torn_newest_file_is_set_aside_and_its_pages_are_captured_anew() {
    let mut world = World::new(4096);
    for id in 1..5 {
        world.sql(&format!("INSERT INTO t VALUES ({id}, randomblob(3000))"));
        world.capture_and_compare();
    }
    world.stop();
    let newest = *world.shadow().files().unwrap().last().unwrap();
    let path = world.shadow().path(newest);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    world.start(None);
    // What was written before is applied a second time, under a number that the copy has seen already.
    world.copied = world.capture().position();
    world.capture_and_compare();
}

#[test]
fn a_database_file_that_was_changed_behind_the_wal_is_found_out_when_the_map_is_built_anew() {
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(30000))");
    world.capture().checkpoint().unwrap();
    world.sql("UPDATE t SET value = 'in the next generation of the WAL' WHERE id = 0");
    world.capture_and_compare();
    world.stop();
    std::fs::remove_file(world.shadow().meta_file("walstream.map")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&world.path).unwrap();
    let inside_the_blob = 8 * 4096 + 1000;
    std::os::unix::fs::FileExt::write_all_at(&file, &[7; 100], inside_the_blob).unwrap();
    drop(file);
    world.start(None);
    world.capture().capture_all().unwrap();
    let files = world.shadow().files_after(world.copied.txid).unwrap();
    assert_eq!(files.len(), 1, "the change is captured, whoever made it");
}

#[test]
fn a_torn_file_stays_until_it_is_known_whether_the_replica_has_its_number() {
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(3000))");
    world.capture_and_compare();
    world.stop();
    let newest = *world.shadow().files().unwrap().last().unwrap();
    std::fs::write(world.shadow().path(newest), b"torn").unwrap();
    for _ in 0..2 {
        let local = recover(&world.shadow()).unwrap();
        assert!(!local.is_sound());
        assert_eq!(local.damaged, [newest]);
    }
}

#[test]
fn a_map_that_was_lost_is_stored_again_with_the_next_capture() {
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(200000))");
    world.capture_and_compare();
    world.stop();
    std::fs::remove_file(world.shadow().meta_file("walstream.map")).unwrap();
    world.start(None);
    world.capture_and_compare();
    // Killed, so that nobody stores it on the way out.
    world.stop();
    world.sql("INSERT INTO t VALUES (2, 'while it was down')");
    world.checkpoint("TRUNCATE");
    world.start(None);
    assert!(world.capture_and_compare() <= 4, "a diff, and not every page");
}

#[test]
fn a_map_that_is_newer_than_the_newest_whole_file_serves_where_the_replica_agrees() {
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(200000))");
    world.capture_and_compare();
    world.capture().save_map().unwrap();
    let position = world.capture().position();
    world.stop();
    let newest = *world.shadow().files().unwrap().last().unwrap();
    std::fs::write(world.shadow().path(newest), b"torn").unwrap();
    world.sql("INSERT INTO t VALUES (2, 'while it was down')");
    world.checkpoint("TRUNCATE");
    let commit = walstream_ltx::Commit::new(u32::try_from(world.copy.len()).unwrap());
    world.start(Some(RemoteNewest { position, commit }));
    assert!(world.capture_and_compare() <= 4, "a diff, and not every page");
}

#[test]
fn a_map_is_rolled_forward_over_a_change_of_the_page_size() {
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(200000))");
    world.capture_and_compare();
    world.stop();
    world.sql("PRAGMA journal_mode = delete; PRAGMA page_size = 1024; VACUUM; PRAGMA journal_mode = wal");
    world.start(None);
    world.copy.clear();
    world.capture_and_compare();
    world.stop();
    world.sql("INSERT INTO t VALUES (2, 'while it was down')");
    world.checkpoint("TRUNCATE");
    world.start(None);
    assert!(world.capture_and_compare() <= 8, "a diff, and not every page");
}

#[test]
fn a_snapshot_of_a_checkpointed_database_survives_the_restart_of_the_wal() {
    // Its reader is on mark 0: the next writer writes over the frames, and only the file is what it was.
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(30000))");
    assert!(world.capture().checkpoint().unwrap().complete);
    let (snapshot, _) = world.capture().snapshot().unwrap();
    world.sql("UPDATE t SET value = randomblob(30000)");
    snapshot.encode(&mut Vec::new()).unwrap();
}

#[test]
fn a_long_snapshot_is_the_state_of_its_position_while_the_application_writes_on() {
    let mut world = World::new(4096);
    world.sql("INSERT INTO t VALUES (1, randomblob(300000))");
    let (snapshot, _) = world.capture().snapshot().unwrap();
    let expected = truth(&world.path);
    world.sql(
        "UPDATE t SET value = randomblob(300000) WHERE id = 1; INSERT INTO t VALUES (2, randomblob(99999))",
    );
    assert!(world.capture().is_pinned());
    world.capture().checkpoint().unwrap();
    let mut file = Vec::new();
    snapshot.encode(&mut file).unwrap();
    assert!(!world.capture().is_pinned());
    let mut decoder = Decoder::new(&file[..]).unwrap();
    let mut image = Vec::new();
    while let Some(page) = decoder.next_page().unwrap() {
        image.extend_from_slice(page.data);
    }
    assert!(image == expected);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, u16),
    Update(u32, u16),
    Delete(u32),
    RolledBack(u16),
    Vacuum,
    Checkpoint(&'static str),
    Capture,
    Seal,
    Restart,
    Down(Vec<Step>),
}

fn step() -> impl Strategy<Value = Step> {
    let modes = prop::sample::select(vec!["PASSIVE", "FULL", "RESTART", "TRUNCATE"]);
    let write = prop_oneof![
        4 => (0u32..40, 1u16..9000).prop_map(|(id, size)| Step::Insert(id, size)),
        4 => (0u32..40, 1u16..9000).prop_map(|(id, size)| Step::Update(id, size)),
        2 => (0u32..40).prop_map(Step::Delete),
        1 => (1u16..60000).prop_map(Step::RolledBack),
        1 => Just(Step::Vacuum),
        2 => modes.prop_map(Step::Checkpoint),
    ];
    let down = prop::collection::vec(write.clone(), 0..6).prop_map(Step::Down);
    prop_oneof![8 => write, 4 => Just(Step::Capture), 2 => Just(Step::Seal), 1 => Just(Step::Restart), 2 => down]
}

fn perform(world: &mut World, step: &Step) {
    match step {
        Step::Insert(id, size) => {
            world.sql(&format!("INSERT OR REPLACE INTO t VALUES ({id}, randomblob({size}))"))
        }
        Step::Update(id, size) => {
            world.sql(&format!("UPDATE t SET value = randomblob({size}) WHERE id = {id}"))
        }
        Step::Delete(id) => world.sql(&format!("DELETE FROM t WHERE id > {id}")),
        // A small cache makes SQLite spill pages into the WAL that never become part of a commit.
        Step::RolledBack(size) => world.sql(&format!(
            "PRAGMA cache_size = 2; BEGIN; INSERT OR REPLACE INTO t VALUES (99, randomblob({size}));
             UPDATE t SET value = randomblob(500); ROLLBACK;"
        )),
        Step::Vacuum => world.sql("VACUUM"),
        Step::Checkpoint(mode) => world.checkpoint(mode),
        Step::Capture => {
            world.capture_and_compare();
        }
        Step::Seal => {
            world.capture().checkpoint().unwrap();
            world.compare();
        }
        Step::Restart => {
            world.stop();
            world.start(None);
            world.capture_and_compare();
        }
        Step::Down(steps) => {
            world.stop();
            steps.iter().for_each(|step| perform(world, step));
            world.start(None);
            world.capture_and_compare();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_application_does_the_copy_is_the_database(
        page_size in prop::sample::select(vec![512u32, 4096]),
        steps in prop::collection::vec(step(), 1..25),
    ) {
        let mut world = World::new(page_size);
        steps.iter().for_each(|step| perform(&mut world, step));
        world.capture_and_compare();
    }
}
