//! `mcp-addr`: a client of the Model Context Protocol finds the same tools at either program.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use walstream_test_support::compare::assert_same_rows;
use walstream_test_support::http::{Response, request};
use walstream_test_support::replica::newest_txid;
use walstream_test_support::{App, Daemon, Program, eventually, free_port, tool, wait_until};

use crate::{litestream, walstream};

const SOON: Duration = Duration::from_secs(30);

/// A daemon that is asked, beside an application.
struct Site {
    folder: TempDir,
    app: App,
    address: String,
    session: Option<String>,
    daemon: Daemon,
}

impl Site {
    fn of(program: Program) -> Site {
        let folder = tempfile::tempdir().unwrap();
        let app = App::open(folder.path().join("shop.db"));
        let (config, replica) = (folder.path().join("litestream.yml"), folder.path().join("replica"));
        let address = format!("127.0.0.1:{}", free_port());
        let (database, place) = (app.path().display(), replica.display());
        let text =
            format!("mcp-addr: '{address}'\ndbs: [{{path: {database}, replica: {{path: {place}}}}}]\n");
        fs::write(&config, text).unwrap();
        // Litestream's tools look for a program of its name.
        let litestream = tool(walstream_test_support::Tool::Litestream);
        let path = format!("{}:{}", litestream.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let program = program.with([("PATH", path), ("LITESTREAM_CONFIG", config.display().to_string())]);
        let daemon = program.replicate_config(&config).ready();
        let mut site = Site { folder, app, address, session: None, daemon };
        let begun = eventually("the server answers", SOON, || {
            let version = json!({"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {}});
            site.ask("initialize", &version).ok()
        });
        assert_eq!(result(&begun)["protocolVersion"], "2025-03-26");
        let session = begun.headers.iter().find(|(name, _)| name == "mcp-session-id");
        site.session = session.map(|(_, value)| value.clone());
        wait_until("there is a snapshot", SOON, || newest_txid(&site.path("replica")) > 0);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ask(&self, method: &str, params: &Value) -> std::io::Result<Response> {
        let body = json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params});
        self.post(&body, &[])
    }

    fn post(&self, body: &Value, headers: &[(&str, &str)]) -> std::io::Result<Response> {
        let session = self.session.as_deref().map(|session| ("Mcp-Session-Id", session));
        let usual = [("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
        let headers: Vec<_> = usual.into_iter().chain(session).chain(headers.iter().copied()).collect();
        request(&self.address, "POST", "/mcp", &headers, body.to_string().as_bytes())
    }

    /// What a tool says, and whether it failed.
    fn call(&self, tool: &str, arguments: Value) -> (String, bool) {
        let called = self.ask("tools/call", &json!({"name": tool, "arguments": arguments})).unwrap();
        let result = result(&called);
        assert_eq!(result["content"][0]["type"], "text", "{result}");
        let text = result["content"][0]["text"].as_str().unwrap();
        let text = text.replace(self.folder.path().to_str().unwrap(), "$DATA");
        (text, result["isError"] == true)
    }
}

fn parsed(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    let answer: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(7)), "{answer}");
    answer
}

fn result(response: &Response) -> Value {
    parsed(response)["result"].clone()
}

/// A tool as it is offered.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Offered {
    name: String,
    /// With their types.
    parameters: Vec<(String, String)>,
    required: Vec<String>,
}

fn tools(site: &Site) -> Vec<Offered> {
    let listed = result(&site.ask("tools/list", &json!({})).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut tools: Vec<_> = (listed["tools"].as_array().unwrap().iter())
        .map(|tool| {
            let schema = &tool["inputSchema"];
            let parameters = schema["properties"].as_object().into_iter().flatten();
            let parameters = parameters.map(|(name, property)| (name.clone(), text(&property["type"])));
            let required = schema["required"].as_array().into_iter().flatten().map(text).collect();
            assert!(text(&tool["description"]).len() > 10);
            Offered { name: text(&tool["name"]), parameters: parameters.collect(), required }
        })
        .collect();
    tools.sort();
    tools
}

#[test]
fn both_offer_the_same_tools_which_say_the_same() {
    let (ours, theirs) = (Site::of(walstream()), Site::of(litestream()));
    assert_eq!(tools(&ours), tools(&theirs));
    assert_eq!(tools(&ours).len(), 7);
    let said = |site: &Site, tool: &str, arguments: Value| {
        let (text, failed) = site.call(tool, arguments);
        let words = text.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        (words.collect::<Vec<_>>().join(" "), failed)
    };
    for (tool, arguments) in [
        ("litestream_databases", json!({})),
        ("litestream_ltx", json!({"path": "file:///none"})),
        ("litestream_status", json!({"path": "/none.db"})),
        ("litestream_version", json!({})),
    ] {
        assert_eq!(said(&ours, tool, arguments.clone()), said(&theirs, tool, arguments), "{tool}");
    }
    for site in [&ours, &theirs] {
        let (report, failed) = site.call("litestream_info", json!({}));
        let parts = ["Version Information:", "Databases:", "$DATA/shop.db  file", "Database: $DATA/shop.db"];
        assert!(!failed && parts.iter().all(|part| report.contains(part)), "{report}");
    }
    ours.daemon.stop();
    theirs.daemon.stop();
}

#[test]
fn an_assistant_restores_a_database() {
    let site = Site::of(walstream());
    let (copy, database) = (site.path("copy.db"), site.app.path().display().to_string());
    let (said, failed) =
        site.call("litestream_restore", json!({"path": database, "o": copy, "if_replica_exists": true}));
    assert!(!failed && said.contains("database restored"), "{said}");
    assert_same_rows(site.app.path(), &copy);
    // What is there stays.
    let (said, failed) = site.call("litestream_restore", json!({"path": database, "o": copy}));
    assert!(failed && said.contains("Error: cannot restore, output path already exists"), "{said}");
    let again = json!({"path": database, "o": copy, "if_db_not_exists": true});
    assert!(!site.call("litestream_restore", again).1);
    let (said, failed) = site.call("litestream_reset", json!({"path": database}));
    assert!(failed && said.contains("stop it first"), "{said}");
    site.app.sell(1, 10);
    let daemon = site.daemon.stop();
    assert!(daemon.stdout.contains("tool=litestream_restore"), "{daemon:?}");
}

#[test]
fn what_is_wrong_is_said_in_the_words_of_the_protocol() {
    let site = Site::of(walstream());
    let code =
        |method: &str, params: Value| parsed(&site.ask(method, &params).unwrap())["error"]["code"].clone();
    assert_eq!(code("resources/list", json!({})), -32601);
    assert_eq!(code("tools/call", json!({"name": "litestream_shell"})), -32602);
    assert_eq!(code("tools/call", json!({"name": "litestream_ltx", "arguments": {"exec": "x"}})), -32602);
    assert_eq!(result(&site.ask("ping", &json!({})).unwrap()), json!({}));
    let note = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(site.post(&note, &[]).unwrap().status, 202);
    assert_eq!(request(&site.address, "GET", "/mcp", &[], b"").unwrap().status, 405);
    let page = [("Origin", "http://evil.example")];
    assert_eq!(site.post(&note, &page).unwrap().status, 403);
    site.daemon.stop();
}
