//! Whole configuration files, good and bad.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

fn load_text(text: &str) -> Result<Config, ConfigError> {
    let keys = parse::parse(Path::new("c.yml"), text)?;
    resolve::resolve(keys)
}

pub(super) fn config(text: &str) -> Config {
    load_text(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn what_is_left_out_has_the_peers_default() {
    let databases = config("dbs: [{path: /a/app.db, replica: {path: /backup}}]").databases().unwrap();
    let [database] = databases.as_slice() else { panic!() };
    assert_eq!(database.path, Path::new("/a/app.db"));
    assert_eq!(database.meta_path, Path::new("/a/.app.db-litestream"));
    insta::assert_debug_snapshot!(database.settings);
}

#[test]
fn every_key_takes_effect() {
    let text = "
exec: myapp -v
addr: :9090
mcp-addr: :3001
heartbeat-url: https://example.com/ping
heartbeat-interval: 1m
logging: {level: debug, type: json, stderr: yes}
snapshot: {interval: 1h, retention: 72h}
levels: [{interval: 10s}]
l0-retention: 0s
l0-retention-check-interval: 1m
retention: {enabled: false}
verify-compaction: on
validation: {interval: 6h}
shutdown-sync-timeout: 0s
shutdown-sync-interval: 1s
sync-interval: 7s
upload-rate: 1MB
dbs:
  - path: sqlite:///a/app.db
    meta-path: /meta
    monitor-interval: 2s
    checkpoint-interval: 0
    busy-timeout: 3s
    min-checkpoint-page-count: 5
    truncate-page-n: 0
    max-sync-wal-bytes: 1000
    restore-if-db-not-exists: true
    snapshot: {interval: 2h}
    replicas:
      - url: s3://bucket/app
        part-size: 8MiB
        download-rate: 2MiB
        max-sync-ltx-files: 3
        auto-recover: true
";
    let config = config(text);
    assert_eq!(config.exec.as_deref(), Some("myapp -v"));
    assert_eq!(config.addr.as_ref().map(ToString::to_string).as_deref(), Some(":9090"));
    assert_eq!(config.mcp_addr.as_ref().map(ToString::to_string).as_deref(), Some("127.0.0.1:3001"));
    let heartbeat = config.heartbeat.as_ref().map(|heartbeat| (heartbeat.url.expose(), heartbeat.interval));
    assert_eq!(heartbeat, Some(("https://example.com/ping", Duration::from_secs(60))));
    assert_eq!(config.shutdown.timeout, Duration::ZERO);
    assert_eq!(config.warnings, Vec::<String>::new());
    insta::assert_debug_snapshot!((config.logging, config.databases().unwrap()));
}

#[test]
fn the_history_of_a_database_wins_key_by_key_over_that_of_all() {
    let config = config(
        "
snapshot: {interval: 6h, retention: 72h}
levels: [{interval: 1m}, {interval: 10m}]
l0-retention: 1h
dbs:
  - {path: /a, replica: {path: x}}
  - path: /b
    snapshot: {retention: 720h}
    levels: [{interval: 5s}]
    l0-retention-check-interval: 1s
    retention: {enabled: false}
    verify-compaction: true
    validation: {interval: 24h}
    replica: {path: y}
",
    );
    let [all, own] = config.databases().unwrap().try_into().unwrap();
    let hours = |n: u64| Duration::from_secs(3600 * n);
    let (all, own) = (all.settings.history, own.settings.history);
    assert_eq!((all.snapshot_interval, all.snapshot_retention), (hours(6), hours(72)));
    assert_eq!((all.levels.len(), all.l0_retention), (2, hours(1)));
    assert_eq!(
        own,
        HistoryOptions {
            levels: vec![Duration::from_secs(5)],
            snapshot_retention: hours(720),
            l0_retention_check_interval: Duration::from_secs(1),
            retention_enabled: false,
            verify_compaction: true,
            validation_interval: hours(24),
            ..all
        }
    );
}

#[test]
fn the_validation_may_be_written_as_version_03_wrote_it() {
    let config = config(
        "
validation-interval: 24h
dbs:
  - {path: /a, replica: {path: x}}
  - {path: /b, replica: {path: y, validation-interval: 6h}}
  - {path: /c, validation: {interval: 1h}, replica: {path: z}}
",
    );
    let intervals = config.databases().unwrap().into_iter().map(|db| db.settings.history.validation_interval);
    assert_eq!(intervals.collect::<Vec<_>>(), [24, 6, 1].map(|hours| Duration::from_secs(3600 * hours)));
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn mistakes_are_answered_in_the_peers_words() {
    let database = |keys: &str| format!("dbs: [{{path: /a, {keys}}}]");
    let replica = |keys: &str| format!("dbs: [{{path: /a, replica: {{{keys}}}}}]");
    let texts = [
        "snapshot: {interval: 0s}".to_owned(),
        "snapshot: {retention: -1s}".to_owned(),
        "l0-retention: -1s".to_owned(),
        "l0-retention-check-interval: 0s".to_owned(),
        "validation: {interval: -1h}".to_owned(),
        "validation-interval: -1h".to_owned(),
        "validation: {interval: 1h}\nvalidation-interval: 1h".to_owned(),
        "shutdown-sync-timeout: -1s".to_owned(),
        "shutdown-sync-interval: 0s".to_owned(),
        "addr: localhost".to_owned(),
        "addr: ':metrics'".to_owned(),
        "heartbeat-url: foo".to_owned(),
        "heartbeat-interval: 1s".to_owned(),
        "levels: [{interval: 1s}, {}]".to_owned(),
        format!("levels: [{}]", "{interval: 1s},".repeat(9)),
        "logging: {type: xml}".to_owned(),
        "dbs: [{}]".to_owned(),
        database("dir: b, replica: {path: b}"),
        "dbs: [{dir: b, replica: {path: b}}]".to_owned(),
        "dbs: [{dir: b, pattern: '[', replica: {path: b}}]".to_owned(),
        database("watch: true"),
        database("meta-dir: b"),
        "dbs: [{dir: a, pattern: '*', meta-dir: b, meta-path: c}]".to_owned(),
        "dbs: [{path: /a}]".to_owned(),
        database("replicas: []"),
        database("replica: {path: b}, replicas: [{path: b}]"),
        database("replicas: [{path: b}, {path: c}]"),
        database("replica: {path: b}, snapshot: {interval: 0s}"),
        database("replica: {path: b}, levels: [{interval: 1m}, {interval: 0s}]"),
        database("replica: {path: b}, l0-retention: -1s"),
        database("replica: {path: b}, retention: 72h"),
        database("replica: {path: b, validation-interval: 1h}, validation: {interval: 1h}"),
        database("replica: {path: b}, monitor-interval: 0s"),
        database("replica: {path: b}, min-checkpoint-page-count: 0"),
        replica("path: b, sync-interval: 0s"),
        "dbs: [{path: /a, replica: {path: b}}, {path: /x/../a, replica: {path: c}}]".to_owned(),
        "dbs: [{path: /a, replica: {path: /r}}, {path: /b, replica: {url: 'file:///r'}}]".to_owned(),
        replica("path: 's3://x'"),
        replica("type: foo, path: b"),
        replica("type: gs"),
        replica("type: abs, path: b"),
        replica("type: sftp, path: b"),
        replica("type: sftp, host: b"),
        replica("type: webdav, path: b"),
        replica("type: oss"),
        replica("url: 'nats://host'"),
        replica("url: 'nats://host/b', client-cert: c"),
        replica("url: 'nats://host/b', timeout: 0s"),
        replica("url: 'sftp://user:secret@host'"),
        replica("url: 'ftp://host/path'"),
        replica("url: 's3://x/y', path: z"),
        replica("url: 's3://x/y', bucket: z"),
        replica("type: s3"),
        replica("type: file"),
        replica("url: backup"),
        replica("path: b, age: {recipients: []}"),
        replica("url: 's3://x/y', part-size: big"),
        replica("path: b, upload-rate: 0"),
        replica("url: 's3://x/y?part-size=big'"),
    ];
    let answers = texts.map(|text| {
        let error = load_text(&text).expect_err(&text);
        let hint = error.hint.as_ref().map(|hint| format!("\n  Hint: {hint}")).unwrap_or_default();
        format!("{text}\n  {error}{hint}")
    });
    insta::assert_snapshot!(answers.join("\n"));
}

#[test]
fn keys_without_effect_are_named() {
    let config = config(
        "
socket: {enabled: true, path: /tmp/s, permissions: 0600}
dbs:
  - path: /a
    max-checkpoint-page-count: 10
    replicas:
      - {name: old, path: b, retention: 72h, snapshot-interval: 1h, retention-check-interval: 1h}
  - {path: /b, replica: {path: c, account-name: d, host: e}}
",
    );
    insta::assert_snapshot!(config.warnings.join("\n"));
}

/// A folder with databases and other files.
fn folder_of_databases() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let make = |path: &str, content: &[u8]| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    };
    make("b.db", b"SQLite format 3\0 and so on");
    make("a.db", b"SQLite format 3\0 and so on");
    make("sub/c.db", b"SQLite format 3\0 and so on");
    make("text.db", b"not a database at all");
    make("empty.db", b"");
    make("a.db-wal", b"\x37\x7f\x06\x82 and so on");
    folder
}

fn directory_config(folder: &Path, keys: &str) -> Config {
    let folder = folder.display();
    config(&format!("dbs: [{{dir: {folder}, pattern: '*.db', {keys} replica: {{url: 's3://bucket/all'}}}}]"))
}

#[test]
fn a_directory_is_searched() {
    let folder = folder_of_databases();
    let relative = |databases: Vec<DatabaseConfig>| -> Vec<PathBuf> {
        databases.iter().map(|db| db.path.strip_prefix(folder.path()).unwrap().to_owned()).collect()
    };
    let flat = directory_config(folder.path(), "");
    assert_eq!(relative(flat.databases().unwrap()), [Path::new("a.db"), Path::new("b.db")]);
    let deep = directory_config(folder.path(), "recursive: true, meta-dir: /meta,").databases().unwrap();
    assert_eq!(deep[2].meta_path, Path::new("/meta/sub/c.db-litestream"));
    assert_eq!(relative(deep), [Path::new("a.db"), Path::new("b.db"), Path::new("sub/c.db")]);
    let elsewhere =
        directory_config(folder.path(), "recursive: true, meta-path: /meta,").databases().unwrap();
    assert_eq!(elsewhere[2].meta_path, Path::new("/meta/sub/.c.db-litestream"));
}

#[test]
fn a_lost_database_of_a_directory_is_still_known() {
    let folder = folder_of_databases();
    let config = directory_config(folder.path(), "");
    let lost = config.find(&folder.path().join("lost.db")).unwrap();
    let ReplicaConfig::S3(s3) = lost.replica else { panic!() };
    assert_eq!(s3.path.as_deref(), Some("all/lost.db"));
    assert!(config.find(&folder.path().join("sub/lost.db")).is_none(), "not recursive");
    assert!(config.find(&folder.path().join("lost.txt")).is_none(), "the pattern does not match");
}

#[test]
fn a_directory_without_databases_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = directory_config(folder.path(), "").databases().unwrap_err().to_string();
    assert!(error.starts_with("no SQLite databases found in directory"), "{error}");
    let error = directory_config(Path::new("/no/such/folder"), "").databases().unwrap_err().to_string();
    assert!(error.starts_with("cannot search directory /no/such/folder"), "{error}");
}

