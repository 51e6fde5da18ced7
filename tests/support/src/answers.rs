//! A server that knows a few answers, for the services that hand out tokens: no real ones can be had.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Answers any request whose first line contains a word with the text that goes with it. It lives as long as the test.
pub struct Answers {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Answers {
    /// Starts it. The first word that fits counts; where none does, the answer is 404.
    pub fn start(answers: &'static [(&'static str, &'static str)]) -> Answers {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&heads);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = serve(stream, answers, &heard);
            }
        });
        Answers { address, heads }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The heads of all requests whose first line contains `word`, in lower case.
    pub fn asked(&self, word: &str) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        let has =
            |head: &&String| head.lines().next().is_some_and(|line| line.contains(&word.to_lowercase()));
        heads.iter().filter(has).cloned().collect()
    }
}

fn serve(mut stream: TcpStream, answers: &[(&str, &str)], heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    let end = loop {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
        if request.ends_with(b"\r\n\r\n") {
            break request.len();
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    stream.read_exact(&mut vec![0; length.unwrap_or(0)])?;
    let first = head.lines().next().unwrap_or_default();
    let answer = answers.iter().find(|(word, _)| first.contains(word));
    let (status, body) = answer.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", body));
    heads.lock().unwrap().push(lower);
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
