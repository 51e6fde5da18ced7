//! What the commands of either program say of the same replica, and of the same mistakes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use walstream_test_support::replica::{file_url, ltx_files, newest_txid};
use walstream_test_support::{App, Finished, Program, wait_until};

use crate::{litestream, walstream};

const SOON: Duration = Duration::from_secs(30);

/// A database with a replica of one program, and a configuration file that names both.
struct Site {
    folder: TempDir,
    app: App,
}

impl Site {
    fn new() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path().join("shop.db"));
        let site = Site { folder, app };
        let config = format!(
            "levels: [{{interval: 1s}}]\nl0-retention: 1s\nl0-retention-check-interval: 1s\n\
             logging: {{level: debug}}\ndbs: [{{path: {}, replica: {{path: {}}}}}]\n",
            site.app.path().display(),
            site.replica().display()
        );
        fs::write(site.config(), config).unwrap();
        site
    }

    /// With some levels on the replica.
    fn of(program: &Program) -> Site {
        let site = Site::new();
        site.work(program);
        site
    }

    /// What a daemon says in a short life with everything in it. Its replica has levels 0, 1 and 9 then.
    fn work(&self, program: &Program) -> String {
        let daemon = program.replicate_config(&self.config()).ready();
        let is_there = |level| !ltx_files(&self.replica(), level).is_empty();
        wait_until("there are merged files, and level-0 files were deleted", SOON * 2, || {
            self.app.sell(1, 100);
            std::thread::sleep(Duration::from_millis(100));
            let said = daemon.process.stdout();
            is_there(1) && is_there(9) && said.contains("l0 retention enforced")
        });
        daemon.stop().stdout
    }

    fn replica(&self) -> PathBuf {
        self.folder.path().join("replica")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("litestream.yml")
    }

    /// A command line in which `CONFIG`, `DB`, `URL` and so on stand for those of this site.
    fn run(&self, program: &Program, line: &str) -> Finished {
        let word = |word: &str| match word {
            "CONFIG" => self.config().display().to_string(),
            "DB" => self.app.path().display().to_string(),
            "URL" => file_url(&self.replica()),
            "DIR" => self.folder.path().display().to_string(),
            "OUT" => self.folder.path().join("restored.db").display().to_string(),
            other => other.to_owned(),
        };
        program.run(line.split(' ').map(word))
    }

    fn said(&self, program: &Program, line: &str) -> String {
        self.run(program, line).success().stdout
    }
}

#[test]
fn both_list_the_same_files() {
    for writer in [walstream(), litestream()] {
        let site = Site::of(&writer);
        for line in [
            "ltx -level all URL",
            "ltx -level all -json URL",
            "ltx URL",
            "ltx -level 9 -json -config CONFIG DB",
            "ltx -level 7 URL",
            "ltx -level 7 -json URL",
            "wal -level all URL",
        ] {
            let (ours, theirs) = (site.said(&walstream(), line), site.said(&litestream(), line));
            assert_eq!(ours, theirs, "{line}, written by {}", writer.name);
        }
        assert!(site.said(&walstream(), "ltx -level all URL").lines().count() > 3);
    }
}

#[test]
fn both_show_the_same_plan() {
    let site = Site::of(&litestream());
    for line in ["restore -dry-run -o OUT URL", "restore -dry-run -json -o OUT URL"] {
        assert_eq!(site.said(&walstream(), line), site.said(&litestream(), line), "{line}");
    }
}

#[test]
fn both_report_a_restore_in_the_same_fields() {
    let site = Site::of(&litestream());
    let reported = |program: &Program, flags: &str| {
        let said = site.said(program, &format!("restore -json -force {flags} -o OUT URL"));
        serde_json::from_str::<Value>(&said).unwrap()
    };
    let theirs = reported(&litestream(), "-integrity-check quick");
    let ours = reported(&walstream(), "-integrity-check quick");
    for (key, value) in theirs.as_object().unwrap() {
        assert!(key == "duration_ms" || ours[key] == *value, "{key}: {} and {value}", ours[key]);
        assert_eq!(ours[key].is_number(), value.is_number(), "{key}");
    }
    assert_eq!(theirs.as_object().unwrap().len(), 5, "{theirs}");
}

#[test]
fn both_say_the_same_of_local_state() {
    for writer in [walstream(), litestream()] {
        let site = Site::of(&writer);
        for line in ["status -config CONFIG", "status -json -config CONFIG", "status -config CONFIG /none.db"]
        {
            let (ours, theirs) = (site.said(&walstream(), line), site.said(&litestream(), line));
            assert_eq!(ours, theirs, "{line}, written by {}", writer.name);
        }
    }
}