#[test]
fn a_watched_directory_may_be_empty() {
    let folder = tempfile::tempdir().unwrap();
    assert!(directory_config(folder.path(), "watch: true,").databases().unwrap().is_empty());
    let error =
        directory_config(Path::new("/no/such/folder"), "watch: true,").databases().unwrap_err().to_string();
    assert!(error.starts_with("cannot search directory /no/such/folder"), "{error}");
}

#[test]
fn a_newcomer_is_what_a_restart_would_find() {
    let newcomer = |text: &str, path: &str| {
        let found = config(text).entries.newcomer(Path::new(path));
        found.map(|database| match database.replica {
            ReplicaConfig::File(file) => file.path.unwrap(),
            other => panic!("{other:?}"),
        })
    };
    let text = "dbs:
- {dir: /a, pattern: 'x*', replica: {path: /first}}
- {dir: /a, pattern: '*', recursive: true, watch: true, replica: {path: /a/all}}
- {path: /a/own, replica: {path: /own}}
- {dir: /b, pattern: '*', replica: {path: /not-watched}}";
    assert_eq!(newcomer(text, "/a/b/c"), Some("/a/all/b/c".into()));
    assert_eq!(newcomer(text, "/a/x1"), Some("/first/x1".into()), "the first directory wins");
    assert_eq!(newcomer(text, "/a/own"), None, "it is replicated anyhow");
    assert_eq!(newcomer(text, "/b/c"), None, "nobody watches");
    for side_file in ["/a/b-wal", "/a/b-shm", "/a/b-journal"] {
        assert_eq!(newcomer(text, side_file), None);
    }
    let entries = config(text).entries;
    assert!(entries.watches_folder(Path::new("/a")) && entries.watches_folder(Path::new("/a/b")));
    for other in ["/a/.b-litestream", "/a/all", "/b", "/"] {
        assert!(!entries.watches_folder(Path::new(other)), "{other}");
    }
}

