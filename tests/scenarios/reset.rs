//! `status` and `reset`: local state, looked at and removed. The words and columns are those of Litestream.

use std::fs;

use serde_json::Value;
use walstream_test_support::Finished;
use walstream_test_support::replica::ltx_files;

use crate::site::Site;
use crate::walstream;

fn with_config(site: &Site, command: &str, arguments: &[&str]) -> Finished {
    let config = site.config("meta-path: META", "").to_str().unwrap().to_owned();
    let meta = site.path("meta").display().to_string();
    let text = fs::read_to_string(&config).unwrap().replace("META", &meta);
    fs::write(&config, text).unwrap();
    let database = site.database();
    let mut all = vec![command, "-config", &config];
    all.extend(arguments);
    if command == "reset" {
        all.push(database.to_str().unwrap());
    }
    walstream().run(all)
}

fn status(site: &Site) -> Value {
    let rows: Value =
        serde_json::from_str(&with_config(site, "status", &["-json"]).success().stdout).unwrap();
    rows[0].clone()
}

#[test]
fn the_status_is_that_of_the_local_files() {
    let site = Site::new();
    assert_eq!(status(&site)["status"], "no database");
    assert_eq!((&status(&site)["local_txid"], &status(&site)["wal_size"]), (&"-".into(), &"-".into()));
    let _app = site.app();
    assert_eq!(status(&site)["status"], "not initialized");
    let config = site.path("config.yml");
    walstream().run(["replicate", "-once", "-config", config.to_str().unwrap()]).success();
    let row = status(&site);
    let newest = format!("{:016x}", site.newest_txid());
    assert_eq!((&row["status"], &row["local_txid"]), (&"ok".into(), &newest.into()), "{row}");
    let table = with_config(&site, "status", &[]).success().stdout;
    let lines: Vec<&str> = table.lines().collect();
    let columns: Vec<&str> =
        lines[0].split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
    assert_eq!(columns, ["database", "status", "local txid", "wal size"], "{table}");
    assert_eq!(lines.len(), 2);
    let other = with_config(&site, "status", &["/other.db"]).success().stdout;
    assert_eq!(other.lines().count(), 1, "{other}");
}

#[test]
fn what_was_reset_begins_anew_and_goes_on() {
    let site = Site::new();
    let app = site.app();
    let config = site.path("config.yml");
    let once = || walstream().run(["replicate", "-once", "-config", config.to_str().unwrap()]).success();
    assert!(with_config(&site, "reset", &[]).success().stdout.contains("No local state to reset for"));
    once();
    app.sell(1, 10);
    once();
    let preview = with_config(&site, "reset", &["-dry-run"]).success().stdout;
    let newest = format!("{:016x}", site.newest_txid());
    assert!(preview.contains(&format!("{newest}-{newest}.ltx")), "{preview}");
    assert!(preview.ends_with("No files were removed.\n"), "{preview}");
    assert_eq!(ltx_files(&site.path("meta"), 0).len(), 1);
    let done = with_config(&site, "reset", &[]).success().stdout;
    assert!(done.contains("Reset complete."), "{done}");
    assert_eq!(ltx_files(&site.path("meta"), 0).len(), 0);
    app.sell(1, 10);
    once();
    let restored = site.restore(&[]);
    crate::site::assert_copy(&site.database(), &restored);
}

#[test]
fn what_is_being_replicated_is_not_reset() {
    let site = Site::new();
    let app = site.app();
    let daemon = site.daemon();
    site.wait_until_caught_up(&app);
    let refused = walstream().run(["reset".as_ref(), site.database().as_os_str()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("stop it first"), "{}", refused.stderr);
    app.sell(1, 10);
    site.wait_until_caught_up(&app);
    daemon.stop();
}
