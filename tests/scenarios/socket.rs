//! The control socket: the commands of either program work with the daemon of either program.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use serde_json::{Value, json};
use walstream_test_support::http::{Response, request_by_socket};
use walstream_test_support::replica::{file_url, ltx_files, newest_txid};
use walstream_test_support::{App, Daemon, Finished, Moto, Program, eventually, wait_until};

use crate::site::{SOON, Site};
use crate::walstream;

/// A site whose daemon has a control socket.
pub(crate) struct Controlled {
    pub(crate) site: Site,
    pub(crate) app: App,
}

impl Controlled {
    pub(crate) fn new() -> Controlled {
        let site = Site::new();
        let app = site.app();
        Controlled { site, app }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.site.path("control.sock")
    }

    pub(crate) fn config(&self, socket: &str, global: &str) -> PathBuf {
        let socket = format!("socket: {{enabled: true, path: {}{socket}}}", self.socket().display());
        self.site.config("", &format!("{socket}\n{global}"))
    }

    /// A daemon of a program, once it listens.
    pub(crate) fn daemon_of(&self, program: &Program, config: &std::path::Path) -> Daemon {
        let mut daemon = program.replicate_config(config);
        daemon.process.wait_for_output("control socket listening", SOON);
        daemon
    }

    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_of(&walstream(), &self.config("", ""))
    }

    /// A command of a program, with the socket.
    fn tell(&self, program: &Program, command: &str, arguments: &[&str]) -> Finished {
        let socket = self.socket().display().to_string();
        program.run([&[command, "-socket", &socket], arguments].concat())
    }

    fn json(&self, program: &Program, command: &str, arguments: &[&str]) -> Value {
        let told = self.tell(program, command, &[&["-json"], arguments].concat()).success();
        serde_json::from_str(&told.stdout).unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        request_by_socket(&self.socket(), "POST", path, body.to_string().as_bytes()).unwrap()
    }

    fn get(&self, path: &str) -> Response {
        request_by_socket(&self.socket(), "GET", path, b"").unwrap()
    }
}

