//! The line between a daemon and its store, which can go dead without anybody noticing: connections stay open, and
//! nothing comes through any more.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
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
