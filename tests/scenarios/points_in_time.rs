//! Finding a state and going back to it.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;
use walstream_test_support::App;
use walstream_test_support::compare::{assert_same_pages, assert_same_rows};
use walstream_test_support::golden::Golden;
use walstream_test_support::replica::{file_url, reachable_txids};

use crate::refusal::assert_refused;
use crate::site::Site;
use crate::walstream;

/// A shop that was replicated several times, with a copy of it from each.
struct Shop {
    folder: TempDir,
    app: App,
    copies: u32,
}

impl Shop {
    fn replicated(times: u32) -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path().join("shop.db"));
        let mut shop = Shop { folder, app, copies: 0 };
        (0..times).for_each(|_| shop.sell());
        shop
    }

    fn sell(&mut self) {
        self.app.sell(10, 200);
        walstream().replicate_once(self.app.path(), &self.url());
        self.copies += 1;
        let copy = self.folder.path().join(format!("copy-{}.db", self.copies));
        self.app.execute(&format!("VACUUM INTO '{}'", copy.display()));
    }

    fn url(&self) -> String {
        file_url(&self.folder.path().join("replica"))
    }

    fn list(&self) -> Vec<Value> {
        let finished = walstream().run(["restore", "-list", "-json", &self.url()]).success();
        serde_json::from_str(&finished.stdout).unwrap()
    }

    /// `restore -force -json`, and what it says.
    fn restore(&self, flags: &[&str]) -> Value {
        let output = self.folder.path().join("restored.db");
        let flags = [&["-force", "-json"], flags].concat();
        let finished = walstream().try_restore(&self.url(), &output, &flags).success();
        serde_json::from_str(&finished.stdout).unwrap()
    }

    fn assert_restored_is_copy(&self, number: u32) {
        let copy = self.folder.path().join(format!("copy-{number}.db"));
        assert_same_rows(&copy, &self.folder.path().join("restored.db"));
    }
}

#[test]
fn every_state_in_the_list_is_restored_by_its_txid_and_by_its_time() {
    let shop = Shop::replicated(4);
    let files = walstream_test_support::replica::files(&shop.folder.path().join("replica"));
    let listed = shop.list();
    let txids: Vec<String> = reachable_txids(&files).iter().map(|txid| format!("{txid:016x}")).collect();
    assert_eq!(listed.iter().map(|point| point["txid"].as_str().unwrap()).collect::<Vec<_>>(), txids);
    for (place, point) in listed.iter().enumerate() {
        let (txid, time) = (point["txid"].as_str().unwrap(), point["timestamp"].as_str().unwrap());
        assert_eq!(shop.restore(&["-txid", txid])["timestamp"], point["timestamp"]);
        let by_time = shop.restore(&["-timestamp", time]);
        let same_time = listed.iter().skip(place + 1).any(|later| later["timestamp"] == point["timestamp"]);
        assert!(same_time || by_time["txid"] == point["txid"], "{by_time} is not {point}");
    }
    shop.assert_restored_is_copy(4);
}

#[test]
fn a_later_snapshot_does_not_make_a_state_younger() {
    let shop = Shop::replicated(2);
    let before = shop.list().pop().unwrap();
    let database = shop.app.path().to_str().unwrap();
    walstream().run(["replicate", "-once", "-force-snapshot", database, &shop.url()]).success();
    let newest = shop.list().pop().unwrap();
    assert!(newest["levels"].as_array().unwrap().contains(&Value::from(9)), "{newest}");
    assert_eq!((&newest["txid"], &newest["timestamp"]), (&before["txid"], &before["timestamp"]));
    for flags in [&[][..], &["-txid", newest["txid"].as_str().unwrap()], &["-timestamp", "-0s"]] {
        assert_eq!(shop.restore(flags)["timestamp"], newest["timestamp"], "{flags:?}");
    }
}

#[test]
fn the_list_is_a_table_for_people() {
    let shop = Shop::replicated(2);
    let table = walstream().run(["restore", "-list", &shop.url()]).success();
    let newest = shop.list().pop().unwrap();
    let last = table.stdout.lines().last().unwrap();
    assert!(table.stdout.starts_with("txid              timestamp                 levels\n"), "{table:#?}");
    assert!(last.starts_with(newest["txid"].as_str().unwrap()) && last.ends_with("  0"), "{table:#?}");
}

#[test]
fn what_lies_behind_a_hole_is_not_in_the_list_but_is_spoken_of() {
    let shop = Shop::replicated(4);
    let before = shop.list();
    let files = walstream_test_support::replica::ltx_files(&shop.folder.path().join("replica"), 0);
    let (hole, _, path) = &files[files.len() - 2];
    fs::remove_file(path).unwrap();
    let finished = walstream().run(["restore", "-list", "-json", &shop.url()]).success();
    let listed: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(listed, before[..before.len() - 2]);
    assert!(finished.stderr.contains("newer files") && finished.stderr.contains(&format!("{hole:016x}")));
}

#[test]
fn a_replica_of_litestream_03_lists_its_times() {
    let golden = Golden::copy("v3-two-generations");
    let table = walstream().run(["restore", "-list", &golden.url()]).success();
    assert_eq!(table.stdout.lines().filter(|line| line.starts_with("-  ")).count(), 5, "{table:#?}");
}

