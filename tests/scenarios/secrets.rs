//! Secrets are in no log, at any level, in no answer and in no error.
//!
//! Each place that can hold a secret holds one of its own. Nothing that any program says may contain it, plain or as it
//! goes over the wire.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use walstream_test_support::http::{request, request_by_socket};
use walstream_test_support::{App, Daemon, Finished, Moto, Program, eventually, wait_until};

use crate::site::{SOON, Site};
use crate::walstream;

/// A port on which nobody listens, so that errors are said.
const NOBODY: &str = "127.0.0.1:1";
/// 32 bytes.
const SSE_KEY: &str = "cGxhbnRlZC1zc2UtY3VzdG9tZXIta2V5LTMyLWJ5dGU=";
/// Of an account of nobody.
const AZURE_KEY: &str = "cGxhbnRlZC1henVyZS1hY2NvdW50LWtleQ==";
/// Of a user of nobody, from the documentation of NATS.
const NATS_SEED: &str = "SUAGMJH5XLGZKQQWAWKRZJIGMOU4HPFUYLXJMXOO5NLFEO2OOQJ5LPRDPM";

/// The databases, by the place of their secret, and the replica of each.
const REPLICAS: &[(&str, &str)] = &[
    (
        "s3-keys",
        "{url: s3://bkt/keys, endpoint: 'MOTO', region: r, access-key-id: A, secret-access-key: planted-secret-access-key, headers: {x-key: planted-header}}",
    ),
    ("s3-env", "{url: s3://bkt/env, endpoint: 'http://NOBODY', region: r}"),
    ("s3-sse", "{url: s3://bkt/sse, endpoint: 'http://NOBODY', region: r, sse-customer-key: SSE_KEY}"),
    ("s3-url", "{url: 's3://bkt/url?endpoint=http://NOBODY&region=r&sseCustomerKey=SSE_KEY'}"),
    (
        "s3-proxy",
        "{url: s3://bkt/proxy, endpoint: 'https://s3.invalid', region: r, access-key-id: A, secret-access-key: planted-proxied}",
    ),
    (
        "oss",
        "{url: oss://bkt/oss, endpoint: 'http://NOBODY', access-key-id: A, secret-access-key: planted-oss}",
    ),
    ("azure-key", "{url: abs://account@bkt/key, endpoint: 'http://NOBODY/account', account-key: AZURE_KEY}"),
    (
        "azure-sas",
        "{url: abs://account@bkt/sas, endpoint: 'http://NOBODY/account', sas-token: 'sv=2022-11-02&sr=c&sp=racwdl&se=2099-01-01T00:00:00Z&sig=cGxhbnRlZC1zaWduYXR1cmU%3D'}",
    ),
    ("gcs", "{url: gs://bkt/gcs, endpoint: 'https://NOBODY'}"),
    ("gcs-login", "{url: gs://bkt/login, endpoint: 'https://me:planted-gcs-endpoint@NOBODY'}"),
    (
        "sftp-key",
        "{url: sftp://me@NOBODY/key, password: planted-sftp-password, accept-unknown-host-key: true}",
    ),
    ("sftp-url", "{url: 'sftp://me:planted-sftp-url@NOBODY/url', accept-unknown-host-key: true}"),
    ("sftp-file", "{url: sftp://me@NOBODY/file, key-path: FOLDER/ssh-key, accept-unknown-host-key: true}"),
    ("webdav-key", "{url: webdav://me@NOBODY/key, webdav-password: planted-webdav-password}"),
    ("webdav-url", "{url: 'webdav://me:planted-webdav-url@NOBODY/url'}"),
    ("webdav-base", "{type: webdav, webdav-url: 'http://me:planted-webdav-base@NOBODY/base', path: base}"),
    ("nats-password", "{url: nats://NOBODY/a, username: me, password: planted-nats-password}"),
    ("nats-url", "{url: 'nats://me:planted-nats-url@NOBODY/b'}"),
    ("nats-token", "{url: nats://NOBODY/c, token: planted-nats-token}"),
    (
        "nats-seed",
        "{url: nats://NOBODY/d, nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4, seed: NATS_SEED}",
    ),
    ("nats-jwt", "{url: nats://NOBODY/e, jwt: eyJ0eXAi.planted-jwt.x, seed: NATS_SEED}"),
    ("nats-creds", "{url: nats://NOBODY/f, creds: FOLDER/nats.creds}"),
];

