//! Comparing two states of a replica.

use serde_json::Value;
use walstream_test_support::replica::txids;
use walstream_test_support::{Moto, golden::Golden};

use crate::refusal::assert_refused;
use crate::site::Site;
use crate::walstream;

/// More than it takes, and less than the pages that lead to all rows of the database of [`one_row_more`].
const FEW_REQUESTS: usize = 80;

fn diff(flags: &[&str], from: &str, to: &str, url: &str) -> Value {
    let arguments = [&["ltx", "diff", "-json"], flags, &[from, to, url]].concat();
    serde_json::from_str(&walstream().run(arguments).success().stdout).unwrap()
}

/// Every state of a replica, the oldest first.
fn states(url: &str) -> Vec<Value> {
    let list = walstream().run(["restore", "-list", "-json", url]).success().stdout;
    serde_json::from_str(&list).unwrap()
}

fn oldest(url: &str) -> String {
    states(url)[0]["txid"].as_str().unwrap().to_owned()
}

fn object(found: &Value, name: &str) -> Value {
    let objects = found["objects"].as_array().unwrap();
    objects.iter().find(|object| object["name"] == name).unwrap_or_else(|| panic!("{found:#}")).clone()
}

#[test]
fn a_difference_names_tables_indexes_and_rows() {
    let site = Site::new();
    let app = site.app();
    app.execute("CREATE TABLE note (text); INSERT INTO note VALUES ('a'), ('b')");
    site.replicate_once();
    app.execute("DELETE FROM note WHERE text = 'a'");
    site.replicate_once();
    let (txids, url) = (txids(&site.replica()), site.url());
    let [.., first, second] = &txids[..] else { panic!("{txids:?}") };
    let (first, second) = (&format!("{first:016x}")[..], &format!("{second:016x}")[..]);
    let found = diff(&[], first, second, &url);
    assert_eq!((&found["from"]["txid"], &found["to"]["txid"]), (&first.into(), &second.into()));
    let note = object(&found, "note");
    assert_eq!(
        (&note["rows_before"], &note["rows_after"], &note["rows_change"]),
        (&2.into(), &1.into(), &(-1).into())
    );
    let backwards = diff(&[], second, first, &url);
    assert_eq!(backwards["pages"], found["pages"]);
    assert_eq!(
        (&object(&backwards, "note")["rows_after"], &object(&backwards, "note")["rows_change"]),
        (&2.into(), &1.into())
    );

    let table = walstream().run(["ltx", "diff", first, "-0s", &url]).success().stdout;
    assert!(table.lines().any(|line| line.starts_with("note ") && line.contains(" -1 ")), "{table}");
    let same = walstream().run(["ltx", "diff", "-0s", "2200-01-01T00:00:00Z", &url]).success().stdout;
    assert!(same.contains("\n0 pages differ"), "{same}");
    assert_refused(&walstream().run(["ltx", "diff", "x", "-0s", &url]), &["\"x\" is no TXID"]);
    assert_refused(&walstream().run(["ltx", "diff", first]), &["two states and"]);
}

/// A database of some tens of megabytes that gets one more row.
fn one_row_more(site: &Site, url: &str) {
    let app = site.app_with_mebibytes(32);
    walstream().replicate_once(&site.database(), url);
    app.sell(1, 100);
    walstream().replicate_once(&site.database(), url);
}

fn assert_little_is_read(site: &Site, url: &str) {
    let all = site.database().metadata().unwrap().len();
    let found = diff(&[], &oldest(url), "-0s", url);
    let item = object(&found, "item");
    assert_eq!((&item["rows_change"], &item["rows_after"]), (&1.into(), &Value::Null));
    let read = found["bytes_fetched"].as_u64().unwrap();
    assert!(read * 100 < all, "{read} of {all} bytes: {found:#}");
    assert!(found["pages"].as_u64().unwrap() < 20, "{found:#}");
}

#[test]
fn one_row_in_many_megabytes_is_found_by_reading_little() {
    let site = Site::new();
    one_row_more(&site, &site.url());
    assert_little_is_read(&site, &site.url());
    let counted = object(&diff(&["-count"], &oldest(&site.url()), "-0s", &site.url()), "item");
    assert_eq!((&counted["rows_before"], &counted["rows_after"]), (&32_000.into(), &32_001.into()));
    let table = walstream().run(["ltx", "diff", &oldest(&site.url()), "-0s", &site.url()]).success().stdout;
    let item = table.lines().find(|line| line.starts_with("item ")).unwrap();
    assert_eq!(item.split_whitespace().skip(3).collect::<Vec<_>>(), ["+1", "?", "?"], "{table}");
}

#[test]
fn one_row_in_many_megabytes_is_found_by_few_requests_on_moto() {
    let (site, moto) = (Site::new(), Moto::start());
    let url = moto.replica_url("shop");
    one_row_more(&site, &url);
    let before = moto.requests();
    assert_little_is_read(&site, &url);
    let requests = moto.requests() - before;
    assert!(requests < FEW_REQUESTS, "{requests} requests");
}

#[test]
fn what_litestream_wrote_is_compared_as_well() {
    for name in ["ps512", "vacuum", "random4096", "v3-two-generations"] {
        let golden = Golden::copy(name);
        let states = states(&golden.url());
        let time = |state: &Value| state["timestamp"].as_str().unwrap().to_owned();
        let (first, last) = (time(&states[0]), time(&states[states.len() - 1]));
        let found = diff(&["-count"], &first, &last, &golden.url());
        assert!(found["pages"].as_u64() > Some(0), "{name}: {found:#}");
        assert!(!found["objects"].as_array().unwrap().is_empty(), "{name}: {found:#}");
    }
}