#[test]
fn an_entry_of_its_own_wins_over_the_directory() {
    let folder = folder_of_databases();
    let path = folder.path().display();
    let databases = config(&format!(
        "dbs:
- {{dir: {path}, pattern: 'a*', replica: {{path: /all}}}}
- {{path: {path}/a.db, replica: {{path: /own}}}}"
    ))
    .databases()
    .unwrap();
    let [database] = databases.as_slice() else { panic!("{databases:?}") };
    let ReplicaConfig::File(file) = &database.replica else { panic!() };
    assert_eq!(file.path.as_deref(), Some(Path::new("/own")));
}

#[test]
fn the_example_file_is_valid_and_complete() {
    let text = include_str!("../../../../litestream.yml.example");
    // Every setting is there, switched off by a "#" without a space; switched on, the file must be valid too.
    let on: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| !l.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
        .collect();
    for text in [text, &on] {
        let mut keys = parse::parse(Path::new("litestream.yml.example"), text).unwrap();
        keys.dbs.retain(|database| database.dir.is_none());
        resolve::resolve(keys).unwrap();
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[-a-z0-9:. \\[\\]{}*&!'\"$#\n\t~|>]{0,200}") {
        let _ = load_text(&expand::expand(&text, |name| name.to_owned()));
        let _ = load_text(&format!("dbs:\n- path: /a\n  replica:\n    url: {text}\n"));
        let _ = text.parse::<GoDuration>();
        let _ = text.parse::<size::Size>();
        let _ = text.parse::<glob::Glob>().map(|glob| glob.matches(&text));
    }

    #[test]
    fn a_duration_is_read_as_it_is_written(nanos in proptest::num::u64::ANY) {
        let duration = GoDuration::from(Duration::from_nanos(nanos / 2));
        proptest::prop_assert_eq!(duration.to_string().parse(), Ok(duration));
    }
}