/// What may be seen nowhere.
struct Secrets(Vec<String>);

impl Secrets {
    /// Every secret of [`Planted`]. Most are told by their first word.
    fn of(planted: &Planted) -> Secrets {
        let plain =
            ["planted", SSE_KEY, AZURE_KEY, NATS_SEED, "cGxhbnRlZC1zaWduYXR1cmU", Moto::SECRET_ACCESS_KEY];
        let plain = plain.into_iter().map(str::to_owned);
        // `me:planted…` of Basic authentication, for each alignment that there is.
        let basic = ["bWU6cGxhbnRlZ", "OnBsYW50ZW", "cGxhbnRlZ"].map(str::to_owned);
        let keys = ["ssh-key", "google-key"].into_iter().flat_map(|name| {
            let text = fs::read_to_string(planted.site.path(name)).unwrap();
            let lines: Vec<String> =
                text.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned).collect();
            assert!(lines.len() > 3, "{name} is a key");
            lines
        });
        Secrets(plain.chain(basic).chain(keys).collect())
    }

    #[track_caller]
    fn assert_none_in(&self, who: &str, said: &str) {
        for line in said.lines() {
            // The escapes of URLs and of JSON change none of the letters that matter.
            let found = self.0.iter().find(|secret| line.contains(secret.as_str()));
            assert!(found.is_none(), "{who} shows {}:\n{line}", found.unwrap());
        }
    }
}

/// A configuration with a secret in every place.
struct Planted {
    site: Site,
    moto: Moto,
}

impl Planted {
    fn new(format: &str) -> Planted {
        let (site, moto) = (Site::new(), Moto::start());
        for (name, _) in REPLICAS {
            App::open(site.path(&format!("{name}.db"))).sell(1, 10);
        }
        let planted = Planted { site, moto };
        planted.write_keys();
        planted.write_config(format, REPLICAS);
        planted
    }

