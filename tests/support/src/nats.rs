//! A real NATS server of one's own, with JetStream.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Running, run};
use crate::replica::StoredFile;
use crate::tools::{Tool, tool};
use crate::wait::{eventually, free_port};

const DEADLINE: Duration = Duration::from_secs(60);
/// How long a server may live at most, should its test die without dropping it.
const LIFETIME_SECONDS: &str = "1200";

/// A NATS server on a free loopback port, with an empty object store. It ends when this value is dropped.
pub struct NatsServer {
    server: Option<Running>,
    folder: TempDir,
    port: u16,
    extra: String,
}

impl NatsServer {
    /// The object store that every server has.
    pub const BUCKET: &str = "bkt";

    /// The token that is shown wherever this server is asked past any client of ours.
    pub const TOKEN: &str = "walstream-test-token";

    /// Starts a server that lets everybody in.
    pub fn start() -> NatsServer {
        let folder = tempfile::tempdir().unwrap();
        let (port, server) = (0..10)
            .find_map(|_| {
                let port = free_port();
                Some((port, listening(folder.path(), port, "")?))
            })
            .expect("no port stayed free for a NATS server");
        let server = NatsServer { server: Some(server), folder, port, extra: String::new() };
        server.create_bucket(NatsServer::BUCKET);
        server
    }

    /// Starts a server with more in its configuration file, such as users. `{folder}` there is [`NatsServer::folder`].
    pub fn start_with(extra: &str) -> NatsServer {
        let mut server = NatsServer::start();
        server.reconfigure(extra);
        server
    }

    /// Ends the server and starts it again, at the same address, with more in its configuration file.
    pub fn reconfigure(&mut self, extra: &str) {
        self.extra = extra.replace("{folder}", &self.folder.path().display().to_string());
        self.restart();
    }

    /// Ends the server and starts it again, with what it holds, at the same address.
    pub fn restart(&mut self) {
        self.end();
        let again = || listening(self.folder.path(), self.port, &self.extra);
        self.server = Some(eventually("the NATS server listens again", DEADLINE, again));
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A folder of the server's, for certificates and the like.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The URL of a replica at the top of the server's object store, as both programs understand it.
    pub fn replica_url(&self) -> String {
        format!("nats://{}/{}", self.address(), NatsServer::BUCKET)
    }

    /// Creates another object store, as `nats object add` does.
    pub fn create_bucket(&self, bucket: &str) {
        self.configure("CREATE", bucket, &json!({}));
    }

    /// Lets the object store hold so many bytes and no more.
    pub fn limit(&self, bytes: i64) {
        self.configure("UPDATE", NatsServer::BUCKET, &json!({ "max_bytes": bytes }));
    }

    /// Gives messages by their numbers to nobody any more.
    pub fn forbid_direct_access(&self) {
        self.configure("UPDATE", NatsServer::BUCKET, &json!({ "allow_direct": false }));
    }

    fn configure(&self, action: &str, bucket: &str, changes: &Value) {
        let mut config = json!({
            "name": format!("OBJ_{bucket}"),
            "subjects": [format!("$O.{bucket}.C.>"), format!("$O.{bucket}.M.>")],
            "retention": "limits", "discard": "new", "storage": "file", "num_replicas": 1,
            "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_msgs_per_subject": -1,
            "max_msg_size": -1, "allow_rollup_hdrs": true, "allow_direct": true,
        });
        for (key, value) in changes.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let answer = self.request(&format!("$JS.API.STREAM.{action}.OBJ_{bucket}"), config.to_string());
        assert!(answer.get("error").is_none(), "object store {bucket}: {answer}");
    }

    /// Deletes an object as other clients do: a description that says so is left.
    pub fn delete(&self, name: &str) {
        let mut info = self.info(name).unwrap();
        info["deleted"] = true.into();
        let stored = self.request(&format!("$O.{}.M.{}", NatsServer::BUCKET, base64(name)), info.to_string());
        assert!(stored.get("seq").is_some(), "deleting {name}: {stored}");
    }

    /// Stores an object of one chunk, as any other client would.
    pub fn put(&self, name: &str, content: &str) {
        self.put_chunks(name, &[content.as_bytes()]);
    }

    /// Stores an object in chunks of any size up to 128 KiB, as other clients do.
    pub fn put_chunks(&self, name: &str, chunks: &[&[u8]]) {
        let (bucket, nuid) = (NatsServer::BUCKET, format!("planted{}", base64(name).replace('=', "")));
        for chunk in chunks {
            let stored = self.request(&format!("$O.{bucket}.C.{nuid}"), chunk);
            assert!(stored.get("seq").is_some(), "storing a chunk of {name}: {stored}");
        }
        let size: usize = chunks.iter().map(|chunk| chunk.len()).sum();
        let info = json!({
            "name": name, "bucket": bucket, "nuid": nuid, "size": size, "chunks": chunks.len(),
            "mtime": "0001-01-01T00:00:00Z", "options": {"max_chunk_size": 131_072},
        });
        let stored = self.request(&format!("$O.{bucket}.M.{}", base64(name)), info.to_string());
        assert!(stored.get("seq").is_some(), "storing {name}: {stored}");
    }

    /// How many messages there are on the subjects of a filter, by subject.
    pub fn subjects(&self, filter: &str) -> Vec<(String, u64)> {
        let request = json!({ "subjects_filter": filter }).to_string();
        let info = self.request(&format!("$JS.API.STREAM.INFO.OBJ_{}", NatsServer::BUCKET), &request);
        let subjects = info["state"]["subjects"].as_object();
        let count = |(subject, count): (&String, &Value)| (subject.clone(), count.as_u64().unwrap());
        subjects.into_iter().flatten().map(count).collect()
    }

    /// The description of an object, as JSON.
    pub fn info(&self, name: &str) -> Option<Value> {
        let bucket = NatsServer::BUCKET;
        let request = json!({ "last_by_subj": format!("$O.{bucket}.M.{}", base64(name)) }).to_string();
        let answer = self.request(&format!("$JS.API.STREAM.MSG.GET.OBJ_{bucket}"), &request);
        serde_json::from_slice(&from_base64(answer["message"]["data"].as_str()?)).unwrap()
    }

    /// The LTX files at the top of the server's object store.
    pub fn files(&self) -> Vec<StoredFile> {
        let file = |(subject, _): (String, u64)| {
            let name = String::from_utf8(from_base64(subject.rsplit_once('.')?.1)).ok()?;
            let (level, range) = name.strip_prefix("ltx/")?.strip_suffix(".ltx")?.split_once('/')?;
            let (first, last) = range.split_once('-')?;
            let txid = |text| u64::from_str_radix(text, 16).ok();
            let deleted = self.info(&name)?["deleted"].as_bool() == Some(true);
            let file = StoredFile { level: level.parse().ok()?, first: txid(first)?, last: txid(last)? };
            (!deleted).then_some(file)
        };
        self.subjects(&format!("$O.{}.M.>", NatsServer::BUCKET)).into_iter().filter_map(file).collect()
    }

    /// How many connections there have been.
    pub fn connections(&self) -> usize {
        let said = self.server.as_ref().map(Running::stderr).unwrap_or_default();
        said.lines().filter(|line| line.contains("Client connection created")).count()
    }

    /// One request past any client of ours, to a server that lets everybody in, or whoever shows the token.
    fn request(&self, subject: &str, payload: impl AsRef<[u8]>) -> Value {
        let payload = payload.as_ref();
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let connect = json!({ "verbose": false, "auth_token": NatsServer::TOKEN });
        write!(&stream, "CONNECT {connect}\r\nSUB inbox.{} 1\r\n", std::process::id()).unwrap();
        write!(&stream, "PUB {subject} inbox.{} {}\r\n", std::process::id(), payload.len()).unwrap();
        (&stream).write_all(&[payload, b"\r\n"].concat()).unwrap();
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the NATS server hung up");
            assert!(!line.starts_with("-ERR"), "the NATS server said {line}");
            if line.starts_with("MSG ") {
                let length = line.trim().rsplit_once(' ').unwrap().1.parse().unwrap();
                let mut answer = vec![0; length];
                lines.read_exact(&mut answer).unwrap();
                return serde_json::from_slice(&answer).unwrap();
            }
        }
    }