#[test]
fn both_bring_a_snapshot_and_keep_to_the_retention_once() {
    for program in [walstream(), litestream()] {
        let site = Site::of(&program);
        let snapshots = ltx_files(&site.replica(), 9).len();
        site.app.sell(1, 100);
        site.said(&program, "replicate -once -force-snapshot -enforce-retention -config CONFIG");
        let made = ltx_files(&site.replica(), 9);
        assert_eq!(made.len(), snapshots + 1, "{}: {made:?}", program.name);
        let newest = made.iter().map(|(_, max, _)| *max).max();
        assert_eq!(newest, Some(newest_txid(&site.replica())), "{}", program.name);
    }
}

#[test]
fn mistakes_are_answered_in_the_peers_words() {
    let site = Site::new();
    for line in [
        "databases -config CONFIG x",
        "info x",
        "info -timeout 0",
        "list x",
        "list -timeout -1",
        "ltx",
        "ltx a b",
        "ltx -config CONFIG URL",
        "ltx -config CONFIG /none.db",
        "register",
        "register DB",
        "register -replica URL",
        "unregister",
        "start",
        "stop",
        "sync",
        "sync -timeout 0 DB",
        "register -timeout 0 -replica URL DB",
        "unregister -timeout 0 DB",
        "start -timeout 0 -socket /none.sock DB",
        "stop -timeout 0 -socket /none.sock DB",
        "unregister -socket /none.sock DB",
        "list -socket /none.sock",
        "reset",
        "reset /none.db",
        "restore",
        "restore URL",
        "restore -config CONFIG -o OUT URL",
        "restore -config CONFIG /none.db",
        "restore -o OUT URL",
        "replicate DB",
        "replicate -config CONFIG DB URL",
        "replicate -once -exec true -config CONFIG",
        "replicate -force-snapshot -config CONFIG",
        "replicate -enforce-retention -config CONFIG",
        "replicate DB URL URL",
    ] {
        let (ours, theirs) = (site.run(&walstream(), line), site.run(&litestream(), line));
        let first = |finished: &Finished| finished.stderr.lines().next().unwrap_or_default().to_owned();
        // Ours may say more, such as where something was looked for.
        assert!(first(&ours).starts_with(&first(&theirs)), "{line}: {ours:?} {theirs:?}");
        assert_eq!(ours.status.code(), theirs.status.code(), "{line}");
        if let Some(advice) = theirs.stderr.lines().find(|line| line.starts_with("Try: ")) {
            let advice = advice.replacen("litestream", "walstream", 1);
            assert!(ours.stderr.contains(&advice), "{line}: {}", ours.stderr);
        }
    }
}

#[test]
fn restores_that_cannot_be_are_refused_in_the_peers_words() {
    let site = Site::of(&litestream());
    for line in [
        "restore -o DIR URL",
        "restore -force -o DIR URL",
        "restore -o DB URL",
        "restore -config CONFIG DB",
        "restore -dry-run -f -o OUT URL",
        "restore -txid zz -o OUT URL",
        "restore -o OUT ftp://host/path",
    ] {
        let (ours, theirs) = (site.run(&walstream(), line), site.run(&litestream(), line));
        let sentence = theirs.stderr.lines().find(|line| line.starts_with("Error: ")).unwrap();
        assert!(ours.stderr.starts_with(sentence), "{line}: {ours:?} {theirs:?}");
        assert_eq!((ours.status.code(), theirs.status.code()), (Some(1), Some(1)), "{line}");
    }
}

/// Messages that other tools look for, with the fields that they look at.
const MESSAGES: [(&str, &[&str]); 8] = [
    ("\"initialized db\"", &["path"]),
    ("\"replicating to\"", &["type", "sync-interval", "path"]),
    ("\"snapshot complete\"", &["txid", "size"]),
    ("\"compaction complete\"", &["level", "txid.min", "txid.max", "size"]),
    ("\"l0 retention enforced\"", &["deleted_count", "max_l1_txid"]),
    ("\"ltx file uploaded\"", &["level", "minTXID", "maxTXID", "size"]),
    ("\"replica sync\"", &["txid.replica", "txid.db"]),
    ("sync", &["txid", "offset"]),
];

#[test]
fn both_log_what_other_tools_look_for() {
    for program in [walstream(), litestream()] {
        let said = Site::new().work(&program);
        for (message, fields) in MESSAGES {
            let with_all = |line: &&str| {
                let (head, rest) = line.split_once(" msg=").unwrap_or_default();
                let rest =
                    rest.strip_prefix(message).filter(|rest| rest.starts_with(' ')).unwrap_or_default();
                head.contains(" level=") && fields.iter().all(|field| rest.contains(&format!(" {field}=")))
            };
            assert!(said.lines().any(|line| with_all(&line)), "{}: {message}\n{said}", program.name);
        }
        assert!(program.is_peer() || !said.contains("level=ERROR"), "{said}");
    }
}