    /// Files that hold a secret.
    fn write_keys(&self) {
        let make = |name: &str, arguments: &[&str]| {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-C", "planted-comment"])
                .args(arguments)
                .arg("-f")
                .arg(self.site.path(name))
                .status();
            assert!(made.unwrap().success());
        };
        make("ssh-key", &["-t", "rsa", "-b", "2048"]);
        make("google-key", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]);
        let google = json!({
            "type": "service_account", "client_email": "a@b", "private_key_id": "planted-key-id",
            "private_key": fs::read_to_string(self.site.path("google-key")).unwrap(),
        });
        fs::write(self.site.path("google.json"), google.to_string()).unwrap();
        let creds = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0eXAi.planted-creds.x\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{NATS_SEED}\n------END USER NKEY SEED------\n"
        );
        fs::write(self.site.path("nats.creds"), creds).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.site.path("litestream.yml")
    }

    fn socket(&self) -> PathBuf {
        self.site.path("control.sock")
    }

    fn write_config(&self, format: &str, replicas: &[(&str, &str)]) {
        let entry = |(name, replica): &(&str, &str)| {
            let path = self.site.path(&format!("{name}.db"));
            format!("  - {{path: {}, replica: {}}}\n", path.display(), self.filled(replica))
        };
        let dbs: String = replicas.iter().map(entry).collect();
        let text = format!(
            "addr: '127.0.0.1:0'\nsocket: {{enabled: true, path: {}}}\nlogging: {{level: trace, type: {format}}}\n\
             heartbeat-url: http://me:planted-heartbeat@{NOBODY}/planted-ping?key=planted-query\n\
             exec: ''\nshutdown-sync-timeout: 1s\ndbs:\n{dbs}",
            self.socket().display()
        );
        fs::write(self.config(), text).unwrap();
    }

    fn filled(&self, replica: &str) -> String {
        let folder = self.site.path("").display().to_string();
        replica
            .replace("MOTO", &self.moto.endpoint())
            .replace("NOBODY", NOBODY)
            .replace("SSE_KEY", SSE_KEY)
            .replace("AZURE_KEY", AZURE_KEY)
            .replace("NATS_SEED", NATS_SEED)
            .replace("FOLDER", folder.trim_end_matches('/'))
    }

    fn program(&self) -> Program {
        let google = self.site.path("google.json").display().to_string();
        walstream().with([
            ("AWS_SESSION_TOKEN", "planted-session-token".to_owned()),
            ("OSS_ACCESS_KEY_SECRET", "planted-oss-environment".to_owned()),
            ("OSS_SESSION_TOKEN", "planted-oss-token".to_owned()),
            ("AZURE_CLIENT_SECRET", "planted-azure-client".to_owned()),
            ("GOOGLE_APPLICATION_CREDENTIALS", google),
            ("HTTPS_PROXY", format!("http://me:planted-proxy@{NOBODY}")),
            ("NO_PROXY", "127.0.0.1".to_owned()),
            ("LOG_LEVEL", "trace".to_owned()),
            ("RUST_LOG", "trace".to_owned()),
        ])
    }

    fn daemon(&self) -> Daemon {
        let mut daemon = self.program().replicate_config(&self.config());
        daemon.process.wait_for_output("control socket listening", 4 * SOON);
        daemon
    }

    /// Runs a command, which may fail.
    fn run(&self, arguments: &[&str]) -> Finished {
        let config = self.config().display().to_string();
        let arguments: Vec<&str> = arguments
            .iter()
            .map(|&argument| if argument == "CONFIG" { &*config } else { argument })
            .collect();
        self.program().run(arguments)
    }
}

/// What the daemon says by HTTP and by its socket, to good and to bad questions.
fn answers(planted: &Planted, daemon: &Daemon) -> String {
    let address = eventually("it shows its metrics", SOON, || {
        let log = daemon.process.stdout();
        let (_, after) = log.split_once("http://127.0.0.1:")?;
        Some(format!("127.0.0.1:{}", after.split_once("/metrics")?.0))
    });
    let mut said = String::new();
    let mut hear = |body: Vec<u8>| said.push_str(&(String::from_utf8(body).unwrap() + "\n"));
    for path in ["/metrics", "/healthz", "/readyz"] {
        hear(request(&address, "GET", path, &[], b"").unwrap().body);
    }
    let ask = |method: &str, path: &str, body: &str| {
        request_by_socket(&planted.socket(), method, path, body.as_bytes()).unwrap().body
    };
    for path in ["/info", "/list", "/debug/sync-status"] {
        hear(ask("GET", path, ""));
    }
    let database = planted.site.path("azure-sas.db");
    for (path, body) in [
        ("/sync", json!({"path": database, "wait": true, "timeout": 1})),
        ("/wait", json!({"path": database, "timeout": 1})),
        (
            "/register",
            json!({"path": "/new.db", "replica_url": format!("sftp://me:planted-registered@{NOBODY}/x")}),
        ),
        ("/register", json!({"path": "/newer.db", "replica_url": "sftp://me:planted-wrong@host:0x1/p"})),
        (
            "/register",
            json!({"path": "/newest.db", "replica_url": format!("webdav://me:planted-taken@{NOBODY}/url")}),
        ),
        ("/unregister", json!({"path": "/new.db", "timeout": 1})),
        ("/stop", json!({"path": database, "timeout": 1})),
    ] {
        hear(ask("POST", path, &body.to_string()));
    }
    said
}

