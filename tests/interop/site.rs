//! A database with its replica somewhere, and what both programs do there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use walstream_test_support::compare::{assert_rows, assert_same_pages, assert_sound, rows};
use walstream_test_support::{App, Daemon, Finished, Program, eventually, wait_until};

use crate::{litestream, walstream};

const DEADLINE: Duration = Duration::from_secs(60);

/// How the programs are told where the replica is.
enum Told {
    Url(String),
    Config(PathBuf),
}

/// The database, its replica, and how the programs are let in.
pub(crate) struct Site<'a> {
    pub(crate) app: App,
    pub(crate) folder: TempDir,
    told: Told,
    environment: Vec<(&'static str, String)>,
    /// The last TXID of every file of the replica, in order, each once.
    txids: Box<dyn Fn() -> Vec<u64> + 'a>,
}

impl<'a> Site<'a> {
    /// Both programs are given a URL.
    pub(crate) fn by_url(url: String, txids: impl Fn() -> Vec<u64> + 'a) -> Site<'a> {
        Site::with_pages_of(4096, url, txids)
    }

    /// The same, of a database whose pages have so many bytes.
    pub(crate) fn with_pages_of(bytes: u32, url: String, txids: impl Fn() -> Vec<u64> + 'a) -> Site<'a> {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open_with(folder.path().join("shop.db"), &format!("PRAGMA page_size = {bytes}"));
        Site { app, folder, told: Told::Url(url), environment: Vec::new(), txids: Box::new(txids) }
    }

    /// Both programs are given a configuration file with this section of a replica.
    pub(crate) fn by_config(replica: &str, txids: impl Fn() -> Vec<u64> + 'a) -> Site<'a> {
        Site::by_settings("", replica, txids)
    }

    /// The same, in a file that begins with these settings of all databases.
    pub(crate) fn by_settings(settings: &str, replica: &str, txids: impl Fn() -> Vec<u64> + 'a) -> Site<'a> {
        let site = Site::by_url(String::new(), txids);
        let config = site.folder.path().join("config.yml");
        let dbs = format!("dbs:\n  - path: {}\n    replica: {replica}\n", site.app.path().display());
        let socket = format!("socket: {{enabled: true, path: {}}}\n", site.socket());
        fs::write(&config, format!("{settings}{socket}{dbs}")).unwrap();
        Site { told: Told::Config(config), ..site }
    }

    /// Both programs get these variables.
    pub(crate) fn with(self, environment: impl Into<Vec<(&'static str, String)>>) -> Self {
        Site { environment: environment.into(), ..self }
    }

    pub(crate) fn litestream(&self) -> Program {
        litestream().with(self.environment.clone())
    }

    pub(crate) fn walstream(&self) -> Program {
        walstream().with(self.environment.clone())
    }

    fn newest_txid(&self) -> u64 {
        (self.txids)().last().copied().unwrap_or(0)
    }

    pub(crate) fn replicate(&self, program: &Program) -> Daemon {
        match &self.told {
            Told::Url(url) => program.replicate(self.app.path(), url),
            Told::Config(config) => program.replicate_config(config),
        }
    }

    fn socket(&self) -> String {
        self.folder.path().join("daemon.sock").display().to_string()
    }

    /// Has the daemon, which listens once it has begun, bring everything that is committed to the replica; up to which TXID.
    pub(crate) fn sync(&self, program: &Program) -> u64 {
        let database = self.app.path().to_str().unwrap();
        eventually("everything is on the replica", DEADLINE, || {
            let finished = program.run(["sync", "-wait", "-json", "-socket", &self.socket(), database]);
            let answer = finished.status.success().then(|| finished.stdout.parse::<Value>().unwrap());
            answer.map(|answer| answer["replica_txid"].as_u64().unwrap())
        })
    }

    /// Runs a command on the replica, whatever comes of it.
    pub(crate) fn run(&self, program: &Program, command: &[&str]) -> Finished {
        let mut arguments = command.to_vec();
        match &self.told {
            Told::Url(url) => arguments.push(url),
            Told::Config(config) => {
                arguments.extend(["-config", config.to_str().unwrap(), self.app.path().to_str().unwrap()]);
            }
        }
        program.run(arguments)
    }

    /// Restores over whatever is there, whatever comes of it.
    pub(crate) fn try_restore(&self, program: &Program, output: &Path, flags: &[&str]) -> Finished {
        self.run(program, &[&["restore", "-force", "-o", output.to_str().unwrap()], flags].concat())
    }

    /// Restores over whatever is there.
    pub(crate) fn restore(&self, program: &Program, output: &Path, flags: &[&str]) {
        self.try_restore(program, output, flags).success();
    }

    /// What this commits reaches the replica.
    pub(crate) fn ships(&self, work: impl FnOnce(&App)) {
        let before = self.newest_txid();
        work(&self.app);
        wait_until("the replica grows", DEADLINE, || self.newest_txid() > before);
    }

    /// The program runs, the application commits, each commit reaches the replica, the program stops.
    fn work_under(&self, program: &Program) {
        let daemon = self.replicate(program);
        for size in [50, 1, 20] {
            self.ships(|app| {
                app.sell(size, 400);
                app.execute("UPDATE item SET name = name || '+' WHERE id % 9 = 2");
            });
        }
        self.app.sell(5, 100);
        daemon.stop();
    }

    /// litestream → walstream → litestream → walstream, and something `between`. Whoever ran last, both restore the
    /// latest state after each hand-over, and at the end the state at every earlier hand-over.
    pub(crate) fn programs_take_turns(&self, between: impl Fn(&App)) {
        let output = self.folder.path().join("restored.db");
        let programs = [self.litestream(), self.walstream()];
        let mut hand_overs = Vec::new();
        for program in programs.iter().chain(&programs) {
            self.work_under(program);
            hand_overs.push((format!("{:016x}", self.newest_txid()), rows(self.app.path())));
            for reader in &programs {
                self.restore(reader, &output, &[]);
                assert_same_pages(self.app.path(), &output);
                assert_sound(&output);
            }
            between(&self.app);
        }
        for reader in &programs {
            for (txid, rows) in &hand_overs {
                self.restore(reader, &output, &["-txid", txid]);
                assert_rows(rows, &output);
            }
        }
    }

    /// Every state that walstream wrote is the same to both.
    pub(crate) fn litestream_restores_what_walstream_wrote(&self) {
        self.work_under(&self.walstream());
        self.every_state_is_the_same_to_both();
    }

    /// Both programs restore every TXID at which a file ends, byte for byte the same.
    pub(crate) fn every_state_is_the_same_to_both(&self) {
        let (ours, theirs) = (self.walstream(), self.litestream());
        let [by_ours, by_theirs] =
            ["by-walstream.db", "by-litestream.db"].map(|name| self.folder.path().join(name));
        for txid in (self.txids)() {
            let txid = format!("{txid:016x}");
            self.restore(&ours, &by_ours, &["-txid", &txid]);
            self.restore(&theirs, &by_theirs, &["-txid", &txid]);
            assert!(fs::read(&by_ours).unwrap() == fs::read(&by_theirs).unwrap(), "TXID {txid} differs");
            assert_sound(&by_theirs);
        }
    }
}