#[test]
fn a_replica_of_litestream_03_shows_its_plan() {
    let golden = Golden::copy("v3-a");
    let plan = |flags: &[&str]| {
        let flags = [&["-dry-run"], flags].concat();
        walstream().try_restore(&golden.url(), &golden.output(), &flags).success().stdout
    };
    let text = plan(&[]);
    let lines: Vec<&str> = text.lines().skip(4).collect();
    assert_eq!(lines[0], "  txid range: none, a backup of Litestream 0.3");
    assert!(lines[3].starts_with("file ") && lines[3].ends_with(" size  timestamp"), "{text}");
    assert!(lines[4].contains("/snapshots/00000000.snapshot.lz4  ") && lines.len() == 22, "{text}");

    let json: Value = serde_json::from_str(&plan(&["-json"])).unwrap();
    assert_eq!([&json["replica"], &json["min_txid"], &json["max_txid"]], ["file", "", ""]);
    let files = json["files"].as_array().unwrap();
    for (file, line) in files.iter().zip(&lines[4..]) {
        let size = file["size"].as_u64().unwrap().to_string();
        let row = [file["name"].as_str().unwrap(), &size, file["timestamp"].as_str().unwrap()];
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), row);
        assert!(file["level"].is_null() && file["min_txid"] == "" && file["max_txid"] == "", "{file}");
    }

    let missing = golden.replica().join(files[1]["name"].as_str().unwrap());
    fs::remove_file(missing).unwrap();
    for flags in [&["-dry-run"][..], &[]] {
        let refused = walstream().try_restore(&golden.url(), &golden.output(), flags);
        assert_refused(&refused, &["missing WAL segment: expected 00000000_00000000 before it"]);
    }
}

#[test]
fn a_replica_of_litestream_03_has_no_ltx_files_but_is_spoken_of() {
    let golden = Golden::copy("v3-a");
    let listed = walstream().run(["ltx", "-level", "all", &golden.url()]).success();
    assert_eq!(listed.stdout, "level  min_txid  max_txid  size  created\n");
    assert_eq!(listed.stderr.lines().count(), 1, "{listed:#?}");
    assert!(
        listed.stderr.contains("Litestream 0.3") && listed.stderr.contains("restore -list"),
        "{listed:#?}"
    );
}

#[test]
fn some_time_ago() {
    let shop = Shop::replicated(2);
    assert_eq!(shop.restore(&["-timestamp", "-0s"])["txid"], shop.list().pop().unwrap()["txid"]);
    shop.assert_restored_is_copy(2);
    for flag in [&["-timestamp", "-1h30m"][..], &["-timestamp=-2d"]] {
        let output = shop.folder.path().join("older.db");
        let range = ["the oldest state that can be restored is of", ", the newest of"];
        assert_refused(&walstream().try_restore(&shop.url(), &output, flag), &range);
    }
}

#[test]
fn a_restore_by_time_says_which_state_it_gives_and_what_the_range_is_if_it_is_the_newest() {
    let shop = Shop::replicated(3);
    let (output, points) = (shop.folder.path().join("told.db"), shop.list());
    let text = |point: &Value, key: &str| format!("{key}={}", point[key].as_str().unwrap());
    let newest = "nothing newer than this state";
    for (time, point, is_newest) in
        [("2200-01-01T00:00:00Z", &points[points.len() - 1], true), ("", &points[0], false)]
    {
        let time = if time.is_empty() { point["timestamp"].as_str().unwrap() } else { time };
        let finished =
            walstream().try_restore(&shop.url(), &output, &["-force", "-timestamp", time]).success();
        let line = finished.stdout.lines().find(|line| line.contains("database restored")).unwrap();
        assert!(line.contains(&text(point, "timestamp")), "{line}");
        assert!(!is_newest || line.contains(&text(point, "txid")), "{line}");
        assert_eq!(finished.stdout.contains(newest), is_newest, "{finished:#?}");
        let oldest = points[0]["timestamp"].as_str().unwrap();
        let range =
            format!("{newest}\" {} {} oldest={oldest}", text(point, "txid"), text(point, "timestamp"));
        assert_eq!(finished.stdout.contains(&range), is_newest, "{finished:#?}");
    }
}

#[test]
fn a_list_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let url = file_url(&folder.path().join("nothing"));
    assert_refused(&walstream().run(["restore", "-list", &url]), &["no matching backup files available"]);
    walstream().run(["restore", "-list", "-if-replica-exists", &url]).success();
    let both = walstream().run(["restore", "-list", "-timestamp", "-5m", &url]);
    assert_refused(&both, &["-list shows every state"]);
}

#[test]
fn a_restore_over_another_state_fetches_what_differs() {
    let site = Site::new();
    let app = site.app_with_mebibytes(20);
    site.replicate_once();
    let restore = |flags: &[&str]| -> u64 {
        let finished = walstream().try_restore(&site.url(), &site.path("restored.db"), flags).success();
        serde_json::from_str::<Value>(&finished.stdout).unwrap()["bytes_fetched"].as_u64().unwrap()
    };
    let whole = restore(&["-json"]);
    app.sell(1, 100);
    site.replicate_once();
    let part = restore(&["-json", "-force", "-delta"]);
    println!("{part} bytes instead of {whole}");
    assert!(part < whole / 20, "{part} bytes instead of {whole}");
    assert_same_pages(app.path(), &site.path("restored.db"));
    let nothing = restore(&["-json", "-force", "-delta"]);
    assert!(nothing < whole / 20, "{nothing} bytes");
}