fn nothing_shows_a_secret(format: &str) {
    let planted = Planted::new(format);
    let secrets = Secrets::of(&planted);
    let mut daemon = planted.daemon();
    wait_until("every database has said something of its replica", 4 * SOON, || {
        let log = daemon.process.stdout();
        let said = |name: &str| {
            log.lines().any(|line| line.contains(name) && (line.contains("ERROR") || line.contains("WARN")))
        };
        said("nats")
            && said("sftp://")
            && said("webdav://")
            && said("abs://")
            && said("gs://")
            && said("oss://")
            && said("s3://bkt/proxy")
    });
    secrets.assert_none_in("an answer", &answers(&planted, &daemon));
    planted.write_config(format, &REPLICAS[1..]);
    daemon.process.signal(Signal::HUP);
    daemon.process.wait_for_output("configuration reloaded", SOON);
    planted.write_config(format, &[("s3-keys", "{url: s3://bkt, secret-access-kye: planted-misspelt}")]);
    daemon.process.signal(Signal::HUP);
    daemon.process.wait_for_output("configuration not reloaded", SOON);
    let ended = daemon.process.stop(2 * SOON);
    assert_eq!(ended.status.code(), Some(1), "not everything is uploaded");
    assert!(ended.stdout.contains("TRACE") || ended.stdout.contains("DEBUG"), "details are printed");
    secrets.assert_none_in("the daemon", &(ended.stdout + &ended.stderr));

    planted.write_config(format, REPLICAS);
    for command in [&["config", "check"][..], &["databases"], &["status"]] {
        let said = planted.run(&[command, &["-config", "CONFIG"]].concat()).success();
        assert!(said.stdout.len() > 100, "{said:?}");
        secrets.assert_none_in(command[0], &(said.stdout + &said.stderr));
    }
}

#[test]
fn nothing_shows_a_secret_in_text_on_moto() {
    nothing_shows_a_secret("text");
}

#[test]
fn nothing_shows_a_secret_in_json_on_moto() {
    nothing_shows_a_secret("json");
}

#[test]
fn no_command_that_reads_a_replica_shows_a_secret_on_moto() {
    let planted = Planted::new("text");
    let secrets = Secrets::of(&planted);
    let uploaded = planted.site.path("s3-keys.db").display().to_string();
    let output = planted.site.path("out.db").display().to_string();
    let mut said = Vec::new();
    std::thread::scope(|scope| {
        let of_database = |(name, _): &'static (&str, &str)| {
            let (planted, output) =
                (&planted, planted.site.path(&format!("{name}-out.db")).display().to_string());
            let database = planted.site.path(&format!("{name}.db")).display().to_string();
            scope.spawn(move || {
                let mut said = Vec::new();
                for command in [&["restore", "-o", &output][..], &["ltx"], &["verify"]] {
                    said.push(planted.run(&[command, &["-config", "CONFIG", &database]].concat()));
                }
                said
            })
        };
        let running: Vec<_> = REPLICAS.iter().map(of_database).collect();
        said.extend(running.into_iter().flat_map(|one| one.join().unwrap()));
    });
    for url in [
        format!("sftp://me:planted-argument@{NOBODY}/x"),
        format!("webdav://me:planted-argument@{NOBODY}/x"),
        format!("nats://me:planted-argument@{NOBODY}/x"),
        format!("s3://bkt/x?endpoint=http://me:planted-argument@{NOBODY}"),
        format!("s3://bkt/x?endpoint=http://{NOBODY}&sseCustomerKey=planted-argument"),
    ] {
        said.push(planted.run(&["restore", "-o", &output, &url]));
        said.push(planted.run(&["ltx", &url]));
        said.push(planted.run(&["replicate", "-once", &uploaded, &url]));
    }
    for finished in said {
        assert!(!(finished.stdout.is_empty() && finished.stderr.is_empty()), "{finished:?}");
        secrets.assert_none_in("a command", &(finished.stdout + &finished.stderr));
    }
}