pub(crate) fn parsed(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

fn keys(value: &Value) -> Vec<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

/// Everything that commands do with a daemon; what is answered, in short.
fn life(daemon_of: &Program, commands_of: &Program) -> Vec<(String, Vec<String>)> {
    let controlled = Controlled::new();
    let daemon = controlled.daemon_of(daemon_of, &controlled.config("", ""));
    let database = controlled.site.database().display().to_string();
    let second = App::open(controlled.site.path("second.db"));
    let (second_path, second_url) =
        (second.path().display().to_string(), file_url(&controlled.site.path("second-replica")));
    let tell = |command: &str, arguments: &[&str]| controlled.json(commands_of, command, arguments);
    wait_until("the database is open", SOON, || {
        controlled.tell(commands_of, "sync", &["-wait", &database]).status.success()
    });
    controlled.app.sell(1, 10);
    let mut said = Vec::new();
    let mut note = |command: &str, value: Value| {
        let status = value["status"].as_str().unwrap_or_default();
        said.push((format!("{command} {status}").trim().to_owned(), keys(&value)));
        value
    };
    note("sync", tell("sync", &[&database]));
    controlled.app.sell(1, 10);
    let synced = note("sync -wait", tell("sync", &["-wait", &database]));
    assert_eq!(synced["txid"], synced["replica_txid"]);
    assert!(newest_txid(&controlled.site.replica()) >= synced["txid"].as_u64().unwrap());
    let stopped = note("stop", tell("stop", &[&database]));
    assert_eq!((&stopped["state"], &stopped["db_path"]), (&json!("stopped"), &json!(database)));
    note("stop", tell("stop", &[&database]));
    assert_eq!(tell("list", &[])["databases"][0]["status"], "stopped");
    controlled.app.sell(1, 10);
    let refused = controlled.tell(commands_of, "sync", &[&database]);
    assert!(refused.stderr.contains("sync failed: database not open: "), "{}", refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    note("start", tell("start", &[&database]));
    note("start", tell("start", &[&database]));
    controlled.site.wait_until_caught_up(&controlled.app);
    note("register", tell("register", &["-replica", &second_url, &second_path]));
    note("register", tell("register", &["-replica", &second_url, &second_path]));
    wait_until("what was registered is replicated", SOON, || {
        controlled.tell(commands_of, "sync", &["-wait", &second_path]).status.success()
    });
    let list = tell("list", &[]);
    assert_eq!(list["databases"].as_array().unwrap().len(), 2, "{list}");
    assert!(list["databases"][0]["last_sync_at"].is_string(), "{list}");
    note("unregister", tell("unregister", &[&second_path]));
    note("unregister", tell("unregister", &[&second_path]));
    let info = tell("info", &[]);
    assert_eq!(info["database_count"], 1);
    assert_eq!(info["pid"], daemon.process.id());
    assert!(controlled.tell(commands_of, "info", &[]).success().stdout.lines().count() == 5);
    let unknown = controlled.tell(commands_of, "start", &["/nonexistent.db"]);
    assert!(
        unknown.stderr.contains("start failed: database not found: /nonexistent.db"),
        "{}",
        unknown.stderr
    );
    daemon.stop();
    assert!(!controlled.socket().exists(), "the socket is removed");
    said
}

#[test]
fn the_commands_of_either_program_work_with_the_daemon_of_either() {
    let (ours, theirs) = (walstream(), Program::litestream());
    let among_them = life(&theirs, &theirs);
    for (daemon_of, commands_of) in [(&ours, &ours), (&ours, &theirs), (&theirs, &ours)] {
        assert_eq!(life(daemon_of, commands_of), among_them, "{} {}", daemon_of.name, commands_of.name);
    }
}

#[test]
fn the_text_of_commands_is_the_peers() {
    let of = |program: &Program| {
        let controlled = Controlled::new();
        let daemon = controlled.daemon_of(program, &controlled.config("", ""));
        let database = controlled.site.database().display().to_string();
        wait_until("the database is open", SOON, || {
            controlled.tell(program, "sync", &["-wait", &database]).status.success()
        });
        let url = file_url(&controlled.site.path("other-replica"));
        let other = controlled.site.path("other.db").display().to_string();
        let mut text = String::new();
        for (command, arguments) in [
            ("list", vec![]),
            ("sync", vec!["-wait", &database]),
            ("register", vec!["-replica", &url, &other]),
            ("register", vec!["-replica", &url, &other]),
            ("unregister", vec!["-dry-run", &other]),
            ("unregister", vec![&*other]),
            ("stop", vec![&*database]),
            ("start", vec![&*database]),
            ("start", vec![]),
            ("register", vec![&*other]),
            ("info", vec!["-timeout", "0"]),
        ] {
            let told = controlled.tell(program, command, &arguments);
            text += &format!("$ {command}\n{}{}", told.stdout, told.stderr);
        }
        daemon.stop();
        let folder = controlled.site.path("").display().to_string();
        let text = text.replace(&folder, "/").replace("Try: litestream", "Try: walstream");
        let lines = text.lines().map(|line| match line.split_once(": ") {
            Some((key @ ("txid" | "replica_txid" | "duration_ms" | "final_txid"), _)) => format!("{key}: N"),
            _ => line.split("(last sync: 2").next().unwrap().to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(of(&walstream()), of(&Program::litestream()));
}

#[test]
fn requests_are_answered_in_the_peers_words() {
    let requests = |program: &Program| {
        let controlled = Controlled::new();
        let daemon = controlled.daemon_of(program, &controlled.config("", ""));
        let mut answers = Vec::new();
        for (method, path, body) in [
            ("POST", "/start", "{}"),
            ("POST", "/stop", r#"{"path":"/nonexistent"}"#),
            ("POST", "/sync", r#"{"path":"/nonexistent"}"#),
            ("POST", "/unregister", r#"{"path":"/nonexistent","bogus":1}"#),
            ("POST", "/register", r#"{"path":"/nonexistent"}"#),
            ("GET", "/txid", ""),
            ("GET", "/txid?path=%2Fnonexistent", ""),
            ("GET", "/debug/sync-status?path=/nonexistent", ""),
        ] {
            let answer = request_by_socket(&controlled.socket(), method, path, body.as_bytes()).unwrap();
            answers.push((path, answer.status, parsed(&answer)));
        }
        for (method, path, body) in [("GET", "/start", ""), ("GET", "/nothing", ""), ("POST", "/sync", "x")] {
            let answer = request_by_socket(&controlled.socket(), method, path, body.as_bytes()).unwrap();
            answers.push((path, answer.status, Value::Null));
        }
        daemon.stop();
        answers
    };
    assert_eq!(requests(&walstream()), requests(&Program::litestream()));
}

#[test]
fn a_snapshot_is_made_when_it_is_asked_for() {
    let controlled = Controlled::new();
    let daemon = controlled.daemon();
    let database = controlled.site.database().display().to_string();
    controlled.site.wait_until_caught_up(&controlled.app);
    controlled.app.sell(1, 10);
    let made = controlled.json(&walstream(), "snapshot", &[&database]);
    let snapshots = ltx_files(&controlled.site.replica(), 9);
    assert_eq!(snapshots.last().map(|(_, max, _)| *max), made["txid"].as_u64(), "{made}");
    daemon.stop();
}

#[test]
fn what_is_not_synced_can_be_seen() {
    let controlled = Controlled::new();
    let daemon = controlled.daemon();
    let database = controlled.site.database();
    controlled.post("/wait", &json!({"path": database, "timeout": 20}));
    let diagnosis = eventually("nothing is under way", SOON, || {
        let status = parsed(&controlled.get("/debug/sync-status"));
        let diagnosis = status["databases"][0].clone();
        (diagnosis["active"] == json!(false)).then_some(diagnosis)
    });
    assert_eq!((&diagnosis["lag_seconds"], &diagnosis["reason"]), (&json!(0.0), &Value::Null), "{diagnosis}");
    assert_eq!(diagnosis["txid"], diagnosis["replicated_txid"]);
    assert_eq!(
        parsed(&controlled.get(&format!("/txid?path={}", database.display())))["txid"],
        diagnosis["txid"]
    );
    daemon.stop();
}

#[test]
fn only_its_owner_may_use_the_socket_unless_more_are_let_in() {
    let controlled = Controlled::new();
    for (settings, mode) in [("", 0o600), (", permissions: 0660", 0o660)] {
        let daemon = controlled.daemon_of(&walstream(), &controlled.config(settings, ""));
        let metadata = fs::symlink_metadata(controlled.socket()).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, mode);
        let left = |name: &str| name.starts_with(".s") && !name.starts_with(".shop");
        let names = fs::read_dir(controlled.site.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(!names.into_iter().any(|name| left(name.to_str().unwrap())), "something is left behind");
        daemon.stop();
    }
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    let controlled = Controlled::new();
    drop(UnixListener::bind(controlled.socket()).unwrap());
    assert!(controlled.socket().exists());
    let daemon = controlled.daemon();
    assert_eq!(controlled.get("/info").status, 200);
    // As after a power cut.
    daemon.kill_9();
    assert!(controlled.socket().exists());
    let daemon = controlled.daemon();
    assert_eq!(controlled.get("/info").status, 200);
    daemon.stop();
}

#[test]
fn whatever_else_is_there_stays_and_replication_goes_on() {
    let controlled = Controlled::new();
    let config = controlled.config("", "");
    fs::write(controlled.socket(), "precious").unwrap();
    let mut daemon = walstream().replicate_config(&config);
    daemon.process.wait_for_output("failed to start control server", SOON);
    controlled.site.wait_until_caught_up(&controlled.app);
    daemon.stop();
    assert_eq!(fs::read_to_string(controlled.socket()).unwrap(), "precious");

    fs::remove_file(controlled.socket()).unwrap();
    let other = UnixListener::bind(controlled.socket()).unwrap();
    let mut daemon = walstream().replicate_config(&config);
    daemon.process.wait_for_output("another process listens there", SOON);
    daemon.stop();
    assert!(controlled.socket().exists(), "it is not ours to remove");
    drop(other);
}

#[test]
fn without_a_daemon_the_commands_say_so() {
    let controlled = Controlled::new();
    for program in [walstream(), Program::litestream()] {
        let told = controlled.tell(&program, "info", &[]);
        assert_eq!((told.status.code(), told.stdout.as_str()), (Some(1), ""));
        let sentence = format!(
            "Error: failed to connect to control socket: Get \"http://localhost/info\": dial unix {}: connect: no such file or directory",
            controlled.socket().display()
        );
        assert_eq!(told.stderr.lines().next(), Some(&*sentence));
    }
}

#[test]
fn what_was_registered_takes_the_settings_of_the_file_and_is_gone_after_a_restart() {
    let controlled = Controlled::new();
    let config = controlled.config("", "sync-interval: 100ms\nlevels: []");
    let daemon = controlled.daemon_of(&walstream(), &config);
    let path = controlled.site.path("other.db");
    let app = App::open(&path);
    let taken = json!({"path": path, "replica_url": controlled.site.url()});
    let refused = controlled.post("/register", &taken);
    assert_eq!(refused.status, 400, "{}", parsed(&refused));
    assert!(parsed(&refused)["error"].as_str().unwrap().contains("is that of"));
    let replica = controlled.site.path("other-replica");
    let registered = controlled.post("/register", &json!({"path": path, "replica_url": file_url(&replica)}));
    assert_eq!(parsed(&registered)["status"], "registered");
    app.sell(1, 10);
    wait_until("it is replicated", SOON, || !ltx_files(&replica, 9).is_empty());
    let log = daemon.stop().stdout;
    assert!(
        log.lines().any(|line| line.contains("sync-interval=100ms") && line.contains("other-replica")),
        "{log}"
    );
    let daemon = controlled.daemon_of(&walstream(), &config);
    assert_eq!(parsed(&controlled.get("/list"))["databases"].as_array().unwrap().len(), 1);
    daemon.stop();
}

#[test]
fn the_environment_names_the_server_of_what_is_registered() {
    let moto = Moto::start();
    for program in [walstream(), Program::litestream()] {
        let controlled = Controlled::new();
        let program = program.with([("LITESTREAM_S3_ENDPOINT", moto.endpoint())]);
        let daemon = controlled.daemon_of(&program, &controlled.config("", ""));
        let app = App::open(controlled.site.path("other.db"));
        let url = format!("s3://{}/{}", Moto::BUCKET, program.name);
        let registered = controlled.post("/register", &json!({"path": app.path(), "replica_url": url}));
        assert_eq!(registered.status, 200, "{}", parsed(&registered));
        app.sell(1, 10);
        wait_until("it is replicated", SOON, || !moto.keys(&format!("{}/0000/", program.name)).is_empty());
        daemon.stop();
    }
}