    /// Makes an authority (`ca.pem`), and what it signed: `server.pem` and `client.pem` with their `.key`, in
    /// [`NatsServer::folder`].
    pub fn make_certificates(&self) {
        let folder = self.folder();
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            run(command.args(arguments.split(' ')).current_dir(folder), DEADLINE).success();
        };
        fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=walstream-test-ca",
        );
        for name in ["server", "client"] {
            openssl(&format!(
                "req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ));
            openssl(&format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
            ));
        }
    }

    /// A file in [`NatsServer::folder`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn end(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // `timeout` hands a TERM on to the server; the KILL of `Running` would hit `timeout` alone.
        server.signal(Signal::TERM);
        for _ in 0..1000 {
            if !server.is_running() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// The server, once it listens; none if somebody else has its port.
fn listening(folder: &Path, port: u16, extra: &str) -> Option<Running> {
    let config = folder.join("nats.conf");
    let store = folder.join("store");
    let text =
        format!("listen: 127.0.0.1:{port}\ndebug: true\njetstream {{store_dir: {store:?}}}\n{extra}\n");
    fs::write(&config, text).unwrap();
    let mut command = Command::new("timeout");
    command.args(["--foreground", LIFETIME_SECONDS]).arg(tool(Tool::NatsServer)).arg("-c").arg(config);
    let mut server = Running::start(&mut command);
    let listens = eventually("the NATS server listens", DEADLINE, || {
        let listens = server.stderr().contains("Server is ready");
        (listens || !server.is_running()).then_some(listens)
    });
    assert!(listens || server.stderr().contains("in use"), "the NATS server ended: {}", server.stderr());
    listens.then_some(server)
}

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Base64 as subjects have it.
pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    let group = |bytes: &[u8]| -> String {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(bytes.get(at).copied().unwrap_or(0)));
        let letter = |at: usize| match at <= bytes.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * at)) as usize % 64]),
            false => '=',
        };
        (0..4).map(letter).collect()
    };
    bytes.as_ref().chunks(3).map(group).collect()
}

/// Reads either base64.
fn from_base64(text: &str) -> Vec<u8> {
    let text = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    let value = |letter: &u8| LETTERS.iter().position(|known| known == letter).unwrap() as u32;
    let group = |letters: &[u8]| -> Vec<u8> {
        let bits = (0..4).fold(0, |bits, at| bits << 6 | letters.get(at).map_or(0, value));
        bits.to_be_bytes()[1..letters.len()].to_vec()
    };
    text.as_bytes().chunks(4).flat_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_described_and_found() {
        let server = NatsServer::start();
        server.put("ltx/0/0000000000000001-000000000000000a.ltx", "hello");
        assert_eq!(server.files(), [StoredFile { level: 0, first: 1, last: 10 }]);
        for text in ["", "a", "ab", "abc", "abcd~~~"] {
            assert_eq!(from_base64(&base64(text)), text.as_bytes());
        }
    }
}
