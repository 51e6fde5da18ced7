//! The tools: the peer's names and parameters, each a command of this program.
//!
//! Invariant: what a client says is a value and never a flag. Values of flags follow an equals sign, arguments follow `--`.

use serde_json::{Map, Value, json};
use walstream_storage::is_url;

use super::run::{Runner, Said};
use crate::error::nearest;

/// A command that clients may run.
pub(super) struct Tool {
    pub(super) name: &'static str,
    about: &'static str,
    /// Nothing: several commands, for a report.
    command: Option<&'static str>,
    parameters: &'static [Parameter],
}

/// What a client may say to a tool.
#[derive(Clone, Copy)]
struct Parameter {
    name: &'static str,
    about: &'static str,
    kind: Kind,
    /// Nothing: it is an argument, and not the value of a flag.
    flag: Option<&'static str>,
    required: bool,
}

/// The type of a value, as a JSON schema calls it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Switch,
}

/// Why a tool does not run.
pub(super) enum CallError {
    /// The client's mistake.
    Parameter(String),
    /// Ours.
    Run(std::io::Error),
}

const fn flag(name: &'static str, flag: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter { name, about, kind, flag: Some(flag), required: false }
}

const fn argument(about: &'static str, required: bool) -> Parameter {
    Parameter { name: "path", about, kind: Kind::Text, flag: None, required }
}

const CONFIG: Parameter =
    flag("config", "config", Kind::Text, "Path of a configuration file. Default: the one of the daemon.");

/// All of them.
pub(super) const TOOLS: &[Tool] = &[
    Tool {
        name: "litestream_info",
        about: "Report the version, the databases of the configuration file, and the newest files of each replica.",
        command: None,
        parameters: &[CONFIG],
    },
    Tool {
        name: "litestream_databases",
        about: "List the databases of the configuration file, and the kind of their replicas.",
        command: Some("databases"),
        parameters: &[CONFIG],
    },
    Tool {
        name: "litestream_ltx",
        about: "List the LTX files of a replica.",
        command: Some("ltx"),
        parameters: &[argument("Path of a database, or URL of a replica.", true), CONFIG],
    },
    Tool {
        name: "litestream_restore",
        about: "Restore a database from its replica. A database that exists is never overwritten.",
        command: Some("restore"),
        parameters: &[
            argument("Path of a database, or URL of a replica.", true),
            flag("o", "o", Kind::Text, "Where to write the database. Needed with a URL."),
            CONFIG,
            flag(
                "txid",
                "txid",
                Kind::Text,
                "Restore the state after this transaction ID (16 hexadecimal digits).",
            ),
            flag("timestamp", "timestamp", Kind::Text, "Restore the state at this time (RFC 3339)."),
            flag("parallelism", "parallelism", Kind::Text, "How many requests may be under way at once."),
            flag("if_db_not_exists", "if-db-not-exists", Kind::Switch, "Do nothing if the database exists."),
            flag("if_replica_exists", "if-replica-exists", Kind::Switch, "Do nothing if there is no backup."),
        ],
    },
    Tool {
        name: "litestream_status",
        about: "Show the local state of the databases: up to which TXID they are captured, and how long their WAL is.",
        command: Some("status"),
        parameters: &[argument("Path of one database.", false), CONFIG],
    },
    Tool {
        name: "litestream_reset",
        about: "Remove the local state of a database that is not being replicated.",
        command: Some("reset"),
        parameters: &[argument("Path of the database.", true), CONFIG],
    },
    Tool {
        name: "litestream_version",
        about: "Show the version.",
        command: Some("version"),
        parameters: &[],
    },
];

/// The tool of a name.
pub(super) fn find(name: &str) -> Result<&'static Tool, String> {
    TOOLS.iter().find(|tool| tool.name == name).ok_or_else(|| {
        let known = nearest(name, TOOLS.iter().map(|tool| tool.name));
        format!(
            "unknown tool {name:?}{}",
            known.map(|name| format!(", did you mean {name:?}?")).unwrap_or_default()
        )
    })
}

impl Tool {
    /// What clients are told of it.
    pub(super) fn describe(&self) -> Value {
        let property = |parameter: &Parameter| {
            let kind = parameter.kind.name();
            (parameter.name.to_owned(), json!({"type": kind, "description": parameter.about}))
        };
        let properties: Map<String, Value> = self.parameters.iter().map(property).collect();
        let required = self.parameters.iter().filter(|parameter| parameter.required);
        let required: Vec<&str> = required.map(|parameter| parameter.name).collect();
        json!({
            "name": self.name,
            "description": self.about,
            "inputSchema": {"type": "object", "properties": properties, "required": required},
        })
    }

