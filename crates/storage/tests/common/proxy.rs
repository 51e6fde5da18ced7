//! An HTTP proxy that breaks what it is told to break.
//!
//! Each request goes over a connection of its own to the real server, so that a fault hits exactly one request.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The server never sees it; the client gets this status line and these headers.
    Answer { status: &'static str, headers: &'static str },
    /// The server never sees it; the client gets no answer.
    Hang,
    /// The server never sees it; the connection ends after so many bytes of the request's body.
    CutRequest(usize),
    /// The server does it, but the client gets only so many bytes of the answer.
    CutAnswer(usize),
    /// The server does not see the header that begins like this, in lower case.
    WithoutHeader(&'static str),
}

/// A fault for requests whose first line contains `wanted`, so many times.
struct Plan {
    wanted: &'static str,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct State {
    plans: VecDeque<Plan>,
    seen: Vec<String>,
}

/// The proxy; it ends when dropped.
pub struct Proxy {
    address: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of `server` (`127.0.0.1:PORT`), which breaks nothing yet.
    pub async fn start(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, server) = (Arc::clone(&state), server.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (state, server) = (Arc::clone(&shared), server.clone());
                tokio::spawn(async move { serve(client, &server, &state).await });
            }
        });
        Proxy { address, state, task }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks the next `times` requests whose first line (`PUT /bkt/key?query HTTP/1.1`) contains `wanted`.
    pub fn plan(&self, wanted: &'static str, times: usize, fault: Fault) {
        self.state.lock().unwrap().plans.push_back(Plan { wanted, fault, times });
    }

    /// The heads of all requests that contain `wanted`, in lower case.
    pub fn seen(&self, wanted: &str) -> Vec<String> {
        let state = self.state.lock().unwrap();
        state.seen.iter().filter(|head| head.contains(wanted)).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn fault_for(&mut self, head: &str) -> Option<Fault> {
        self.seen.push(head.to_ascii_lowercase());
        let first_line = head.lines().next().unwrap_or_default();
        let at = self.plans.iter().position(|plan| first_line.contains(plan.wanted))?;
        let plan = &mut self.plans[at];
        plan.times -= 1;
        let fault = plan.fault.clone();
        if plan.times == 0 {
            self.plans.remove(at);
        }
        Some(fault)
    }
}

async fn serve(mut client: TcpStream, server: &str, state: &Mutex<State>) -> Option<()> {
    let mut request = Vec::new();
    let head_end = loop {
        if let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        (client.read_buf(&mut request).await.ok()? > 0).then_some(())?;
    };
    let head = String::from_utf8_lossy(&request[..head_end]).into_owned();
    let fault = state.lock().unwrap().fault_for(&head);
    let length = content_length(&head);
    let wanted = match fault {
        Some(Fault::CutRequest(bytes)) => bytes.min(length),
        _ => length,
    };
    while request.len() < head_end + wanted {
        (client.read_buf(&mut request).await.ok()? > 0).then_some(())?;
    }
    match fault {
        Some(Fault::Answer { status, headers }) => {
            let answer =
                format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n");
            client.write_all(answer.as_bytes()).await.ok()?;
        }
        Some(Fault::Hang) => tokio::time::sleep(Duration::from_secs(600)).await,
        Some(Fault::CutRequest(_)) => {}
        Some(Fault::CutAnswer(bytes)) => {
            let answer = forward(server, &head, &request[head_end..]).await?;
            client.write_all(&answer[..bytes.min(answer.len())]).await.ok()?;
        }
        Some(Fault::WithoutHeader(name)) => {
            let lines = head.split_inclusive("\r\n");
            let head: String = lines.filter(|line| !line.to_ascii_lowercase().starts_with(name)).collect();
            let answer = forward(server, &head, &request[head_end..]).await?;
            client.write_all(&answer).await.ok()?;
        }
        None => {
            let answer = forward(server, &head, &request[head_end..]).await?;
            client.write_all(&answer).await.ok()?;
        }
    }
    client.shutdown().await.ok()
}

pub(super) fn content_length(head: &str) -> usize {
    let header = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:").map(str::to_owned));
    header.map_or(0, |value| value.trim().parse().unwrap())
}

/// The server's whole answer to the request, which it is told to be the last of its connection.
pub(super) async fn forward(server: &str, head: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut upstream = TcpStream::connect(server).await.ok()?;
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    upstream.write_all(head.as_bytes()).await.ok()?;
    upstream.write_all(body).await.ok()?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await.ok()?;
    Some(answer)
}
