//! A Google Cloud Storage of one's own.
//!
//! The store is a real emulator, `gcp-storage-emulator`, which speaks Google's JSON interface. In front of it is a
//! server of ours, at one address for both interfaces as at Google's: it hands JSON requests on as they are, which
//! is what the peer sends, and says in JSON what walstream asks for in XML. So both programs meet in one store.
//!
//! What the emulator lacks, the front does, and so proves only that walstream asks rightly: conditions
//! (`x-goog-if-generation-match`), pages of listings, parts of multipart uploads, ranges past the end.

mod front;
mod xml;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::http;
use crate::process::Running;
use crate::tools::{Tool, own_program, tool};
use crate::wait::eventually;
use front::Front;
use xml::{Emulator, percent_encode};

/// How long a server may live at most, should its test die without dropping it.
const LIFETIME_SECONDS: &str = "1200";

/// Port 0: the emulator takes a free port and says which, as its own command does not. It ends with whoever started it.
const LAUNCH: &str = "
import sys
from gcp_storage_emulator.server import create_server
server = create_server('127.0.0.1', 0, True, sys.argv[1])
# It writes all that it knows into its memory after each request, for nobody.
server._storage._write_config_to_file = lambda: None
server.start()
print('127.0.0.1:%d' % server._api._httpd.server_address[1], flush=True)
sys.stdin.read()
server.stop()
";

/// What `walstream-test-gcs` does: starts an emulator with an empty bucket, and its front, says where both listen, and
/// serves until it is ended. A front that denies answers every request with 403, in Google's words.
pub fn serve(denies: bool) {
    // The one beside the emulator, which has its modules.
    let mut command = Command::new(tool(Tool::GcpStorageEmulator).with_file_name("python"));
    command.args(["-c", LAUNCH, Gcs::BUCKET]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut emulator = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut emulator).unwrap();
    let emulator = emulator.trim();
    assert!(!emulator.is_empty(), "gcp-storage-emulator did not start");
    let front = Front::start(Emulator::at(emulator, !denies));
    println!("{} {emulator}", front.address());
    // Its input stays open for as long as this process lives.
    let _input = child.stdin.take();
    child.wait().unwrap();
}

/// An emulator with an empty bucket, and its front, in a process of their own. It ends when this value is dropped.
pub struct Gcs {
    server: Running,
    front: String,
    emulator: String,
}

impl Gcs {
    /// The bucket that every server has.
    pub const BUCKET: &str = "bkt";

    /// Starts a server that lets everyone in, as emulators do.
    pub fn start() -> Gcs {
        Gcs::start_with(&[])
    }

    /// Starts a server that answers every request with 403, in Google's words.
    pub fn start_denying() -> Gcs {
        Gcs::start_with(&["deny"])
    }

    fn start_with(arguments: &[&str]) -> Gcs {
        let mut command = Command::new("timeout");
        command
            .args(["--foreground", LIFETIME_SECONDS])
            .arg(own_program("walstream-test-gcs"))
            .args(arguments);
        let mut server = Running::start(&mut command);
        let (front, emulator) = eventually("gcp-storage-emulator listens", Duration::from_secs(60), || {
            assert!(server.is_running(), "gcp-storage-emulator ended: {}", server.stderr());
            let said = server.stdout();
            let (front, emulator) = said.strip_suffix('\n')?.split_once(' ')?;
            Some((front.to_owned(), emulator.to_owned()))
        });
        Gcs { server, front, emulator }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.front
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The environment variables that lead clients here.
    pub fn environment(&self) -> [(&'static str, String); 1] {
        [("STORAGE_EMULATOR_HOST", self.endpoint())]
    }

    /// A replica URL in the server's bucket.
    pub fn replica_url(&self, path: &str) -> String {
        format!("gs://{}/{path}", Gcs::BUCKET)
    }

    /// One request to the emulator, past the front and any client of ours.
    fn request(&self, method: &str, path: &str, body: &[u8]) -> http::Response {
        let content_type = [("Content-Type", "application/octet-stream")];
        http::request(&self.emulator, method, path, &content_type, body).unwrap()
    }

    /// Every name below `prefix` in the server's bucket, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let path = format!("/storage/v1/b/{}/o?prefix={}", Gcs::BUCKET, percent_encode(prefix));
        let listing: serde_json::Value =
            serde_json::from_slice(&self.request("GET", &path, b"").body).unwrap();
        let names = listing["items"].as_array().unwrap().iter();
        let mut names: Vec<String> = names.map(|item| item["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    /// The user metadata of an object.
    pub fn metadata(&self, key: &str) -> serde_json::Value {
        let path = format!("/storage/v1/b/{}/o/{}", Gcs::BUCKET, percent_encode(key));
        let object: serde_json::Value =
            serde_json::from_slice(&self.request("GET", &path, b"").body).unwrap();
        object["metadata"].clone()
    }

    /// Stores an object, replacing what was there.
    pub fn put(&self, key: &str, body: &[u8]) {
        let path =
            format!("/upload/storage/v1/b/{}/o?uploadType=media&name={}", Gcs::BUCKET, percent_encode(key));
        assert_eq!(self.request("POST", &path, body).status, 200, "writing {key}");
    }
}

impl Drop for Gcs {
    fn drop(&mut self) {
        self.server.end();
    }
}