    /// Runs it with what the client said.
    pub(super) async fn call(&self, given: &Map<String, Value>, runner: &Runner) -> Result<Said, CallError> {
        let words = self.words(given, runner.no_expand_env()).map_err(CallError::Parameter)?;
        match self.command {
            Some(_) => runner.run(&words).await,
            None => report(&words, runner).await,
        }
        .map_err(CallError::Run)
    }

    /// The command line: the command, its flags, its arguments.
    fn words(&self, given: &Map<String, Value>, no_expand_env: bool) -> Result<Vec<String>, String> {
        if let Some(name) = given.keys().find(|name| self.parameters.iter().all(|known| known.name != *name))
        {
            return Err(format!("{} has no parameter {name:?}", self.name));
        }
        let mut words: Vec<String> = self.command.map(str::to_owned).into_iter().collect();
        let mut arguments = Vec::new();
        // A replica that is named by its URL needs no file.
        let is_url = given.get("path").and_then(Value::as_str).is_some_and(is_url);
        if no_expand_env && !is_url && self.parameters.iter().any(|parameter| parameter.name == CONFIG.name) {
            words.push("-no-expand-env".to_owned());
        }
        for parameter in self.parameters {
            let Some(value) = parameter.value(given)? else { continue };
            if parameter.name == CONFIG.name && is_url {
                continue;
            }
            match parameter.flag {
                Some(flag) => words.push(format!("-{flag}={value}")),
                None => arguments.push(value),
            }
        }
        if !arguments.is_empty() {
            words.push("--".to_owned());
        }
        words.extend(arguments);
        Ok(words)
    }
}

impl Parameter {
    /// What the client said, as text. Nothing and an empty text are the same.
    fn value(&self, given: &Map<String, Value>) -> Result<Option<String>, String> {
        let value = match given.get(self.name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) if self.kind == Kind::Text => number.to_string(),
            Some(Value::Bool(switch)) if self.kind == Kind::Switch => switch.to_string(),
            None | Some(Value::Null) => String::new(),
            Some(_) => return Err(format!("{} must be of type {}", self.name, self.kind.name())),
        };
        match value.is_empty() {
            true if self.required => Err(format!("{} is required", self.name)),
            empty => Ok((!empty).then_some(value)),
        }
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Text => "string",
            Kind::Switch => "boolean",
        }
    }
}

/// The version, the databases, and the files of each replica. A replica that does not answer does not end it.
async fn report(flags: &[String], runner: &Runner) -> std::io::Result<Said> {
    let line = |words: &[&str], last: &[&str]| -> Vec<String> {
        let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        [own(words), flags.to_vec(), own(last)].concat()
    };
    let version = runner.run(&["version".to_owned()]).await?.stdout;
    let mut said = runner.run(&line(&["databases"], &[])).await?;
    said.stdout = format!(
        "=== walstream Status Report ===\n\nVersion Information:\n{version}\nDatabases:\n{}\nLTX Files:\n",
        said.stdout
    );
    if said.failed {
        return Ok(said);
    }
    let listed = runner.run(&line(&["databases", "-json"], &[])).await?;
    let listed: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap_or_default();
    for path in listed.iter().filter_map(|database| database["path"].as_str()) {
        let files = runner.run(&line(&["ltx"], &["--", path])).await?;
        said.stdout += &format!("Database: {path}\n{}{}\n", files.stdout, files.stderr);
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(tool: &str, given: Value) -> Result<String, String> {
        let words = find(tool)?.words(given.as_object().unwrap(), false)?;
        Ok(words.join(" "))
    }

    #[test]
    fn what_a_client_says_is_never_a_flag() {
        let given =
            json!({"path": "-force", "o": "-exec", "if_db_not_exists": true, "parallelism": 3, "txid": ""});
        let line = words("litestream_restore", given).unwrap();
        assert_eq!(line, "restore -o=-exec -parallelism=3 -if-db-not-exists=true -- -force");
    }

    #[test]
    fn a_url_needs_no_configuration_file() {
        let of = |path: &str| words("litestream_ltx", json!({"path": path, "config": "c.yml"})).unwrap();
        assert_eq!(of("app.db"), "ltx -config=c.yml -- app.db");
        assert_eq!(of("s3://bucket/app"), "ltx -- s3://bucket/app");
    }

    #[test]
    fn mistakes_of_clients_are_named() {
        for (tool, given, message) in [
            ("litestream_ltx", json!({}), "path is required"),
            ("litestream_ltx", json!({"path": true}), "path must be of type string"),
            ("litestream_ltx", json!({"path": "a", "exec": "b"}), "litestream_ltx has no parameter \"exec\""),
            (
                "litestream_lxt",
                json!({}),
                "unknown tool \"litestream_lxt\", did you mean \"litestream_ltx\"?",
            ),
        ] {
            assert_eq!(words(tool, given).unwrap_err(), message);
        }
    }
}
