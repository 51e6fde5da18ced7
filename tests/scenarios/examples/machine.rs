//! A machine on which an example can be followed to the letter.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use walstream_test_support::process::run;
use walstream_test_support::{Finished, Moto, Running, Tool, free_port, tool, workspace};

use super::END;
use crate::walstream;

/// The ports that the examples speak of.
const PORTS: [&str; 4] = ["8080", "8081", "9090", "9091"];

/// Folders and ports as the examples name them, in the example's files and commands, lead to places of their own; the bucket `my-bucket` is on a server of its own.
pub(super) struct Machine {
    root: TempDir,
    /// The server.
    pub(super) moto: Moto,
    /// The example's folder.
    pub(super) folder: PathBuf,
    environment: Vec<(String, String)>,
    /// What stands for a name of the examples.
    places: Vec<(String, String)>,
}

impl Machine {
    /// A machine with a copy of the examples, on which one of them is followed, and with these folders, which are empty.
    pub(super) fn new(example: &str, folders: &[&str]) -> Machine {
        let (root, moto) = (tempfile::tempdir().unwrap(), Moto::start());
        let server = format!("localhost:{}", moto.address().split_once(':').unwrap().1);
        let mut places: Vec<(String, String)> = vec![
            ("s3://my-bucket/".into(), format!("s3://{}.{server}/", Moto::BUCKET)),
            ("minio:9000".into(), server.clone()),
            ("localhost:9000".into(), server),
        ];
        places.extend(PORTS.map(|port| (port.into(), free_port().to_string())));
        for folder in folders {
            let place = root.path().join(&folder[1..]);
            fs::create_dir_all(&place).unwrap();
            places.push(((*folder).into(), place.to_str().unwrap().into()));
        }
        let folder = root.path().join("examples").join(example);
        let machine = Machine { root, moto, folder, environment: Vec::new(), places };
        machine.copy(&workspace().join("examples"), &machine.root.path().join("examples"));
        machine.install("walstream", walstream().command([""; 0]).get_program());
        machine.install("python3", python());
        machine
    }

    /// A folder with its files, which speak of this machine then.
    fn copy(&self, from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).unwrap();
            let to = to.join(name);
            if path.is_dir() {
                self.copy(&path, &to);
            } else {
                fs::write(&to, self.here(&fs::read_to_string(&path).unwrap())).unwrap();
                fs::set_permissions(&to, path.metadata().unwrap().permissions()).unwrap();
            }
        }
    }

    /// A program that the commands find by its name.
    pub(super) fn install(&self, name: &str, program: impl AsRef<Path>) {
        let folder = self.root.path().join("bin");
        fs::create_dir_all(&folder).unwrap();
        symlink(program, folder.join(name)).unwrap();
    }

    /// A variable for every command from here on.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.environment.push((name.into(), value.into()));
    }

    /// What stands for a text of the examples from here on.
    pub(super) fn put(&mut self, text: &str, place: impl Into<String>) {
        self.places.push((text.into(), place.into()));
    }

    /// A text of the examples, as it is on this machine.
    pub(super) fn here(&self, text: &str) -> String {
        let mut rest = text;
        let mut result = String::new();
        while let Some(next) = rest.chars().next() {
            let found = self.places.iter().find_map(|(name, place)| Some((place, rest.strip_prefix(name)?)));
            match found {
                Some((place, after)) => {
                    result.push_str(place);
                    rest = after;
                }
                None => {
                    result.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        result
    }

    /// A path of the examples.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.here(path).into()
    }

    /// A port of the examples.
    pub(super) fn port(&self, port: &str) -> u16 {
        self.here(port).parse().unwrap()
    }

    /// A command of the examples, word for word.
    pub(super) fn command(&self, words: &[impl AsRef<str>]) -> Command {
        let path = format!("{}/bin:{}", self.root.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("env");
        command.env_clear().envs(Moto::environment()).env("PATH", path).env("HOME", "/nonexistent");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(words.iter().map(|word| self.here(word.as_ref()))).current_dir(&self.folder);
        command
    }

    /// What a user types, in the example's folder; it must succeed.
    #[track_caller]
    pub(super) fn type_in(&self, commands: &str) -> Finished {
        run(&mut self.command(&["sh", "-euc", commands]), END).success()
    }

    /// One command that goes on.
    pub(super) fn begin(&self, command: &str) -> Running {
        Running::start(&mut self.command(&["sh", "-euc", &format!("exec {command}")]))
    }

    /// A query in SQLite's own shell.
    #[track_caller]
    pub(super) fn query(&self, database: &str, sql: &str) -> String {
        let mut command = Command::new(tool(Tool::Sqlite3));
        run(command.arg(self.path(database)).arg(sql), END).success().stdout.trim().to_owned()
    }
}

/// The interpreter itself: what is found by its name may be a script that needs a home.
fn python() -> PathBuf {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().unwrap();
    String::from_utf8(asked.stdout).unwrap().trim().into()
}
