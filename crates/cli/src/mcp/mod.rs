//! The Model Context Protocol at `mcp-addr`: assistants may look at what is replicated, and restore.
//!
//! Invariant: replication does not depend on it. A tool is a run of this program's own command in a process of its own, so
//! that it can neither disturb the daemon nor take its locks away from it.
//!
//! | what | module |
//! |---|---|
//! | the tools, and their command lines | `tools` |
//! | running them | `run` |
//! | what is said by HTTP | here |
//!
//! Each request has its answer, as JSON. There are no sessions and no streams, which the protocol leaves to the server.

mod run;
mod tools;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};

use self::run::Runner;
use crate::args::ConfigArgs;
use crate::commands::version::VERSION;
use crate::http::{self, Address};

/// Nobody's request is longer.
const MAX_REQUEST: usize = 64 << 10;
/// Versions of the protocol that are spoken, the newest first. What they differ in is not used here.
const PROTOCOLS: [&str; 4] = ["2025-06-18", "2025-03-26", "2024-11-05", "2024-10-07"];

/// Where to listen, and which configuration file the tools read unless they are told another.
#[derive(Clone, Debug)]
pub(crate) struct Mcp {
    pub(crate) address: Address,
    pub(crate) config: ConfigArgs,
}

/// Answers requests for as long as the runtime lives.
pub(crate) fn start(mcp: Mcp) {
    tokio::spawn(async move {
        let listener = http::listen(&mcp.address, "MCP server").await;
        if let Ok(local) = listener.local_addr() {
            tracing::info!(url = %format!("http://{local}/"), "serving MCP on");
        }
        if let Err(error) = axum::serve(listener, router(Runner::new(mcp.config))).await {
            tracing::error!(%error, "MCP server ended");
        }
    });
}

/// Any path will do, as with the peer.
fn router(runner: Runner) -> Router {
    Router::new().fallback_service(post(answer).with_state(runner)).layer(DefaultBodyLimit::max(MAX_REQUEST))
}

/// A request, a notification (without `id`) or an answer of the other side (without `method`).
#[derive(Deserialize)]
struct Message {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
}

/// Why a request has no result: a code of JSON-RPC, and a sentence.
struct Failure(i32, String);

impl Failure {
    const NO_JSON: i32 = -32700;
    const NO_METHOD: i32 = -32601;
    const BAD_PARAMETERS: i32 = -32602;
    const OURS: i32 = -32603;
}

async fn answer(State(runner): State<Runner>, headers: HeaderMap, body: Bytes) -> Response {
    if !comes_from_here(&headers) {
        return (StatusCode::FORBIDDEN, "requests of web pages are not answered\n").into_response();
    }
    let message = match serde_json::from_slice::<Message>(&body) {
        Ok(message) => message,
        Err(error) => return reply(Value::Null, Err(Failure(Failure::NO_JSON, error.to_string()))),
    };
    let (Some(id), Some(method)) = (message.id, message.method) else {
        return StatusCode::ACCEPTED.into_response();
    };
    reply(id, result(&runner, &method, message.params).await)
}

/// A browser says which page a request comes from. No page has any business here, whatever its name leads to.
fn comes_from_here(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = origin.to_str().ok().and_then(|origin| url::Url::parse(origin).ok());
    let host = host.as_ref().and_then(url::Url::host_str);
    host.is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host))
}

fn reply(id: Value, result: Result<Value, Failure>) -> Response {
    let answer = match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(Failure(code, message)) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    };
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

async fn result(runner: &Runner, method: &str, params: Value) -> Result<Value, Failure> {
    match method {
        "initialize" => Ok(json!({
            "protocolVersion": protocol(&params),
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "walstream", "version": VERSION},
        })),
        "ping" => Ok(json!({})),
        "tools/list" => {
            Ok(json!({"tools": tools::TOOLS.iter().map(tools::Tool::describe).collect::<Vec<_>>()}))
        }
        "tools/call" => call(runner, params).await,
        _ => Err(Failure(Failure::NO_METHOD, format!("method not found: {method}"))),
    }
}

/// The client's version if it is known here, else the newest that is.
fn protocol(params: &Value) -> &'static str {
    let wanted = params["protocolVersion"].as_str();
    PROTOCOLS.into_iter().find(|version| Some(*version) == wanted).unwrap_or(PROTOCOLS[0])
}

async fn call(runner: &Runner, params: Value) -> Result<Value, Failure> {
    let wrong = |message| Failure(Failure::BAD_PARAMETERS, message);
    let tool = tools::find(params["name"].as_str().unwrap_or_default()).map_err(wrong)?;
    let given = params["arguments"].as_object().cloned().unwrap_or_default();
    tracing::info!(tool = tool.name, "MCP tool called");
    let said = tool.call(&given, runner).await.map_err(|error| match error {
        tools::CallError::Parameter(message) => wrong(message),
        tools::CallError::Run(error) => Failure(Failure::OURS, format!("cannot run {}: {error}", tool.name)),
    })?;
    Ok(json!({"content": [{"type": "text", "text": said.stdout + &said.stderr}], "isError": said.failed}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_machine_are_answered() {
        let comes_from_here = |origin: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            comes_from_here(&headers)
        };
        assert!(super::comes_from_here(&HeaderMap::new()), "no browser");
        for origin in ["http://localhost:6274", "http://127.0.0.1", "https://[::1]:1"] {
            assert!(comes_from_here(origin), "{origin}");
        }
        for origin in ["http://evil.example", "http://localhost.evil.example:3001", "null", "file://"] {
            assert!(!comes_from_here(origin), "{origin}");
        }
    }

    #[test]
    fn a_version_of_the_protocol_is_agreed_on() {
        assert_eq!(protocol(&json!({"protocolVersion": "2024-11-05"})), "2024-11-05");
        assert_eq!(protocol(&json!({"protocolVersion": "2099-01-01"})), PROTOCOLS[0]);
        assert_eq!(protocol(&Value::Null), PROTOCOLS[0]);
    }
}
