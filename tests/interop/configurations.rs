//! Configuration files as they are met in real life, in `tests/configurations`: both programs make the same of them.
//!
//! | folder | what both do with its files |
//! |---|---|
//! | | list the same databases, and replicate them to the same places |
//! | `directories` | replicate the same databases to the same places; Litestream lists a directory as one database |
//! | `servers` | the same, with servers that must answer at the start |
//! | `better` | only walstream takes them; each file says what Litestream says |
//! | `refused` | walstream refuses them, with the sentence in the file; Litestream ends with the exit code in the file |
//!
//! Each program has a folder `$DATA` of its own with the same databases in it. No file leads to the internet: there is a
//! proxy in the way that does not answer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use walstream_test_support::{
    App, Finished, NatsServer, Program, Running, Sshd, WebDav, eventually, free_port, workspace,
};

use crate::{litestream, walstream};

const SOON: Duration = Duration::from_secs(30);

/// Litestream asks Amazon for the region before it starts.
const NEEDS_AMAZON: [&str; 1] = ["amazon.yml"];

/// A program in a folder with databases.
struct Site {
    folder: TempDir,
    program: Program,
}

impl Site {
    fn of(program: Program, servers: &[(&'static str, String)]) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("tenants/sub")).unwrap();
        for name in ["app.db", "tenants/a.db", "tenants/sub/b.db", "tenants/1.sqlite", "tenants/sub/2.sqlite"]
        {
            App::open(path(name));
        }
        fs::write(path("tenants/notes.db"), "these are notes and no database").unwrap();
        let nobody = "http://127.0.0.1:1".to_owned();
        let fixed = [
            ("DATA", folder.path().display().to_string()),
            // Litestream looks it up among the users of the machine.
            ("HOME", std::env::home_dir().unwrap().display().to_string()),
            ("HTTPS_PROXY", nobody.clone()),
            ("HTTP_PROXY", nobody),
            ("NO_PROXY", "127.0.0.1,localhost".to_owned()),
            ("STORAGE_EMULATOR_HOST", "127.0.0.1:1".to_owned()),
            ("METRICS_PORT", free_port().to_string()),
            ("MCP_PORT", free_port().to_string()),
        ];
        let of_users = [
            ("NAME", "app"),
            ("TYPE", "file"),
            ("SUFFIX", "-copy"),
            ("INTERVAL", "3s"),
            ("ACCESS", "key"),
            ("SECRET", "secret"),
            ("R2_ACCESS_KEY_ID", "key"),
            ("R2_SECRET_ACCESS_KEY", "secret"),
            ("BUCKET_NAME", "bucket-of-the-platform"),
        ];
        let of_users = of_users.map(|(name, value)| (name, value.to_owned()));
        let program = program.with(fixed).with(of_users).with(servers.to_vec());
        Site { folder, program }
    }

    fn run(&self, arguments: &[&str], file: &Path) -> Finished {
        self.program.run([arguments, &["-config", file.to_str().unwrap()]].concat())
    }

    /// What it says, with its own folder left out.
    fn said(&self, text: &str) -> String {
        text.replace(self.folder.path().to_str().unwrap(), "$DATA")
    }

    fn databases(&self, file: &Path) -> Vec<Value> {
        let listed = self.run(&["databases", "-json"], file).success();
        serde_json::from_str(&self.said(&listed.stdout)).unwrap()
    }

    /// Where a daemon says that it replicates `count` databases to.
    fn places(&self, file: &Path, count: usize) -> Vec<BTreeMap<String, String>> {
        let arguments = ["replicate", "-config", file.to_str().unwrap()];
        let daemon = Running::start(&mut self.program.command(arguments));
        let name = format!("{} names {count} replicas of {}", self.program.name, file.display());
        let mut places = eventually(&name, SOON, || {
            let said = self.said(&(daemon.stdout() + &daemon.stderr()));
            let lines = said.lines().filter(|line| line.contains("replicating to"));
            let places: Vec<_> = lines.map(fields).collect();
            (places.len() == count).then_some(places)
        });
        daemon.kill_9();
        places.sort();
        places
    }
}

/// The fields of a line of the log, as text or JSON, without what every line has, and empty ones. An endpoint without a
/// scheme is one with `https`, and a duration in JSON a number of nanoseconds for Litestream.
fn fields(line: &str) -> BTreeMap<String, String> {
    let mut fields = match serde_json::from_str::<BTreeMap<String, Value>>(line) {
        Ok(fields) => fields.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        Err(_) => fields_of_text(line),
    };
    fields.retain(|key, value| !["time", "level", "msg", "source"].contains(&&**key) && !value.is_empty());
    if let Some(interval) = fields.get_mut("sync-interval") {
        *interval = interval.replace("000000000", "s");
    }
    if let Some(endpoint) = fields.get_mut("endpoint") {
        *endpoint = endpoint.trim_start_matches("https://").to_owned();
    }
    fields
}

fn plain(value: Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn fields_of_text(line: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = line;
    while let Some((key, after)) = rest.split_once('=') {
        let quoted = after.strip_prefix('"').and_then(|text| Some(text.find('"')? + 2));
        let length = quoted.or_else(|| after.find(' ')).unwrap_or(after.len());
        fields.insert(key.trim().to_owned(), after[..length].trim_matches('"').to_owned());
        rest = &after[length..];
    }
    fields
}

/// The files of a folder below `tests/configurations`.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = workspace().join("tests/configurations").join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some()).collect();
    files.sort();
    assert!(files.len() > 1, "{} is empty", folder.display());
    files
}

/// What a comment of a file says after `word`.
fn noted(file: &Path, word: &str) -> String {
    let text = fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("# ")?.strip_prefix(word)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("{} does not say what {word} does", file.display())).to_owned()
}

fn name(file: &Path) -> &str {
    file.file_name().unwrap().to_str().unwrap()
}

/// Where Litestream says less, that much is the same: it does not say where a replica on a WebDAV server is.
fn assert_same_places(file: &Path, ours: &Site, theirs: &Site) {
    let count = ours.databases(file).len();
    assert!(count > 0, "{} has no databases", file.display());
    let mut ours = ours.places(file, count);
    for place in theirs.places(file, count) {
        let same = ours.iter().position(|our| place.iter().all(|(key, value)| our.get(key) == Some(value)));
        let same = same.unwrap_or_else(|| panic!("{}: {place:?} is none of {ours:?}", file.display()));
        ours.remove(same);
    }
}

#[test]
fn both_list_the_same_databases() {
    let (ours, theirs) = (Site::of(walstream(), &[]), Site::of(litestream(), &[]));
    for file in files("") {
        let of = |site: &Site, flag: &[&str]| {
            let listed = site.run(&[&["databases"], flag].concat(), &file).success();
            site.said(&listed.stdout)
        };
        assert_eq!(of(&ours, &[]), of(&theirs, &[]), "{}", file.display());
        assert_eq!(of(&ours, &["-json"]), of(&theirs, &["-json"]), "{}", file.display());
    }
}

#[test]
fn both_replicate_to_the_same_places() {
    let (ours, theirs) = (Site::of(walstream(), &[]), Site::of(litestream(), &[]));
    let with_databases = |file: &PathBuf| !ours.databases(file).is_empty();
    let compared = files("").into_iter().filter(|file| !NEEDS_AMAZON.contains(&name(file)));
    let compared: Vec<PathBuf> = compared.filter(with_databases).chain(files("directories")).collect();
    compared.iter().for_each(|file| assert_same_places(file, &ours, &theirs));
    assert!(compared.len() > 20, "{compared:?}");
}

#[test]
fn both_replicate_to_the_same_places_on_servers() {
    let (ssh, dav, nats) = (Sshd::start(), WebDav::rclone(), NatsServer::start());
    let (user, password) = dav.login().unwrap();
    let servers = [
        ("SSH_HOST", ssh.address()),
        ("SSH_USER", ssh.user()),
        ("SSH_KEY", ssh.key("key").display().to_string()),
        ("SSH_HOST_KEY", ssh.host_key()),
        ("SSH_FOLDER", ssh.files().display().to_string()),
        ("DAV_URL", dav.endpoint()),
        ("DAV_USER", user.to_owned()),
        ("DAV_PASSWORD", password.to_owned()),
        ("NATS_HOST", nats.address()),
        ("NATS_BUCKET", NatsServer::BUCKET.to_owned()),
    ];
    let (ours, theirs) = (Site::of(walstream(), &servers), Site::of(litestream(), &servers));
    for file in files("servers") {
        assert_eq!(ours.databases(&file), theirs.databases(&file), "{}", file.display());
        assert_same_places(&file, &ours, &theirs);
    }
}

#[test]
fn what_litestream_would_get_wrong_is_refused() {
    let (ours, theirs) = (Site::of(walstream(), &[]), Site::of(litestream(), &[]));
    for file in files("refused") {
        let refused = ours.run(&["databases"], &file);
        assert_eq!(refused.status.code(), Some(1), "{}: {refused:?}", file.display());
        assert_eq!(refused.stdout, "", "{}", file.display());
        let sentence = noted(&file, "walstream");
        assert!(refused.stderr.starts_with("Error: "), "{}: {}", file.display(), refused.stderr);
        assert!(refused.stderr.contains(&sentence), "{}: {}", file.display(), refused.stderr);
        let of_peer = theirs.run(&["databases"], &file);
        let code = format!("exits with {}", of_peer.status.code().unwrap());
        assert_eq!(code, noted(&file, "litestream"), "{}: {of_peer:?}", file.display());
    }
}

#[test]
fn what_litestream_refuses_without_need_is_taken() {
    let (ours, theirs) = (Site::of(walstream(), &[]), Site::of(litestream(), &[]));
    for file in files("better") {
        assert!(!ours.databases(&file).is_empty(), "{}", file.display());
        let of_peer = theirs.run(&["databases"], &file);
        assert_eq!(of_peer.status.code(), Some(1), "{}: {of_peer:?}", file.display());
        assert!(of_peer.stderr.contains(&noted(&file, "litestream")), "{}: {of_peer:?}", file.display());
    }
}

#[test]
fn variables_are_left_alone_where_that_is_asked_for() {
    for program in [walstream(), litestream()] {
        let site = Site::of(program, &[]);
        let path = |name: &str| site.folder.path().join(name);
        let (file, data) = (path("litestream.yml"), site.folder.path().display());
        let text = format!("dbs: [{{path: {data}/$NAME.db, replica: {{path: '{data}/r/${{NAME}}'}}}}]");
        fs::write(&file, text).unwrap();
        App::open(path("$NAME.db"));
        for (flags, name) in [(&[][..], "$DATA/app.db"), (&["-no-expand-env"], "$DATA/$NAME.db")] {
            let said =
                |command: &[&str]| site.said(&site.run(&[command, flags].concat(), &file).success().stdout);
            for command in ["databases", "status"] {
                assert!(said(&[command]).contains(&format!("{name} ")), "{} {command}", site.program.name);
            }
            said(&["replicate", "-once"]);
            for command in [&["ltx"][..], &["restore", "-dry-run"], &["reset", "-dry-run"]] {
                let database = name.replace("$DATA", &data.to_string());
                let config = ["-config", file.to_str().unwrap(), &database];
                site.program.run([command, flags, &config].concat()).success();
            }
        }
        assert!(path("r/app/ltx").exists() && path("r/${NAME}/ltx").exists(), "{}", site.program.name);
    }
}
