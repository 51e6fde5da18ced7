//! A TCP proxy that breaks connections, whatever is spoken over them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What happens on the wire. Bytes are counted from the moment when it is asked for, over all connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The connection ends when the server has got so many bytes.
    CutRequest(usize),
    /// The connection ends when the client has got so many bytes.
    CutAnswer(usize),
    /// When the server has got so many bytes, the next that it says is lost, and the connection with it.
    LoseAnswer(usize),
    /// Nothing gets through any more, in either direction, and no connection ends. What is said meanwhile is lost.
    Silence,
    /// The client gets a byte now and then.
    Drip,
}

#[derive(Default)]
struct State {
    trouble: Option<Trouble>,
    requested: usize,
    answered: usize,
    struck: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Answer,
}

enum Verdict {
    Pass,
    /// So many bytes still pass.
    Cut(usize),
    Lose,
    Drip,
}

/// The proxy; it ends when dropped.
pub struct Wire {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// A proxy in front of `server` (`127.0.0.1:PORT`), which breaks nothing yet.
    pub async fn start(server: &str) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, server) = (Arc::clone(&state), server.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // A server that is down is for the client to find out.
                if let Ok(upstream) = TcpStream::connect(&server).await {
                    tokio::spawn(carry(client, upstream, Arc::clone(&shared)));
                }
            }
        });
        Wire { address, state, task }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Asks for trouble, once. [`Trouble::Silence`] and [`Trouble::Drip`] stay until the next call.
    pub fn trouble(&self, trouble: Option<Trouble>) {
        let mut state = self.state.lock().unwrap();
        *state = State { trouble, struck: state.struck, ..State::default() };
    }

    /// How many connections have been cut.
    pub fn struck(&self) -> usize {
        self.state.lock().unwrap().struck
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn judge(&mut self, direction: Direction, bytes: usize) -> Verdict {
        let passed = match direction {
            Direction::Request => &mut self.requested,
            Direction::Answer => &mut self.answered,
        };
        let before = *passed;
        *passed += bytes;
        let cut = match (self.trouble, direction) {
            (Some(Trouble::Silence), _) => return Verdict::Lose,
            (Some(Trouble::Drip), Direction::Answer) => return Verdict::Drip,
            (Some(Trouble::CutRequest(limit)), Direction::Request)
            | (Some(Trouble::CutAnswer(limit)), Direction::Answer)
                if *passed >= limit =>
            {
                limit.saturating_sub(before)
            }
            (Some(Trouble::LoseAnswer(limit)), Direction::Answer) if self.requested >= limit => 0,
            _ => return Verdict::Pass,
        };
        self.trouble = None;
        self.struck += 1;
        Verdict::Cut(cut)
    }
}

async fn carry(client: TcpStream, server: TcpStream, state: Arc<Mutex<State>>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let cut = Arc::new(Notify::new());
    let requests = pump(from_client, to_server, Direction::Request, &state, &cut);
    let answers = pump(from_server, to_client, Direction::Answer, &state, &cut);
    tokio::select! {
        _ = async { tokio::join!(requests, answers) } => {}
        () = cut.notified() => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    state: &Mutex<State>,
    cut: &Notify,
) -> Option<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await.ok()?;
        if count == 0 {
            let _ = to.shutdown().await;
            return Some(());
        }
        let verdict = state.lock().unwrap().judge(direction, count);
        match verdict {
            Verdict::Pass => to.write_all(&buffer[..count]).await.ok()?,
            Verdict::Lose => std::future::pending().await,
            Verdict::Cut(rest) => {
                let _ = to.write_all(&buffer[..rest.min(count)]).await;
                let _ = to.flush().await;
                cut.notify_one();
                return None;
            }
            Verdict::Drip => {
                for byte in &buffer[..count] {
                    to.write_all(&[*byte]).await.ok()?;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}
