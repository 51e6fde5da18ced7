//! A history as it comes about in days, in seconds: levels are merged, snapshots are made, both are deleted. Whoever
//! wrote it, both programs find the same states in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;
use walstream_test_support::compare::{assert_rows, assert_same_pages, assert_sound, rows};
use walstream_test_support::replica::{StoredFile, last_txids};
use walstream_test_support::{Place, Program};

use crate::across::trade;
use crate::site::Site;
use crate::{litestream, walstream};

/// How far a moment is from every state: at the very time of one Litestream does not restore it yet, and walstream does.
const APART: TimeDelta = TimeDelta::milliseconds(5);
/// The longest that it may take until everything has come about.
const DEADLINE: Duration = Duration::from_secs(90);

/// A live application with its replica, and what was known while it came about.
struct History<'a> {
    site: Site<'a>,
    place: &'a Place,
    /// The rows of every TXID after which the application paused.
    rows: BTreeMap<u64, Vec<String>>,
    /// A time in each of those pauses.
    moments: Vec<DateTime<Utc>>,
    /// Every file that was ever seen, and who wrote it.
    seen: BTreeMap<StoredFile, &'static str>,
    /// Those that were there before it was this program's turn.
    earlier: BTreeSet<StoredFile>,
}

impl<'a> History<'a> {
    /// Three levels and snapshots, and what both programs delete of them; snapshots are kept for so long.
    fn new(place: &'a Place, retention: &str) -> History<'a> {
        let fast = format!(
            "levels: [{{interval: 1s}}, {{interval: 3s}}, {{interval: 6s}}]
snapshot: {{interval: 4s, retention: {retention}}}
l0-retention: 2s
l0-retention-check-interval: 1s
"
        );
        let replica = format!("{{url: '{}', sync-interval: 100ms}}", place.url());
        let site = Site::by_settings(&fast, &replica, || place.txids());
        let (rows, moments, seen, earlier) = Default::default();
        History { site, place, rows, moments, seen, earlier }
    }

    /// The application trades until nothing is lacking any more, and after each commit everything is on the replica.
    fn under(mut self, program: &Program, lacking: impl Fn(&Self) -> Option<String>) -> Self {
        self.earlier = self.place.files().into_iter().collect();
        let daemon = self.site.replicate(program).ready();
        let start = Instant::now();
        for step in 0.. {
            trade(&self.site.app, step, 20);
            let txid = self.site.sync(program);
            self.rows.insert(txid, rows(self.site.app.path()));
            self.moments.push(moment());
            self.look(program);
            let Some(lacking) = lacking(&self) else { break };
            assert!(start.elapsed() < DEADLINE, "{}: {lacking}: {:?}", program.name, self.place.files());
        }
        daemon.stop();
        self.look(program);
        self
    }

    fn look(&mut self, program: &Program) {
        for file in self.place.files() {
            self.seen.entry(file).or_insert(program.name);
        }
    }

    /// Everything that both programs must agree on.
    fn is_the_same_to_both(&self) {
        self.latest_is_the_applications();
        self.every_txid_is_the_same();
        self.every_moment_is_the_same();
        let report = self.site.run(&self.site.walstream(), &["verify", "-deep", "-json"]).success();
        let report: Value = serde_json::from_str(&report.stdout).unwrap();
        assert_eq!(report["sound"], true, "{report:#}");
    }

    fn latest_is_the_applications(&self) {
        for reader in [self.site.walstream(), self.site.litestream()] {
            let output = self.output(&reader);
            self.site.restore(&reader, &output, &[]);
            assert_sound(&output);
            assert_same_pages(self.site.app.path(), &output);
        }
    }

    /// Both restore exactly the TXIDs that walstream lists.
    fn every_txid_is_the_same(&self) {
        let listed: BTreeSet<u64> = self.points().into_iter().map(|point| point.txid).collect();
        let files = last_txids(&self.place.files());
        let mut known = 0;
        for txid in listed.iter().chain(&files).collect::<BTreeSet<_>>() {
            match self.restored(&["-txid", &format!("{txid:016x}")]) {
                Some(output) => {
                    assert!(listed.contains(txid), "TXID {txid} can be restored and is not listed");
                    known += u32::from(self.is_the_applications(*txid, &output));
                }
                None => assert!(!listed.contains(txid), "TXID {txid} is listed and cannot be restored"),
            }
        }
        assert!(known > 5, "the rows of {known} TXIDs of {listed:?} are known");
    }

    /// Both restore the newest state that walstream lists and that is not after the moment, as long as there is one.
    fn every_moment_is_the_same(&self) {
        let points = self.points();
        let apart =
            |moment: &&DateTime<Utc>| points.iter().all(|point| (**moment - point.time).abs() > APART);
        let before = |moment: &DateTime<Utc>| points.iter().rfind(|point| point.time < *moment);
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.moments.iter().filter(apart).partition(|&moment| before(moment).is_some());
        assert!(kept.len() > 5, "{kept:?} are left");
        for moment in some_of(&kept).chain(some_of(&gone)) {
            let time = moment.to_rfc3339_opts(SecondsFormat::Millis, true);
            let (restored, point) = (self.restored(&["-timestamp", &time]), before(moment));
            assert_eq!(restored.is_some(), point.is_some(), "{time}");
            if let Some((output, point)) = restored.zip(point) {
                self.is_the_applications(point.txid, &output);
            }
        }
    }

    /// Whether it is known what the application had after this TXID, which is then what was restored. A snapshot of Litestream's
    /// may hold the commit that came while it was made as well.
    fn is_the_applications(&self, txid: u64, output: &Path) -> bool {
        let Some(expected) = self.rows.get(&txid) else { return false };
        let snapshot = |file: &StoredFile| file.level == 9 && file.last == txid;
        let theirs = self.seen.iter().any(|(file, writer)| snapshot(file) && *writer == "litestream");
        let next = self.rows.range(txid + 1..).next().map(|(_, rows)| rows);
        if !(theirs && next == Some(&rows(output))) {
            assert_rows(expected, output);
        }
        true
    }

    /// What both restore, byte for byte the same; or neither does.
    fn restored(&self, flags: &[&str]) -> Option<PathBuf> {
        let readers = [self.site.walstream(), self.site.litestream()];
        let outputs = readers.each_ref().map(|reader| self.output(reader));
        let finished = [0, 1].map(|at| self.site.try_restore(&readers[at], &outputs[at], flags));
        let succeeded = finished.each_ref().map(|finished| finished.status.success());
        assert_eq!(succeeded[0], succeeded[1], "{flags:?}: {finished:#?}");
        let [ours, theirs] = outputs;
        succeeded[0].then(|| {
            assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "{flags:?} differs");
            assert_sound(&ours);
            ours
        })
    }