#[test]
fn an_error_does_not_repeat_the_secret_that_is_wrong() {
    let site = Site::new();
    let _app = site.app();
    let garbage = site.path("garbage").display().to_string();
    fs::write(&garbage, "{\"type\": \"planted-file\", \"private_key\": \"planted-file\"").unwrap();
    let config = site.path("wrong.yml");
    for (root, replica) in [
        ("", "{url: s3://b/x, sse-customer-key: planted}"),
        ("", "{url: s3://b/x, endpoint: 'https://me:planted@h'}"),
        ("", "{url: s3://b/x, endpoint: 'https://:planted@h'}"),
        ("", "{url: s3://b/x, endpoint: 'https://h/?key=planted'}"),
        ("", "{url: s3://b/x, endpoint: 'me:planted@h:99999999'}"),
        ("", "{url: 's3://me:planted@b/x'}"),
        ("", "{url: 's3://b/x?endpont=planted'}"),
        ("", "{url: s3://b/x, headers: {x: \"planted\\n\"}}"),
        ("", "{url: s3://b/x, secret-access-key: [planted]}"),
        ("", "{url: s3://b/x, secret-access-key: {a: planted}}"),
        ("", "{url: s3://b/x, secret-access-key: planted, secret-access-key: planted}"),
        ("", "{url: s3://b/x, secret-access-kye: planted}"),
        ("", "{url: s3://b/x, secret-access-key: \"planted}"),
        ("", "{url: s3://b/x, secret-access-key: planted: x}"),
        ("", "{url: abs://a@b/x, account-key: 'planted!'}"),
        ("", "{url: abs://a@b/x, sas-token: planted}"),
        ("", "{url: abs://a@b/x, account-key: a2V5, endpoint: 'https://h/?sig=planted'}"),
        ("", "{url: abs://a@b/x, account-key: a2V5, endpoint: 'https://me:planted@h'}"),
        ("", "{url: gs://b/x, endpoint: 'ftp://me:planted@h'}"),
        ("", "{url: 'sftp://me:planted@h:0x1/p'}"),
        ("", "{type: sftp, host: 'me:planted@h:port', user: me, path: /x}"),
        ("", "{type: webdav, webdav-url: 'ftp://me:planted@h', path: /x}"),
        ("", "{url: 'nats://me:planted@h:port/b'}"),
        ("", "{url: nats://h/b, seed: planted}"),
        ("", "{url: nats://127.0.0.1:1/b, nkey: U, seed: planted}"),
        ("", "{url: nats://127.0.0.1:1/b, jwt: planted, seed: planted}"),
        ("", "{url: nats://127.0.0.1:1/b, creds: GARBAGE}"),
        ("", "{url: sftp://me@127.0.0.1:1/b, accept-unknown-host-key: true, key-path: GARBAGE}"),
        ("", "{url: gs://b/x}"),
        ("heartbeat-url: ftp://me:planted@h/x?planted", "{path: /x}"),
        ("heartbeat-url: 'planted'", "{url: s3://b/x, secret-access-kye: x}"),
        ("secret-access-key: [planted]", "{path: /x}"),
        ("exec: \"x -password 'planted\"", "{path: REPLICA}"),
    ] {
        let replica =
            replica.replace("GARBAGE", &garbage).replace("REPLICA", &site.replica().display().to_string());
        let database = site.database();
        let text = format!(
            "{root}\nshutdown-sync-timeout: 0s\ndbs: [{{path: {}, replica: {replica}}}]\n",
            database.display()
        );
        fs::write(&config, text).unwrap();
        let program = walstream().with([("GOOGLE_APPLICATION_CREDENTIALS", garbage.clone())]);
        let config = config.display().to_string();
        let output = site.path("out.db").display().to_string();
        let path = database.to_str().unwrap();
        let commands: &[&[&str]] = match root.starts_with("exec") {
            // What the others show is not wrong.
            true => &[&["replicate", "-config", &config]],
            false => &[
                &["config", "check", "-config", &config],
                &["restore", "-config", &config, "-o", &output, path],
            ],
        };
        let mut refused = false;
        for command in commands {
            let finished = program.run(*command);
            refused |= finished.status.code() == Some(1);
            let said = finished.stdout + &finished.stderr;
            assert!(!said.contains("planted"), "{command:?} of {root} {replica}:\n{said}");
        }
        assert!(refused, "{root} {replica} is wrong");
    }
}
