//! The dashboard asks for nothing that the daemon does not show.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use walstream_test_support::wait_until;

use crate::metrics::Shown;
use crate::site::{SOON, Site};

const DASHBOARD: &str = include_str!("../../packaging/grafana/walstream.json");

/// Every string in a document below one of these keys.
fn strings<'a>(value: &'a Value, keys: &[&str], found: &mut Vec<&'a str>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| strings(value, keys, found)),
        Value::Object(entries) => {
            for (key, value) in entries {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => found.push(text),
                    value => strings(value, keys, found),
                }
            }
        }
        _ => {}
    }
}

/// The names of metrics in a query.
fn names(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("litestream_"))
}

#[test]
fn every_metric_of_the_dashboard_is_there() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let mut queries = Vec::new();
    strings(&dashboard, &["expr", "query"], &mut queries);
    let asked: BTreeSet<&str> = queries.iter().flat_map(|query| names(query)).collect();
    assert!(queries.len() > 25 && asked.len() > 20, "{asked:?}");

    let site = Site::new();
    let app = site.app();
    app.sell(10, 100);
    let global = "addr: '127.0.0.1:0'\nvalidation: {interval: 200ms}\nlevels: [{interval: 1s}]";
    let daemon = site.daemon_with("", global);
    let shown = Shown::by(|| daemon.process.stdout());
    wait_until("everything that is asked for is there", SOON, || {
        app.sell(1, 10);
        std::thread::sleep(Duration::from_millis(100));
        let scrape = shown.scrape();
        let missing: Vec<_> = asked.difference(&scrape.names()).copied().collect();
        println!("missing: {missing:?}");
        missing.is_empty()
    });
    daemon.stop();
}

#[test]
fn every_panel_has_its_place_and_a_number_of_its_own() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut cells = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for (x, y) in (0..at("w")).flat_map(|x| (0..at("h")).map(move |y| (x, y))) {
            assert!(cells.insert((at("x") + x, at("y") + y)), "{} lies over another", panel["title"]);
        }
    }
}