    fn output(&self, reader: &Program) -> PathBuf {
        self.site.folder.path().join(format!("by-{}.db", reader.name))
    }

    /// The states that walstream lists.
    fn points(&self) -> Vec<Point> {
        let listed = self.site.run(&self.site.walstream(), &["restore", "-list", "-json"]).success();
        let listed: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
        listed.iter().map(Point::new).collect()
    }

    /// What this turn has not brought about yet: merged files of three levels, and two snapshots.
    fn not_merged(&self) -> Option<String> {
        let files: BTreeSet<StoredFile> = self.place.files().into_iter().collect();
        let new = |level| files.difference(&self.earlier).filter(move |file| file.level == level);
        let merged = |level| new(level).any(|file| file.first < file.last);
        let level = [1, 2, 3].into_iter().find(|&level| !merged(level));
        let unmerged = level.map(|level| format!("nothing was merged to level {level}"));
        unmerged.or_else(|| (new(9).count() < 2).then(|| "there are no two snapshots".to_owned()))
    }

    /// The first of these levels of which nothing was deleted yet.
    fn not_deleted(&self, levels: &[u8]) -> Option<String> {
        let left: BTreeSet<StoredFile> = self.place.files().into_iter().collect();
        let deleted = |level: u8| self.seen.keys().any(|file| file.level == level && !left.contains(file));
        let level = levels.iter().find(|level| !deleted(**level))?;
        Some(format!("nothing was deleted of level {level}"))
    }
}

/// A state that walstream lists.
struct Point {
    txid: u64,
    time: DateTime<Utc>,
}

impl Point {
    fn new(listed: &Value) -> Point {
        let text = |key: &str| listed[key].as_str().unwrap();
        let txid = u64::from_str_radix(text("txid"), 16).unwrap();
        Point { txid, time: text("timestamp").parse().unwrap() }
    }
}

/// Six from all over, at most.
fn some_of<'a>(moments: &'a [&DateTime<Utc>]) -> impl Iterator<Item = &'a DateTime<Utc>> {
    moments.iter().copied().step_by(moments.len().div_ceil(6).max(1))
}

/// A time, with no commit just before or after it.
fn moment() -> DateTime<Utc> {
    thread::sleep(Duration::from_millis(20));
    let now = Utc::now();
    thread::sleep(Duration::from_millis(20));
    now
}

/// Each program writes a replica of its own, at the same time.
fn each_writes_its_own(place: impl Fn(&Path) -> Place + Sync) {
    thread::scope(|scope| {
        for writer in [walstream(), litestream()] {
            let place = &place;
            scope.spawn(move || {
                let folder = tempfile::tempdir().unwrap();
                let place = place(folder.path());
                let history = History::new(&place, "8s").under(&writer, |history| {
                    history.not_merged().or_else(|| history.not_deleted(&[0, 1, 9]))
                });
                history.is_the_same_to_both();
            });
        }
    });
}

#[test]
fn both_find_the_same_history_in_a_directory() {
    each_writes_its_own(Place::directory);
}

#[test]
fn both_find_the_same_history_on_s3() {
    each_writes_its_own(|_| Place::s3());
}

#[test]
fn both_find_the_same_history_where_both_wrote_by_turns() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::directory(folder.path());
    // Long enough for snapshots of both to be there at the end, and what was merged between them.
    let mut history = History::new(&place, "5m");
    for writer in [litestream(), walstream(), litestream()] {
        history =
            history.under(&writer, |history| history.not_merged().or_else(|| history.not_deleted(&[0])));
    }
    history.is_the_same_to_both();
}
