//! The little of HTTP that a server needs for the clients of these tests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use super::xml::Emulator;
use crate::http::headers;

/// One request, read to its end.
pub(super) struct Request {
    pub(super) method: String,
    /// Path and query as they came.
    pub(super) target: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// One answer. Its length is added when it is sent.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// A listening server with a thread for each connection. They end with the test process.
pub(super) struct Front {
    address: String,
}

impl Front {
    pub(super) fn start(emulator: Emulator) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let emulator = Arc::new(emulator.fronted_by(&address));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let emulator = Arc::clone(&emulator);
                std::thread::spawn(move || serve(&emulator, stream));
            }
        });
        Front { address }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

/// Answers one request after the other, until the client goes or says something that is not HTTP.
fn serve(emulator: &Emulator, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(1 << 20, stream.try_clone()?);
    while let Some(request) = read(&mut reader, &stream)? {
        let answer = emulator.answer(&request);
        write(&stream, &answer, request.method == "HEAD")?;
        if request.header("connection").is_some_and(|wish| wish.eq_ignore_ascii_case("close")) {
            break;
        }
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>, mut stream: &TcpStream) -> io::Result<Option<Request>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request { method, target, headers: headers(lines), body: Vec::new() };
    if request.header("expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.body = match request.header("content-length").and_then(|length| length.parse().ok()) {
        Some(length) => exactly(reader, length)?,
        None if request.header("transfer-encoding").is_some() => chunked(reader)?,
        None => Vec::new(),
    };
    Ok(Some(request))
}

fn exactly(reader: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn chunked(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        body.extend(exactly(reader, size)?);
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn write(mut stream: &TcpStream, answer: &Answer, head_only: bool) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Answer\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !answer.headers.iter().any(|(name, _)| name == "content-length") {
        head += &format!("content-length: {}\r\n", answer.body.len());
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    if !head_only {
        stream.write_all(&answer.body)?;
    }
    stream.flush()
}
