//! The line between a program and its store. It can go dead without anybody noticing: connections stay open, and nothing
//! comes through any more. And it can be a bad one, on which no connection lasts.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A TCP proxy on a free loopback port. Its threads end with the connections.
pub struct Line {
    address: SocketAddr,
    is_dead: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    /// A line to `server` (`127.0.0.1:PORT`).
    pub fn to(server: &str) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, is_dead) = (listener.local_addr().unwrap(), Arc::<AtomicBool>::default());
        let (server, dead) = (server.to_owned(), Arc::clone(&is_dead));
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let opened = Arc::clone(&open);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(&server) else { continue };
                opened.lock().unwrap().push(near.try_clone().unwrap());
                let (near2, far2) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (dead_out, dead_back) = (Arc::clone(&dead), Arc::clone(&dead));
                thread::spawn(move || carry(near, far, &dead_out));
                thread::spawn(move || carry(far2, near2, &dead_back));
            }
        });
        Line { address, is_dead, open }
    }

    /// Where the near end is: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the near end is: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends every connection that is open; says how many these were. New ones come about as before.
    pub fn cut(&self) -> usize {
        let cut: Vec<TcpStream> = self.open.lock().unwrap().drain(..).collect();
        cut.iter().filter(|stream| stream.shutdown(Shutdown::Both).is_ok()).count()
    }

    /// From now on nothing comes through, in either direction.
    pub fn go_dead(&self) {
        self.is_dead.store(true, Ordering::SeqCst);
    }
}

/// What a bad line does.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A connection ends when it has brought so many bytes.
    pub ends_after: usize,
    /// Every so many connections the server sends whoever comes away: it is too busy.
    pub busy_every: usize,
}

/// What went over a [`Line::bad`].
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections that were made.
    pub connections: AtomicUsize,
    /// Bytes that the server sent.
    pub bytes: AtomicUsize,
}

impl Line {
    /// A line to `server` (`127.0.0.1:PORT`) with faults, and what goes over it.
    pub fn bad(server: &str, faults: Faults) -> (Line, Arc<Traffic>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, server) = (listener.local_addr().unwrap(), server.to_owned());
        let traffic = Arc::<Traffic>::default();
        let counted = Arc::clone(&traffic);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let number = counted.connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (server, counted) = (server.clone(), Arc::clone(&counted));
                thread::spawn(move || match number % faults.busy_every {
                    0 => send_away(near),
                    _ => carry_some(near, &server, faults.ends_after, &counted),
                });
            }
        });
        (Line { address, is_dead: Arc::default(), open: Arc::default() }, traffic)
    }
}

/// The server is too busy for the first request.
fn send_away(mut near: TcpStream) {
    let _ = near.read(&mut [0; 16 << 10]);
    let _ = near.write_all(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}

/// Both ways, until the server has sent so many bytes.
fn carry_some(mut near: TcpStream, server: &str, ends_after: usize, traffic: &Traffic) {
    let Ok(mut far) = TcpStream::connect(server) else { return };
    let (requests, to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    thread::spawn(move || carry(requests, to, &AtomicBool::default()));
    let (mut piece, mut left) = ([0; 16 << 10], ends_after);
    while left > 0
        && let Ok(length @ 1..) = far.read(&mut piece[..left.min(16 << 10)])
        && near.write_all(&piece[..length]).is_ok()
    {
        left -= length;
        traffic.bytes.fetch_add(length, Ordering::SeqCst);
    }
    // What was sent must arrive, as on a line that breaks behind it.
    let _ = (near.shutdown(Shutdown::Write), far.shutdown(Shutdown::Both));
}

/// Takes everything from one side and gives it to the other, as long as the line is not dead.
fn carry(mut from: TcpStream, mut to: TcpStream, is_dead: &AtomicBool) {
    let mut piece = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if !is_dead.load(Ordering::SeqCst) && to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    if !is_dead.load(Ordering::SeqCst) {
        let _ = to.shutdown(Shutdown::Both);
    }
}
