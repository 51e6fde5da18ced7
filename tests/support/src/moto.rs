//! A real S3 server of one's own.

use std::process::Command;
use std::time::Duration;

use crate::http;
use crate::process::Running;
use crate::tools::{Tool, tool};
use crate::wait::eventually;

/// How long a server may live at most, should its test die without dropping it.
const LIFETIME_SECONDS: &str = "1200";

/// A moto server on a free loopback port, with an empty bucket. It ends when this value is dropped.
pub struct Moto {
    server: Running,
    address: String,
}

impl Moto {
    /// The bucket that every server has.
    pub const BUCKET: &str = "bkt";
    /// A key pair for it. Only a server from [`Moto::start_denying`] looks at keys.
    pub const ACCESS_KEY_ID: &str = "AKIAWALSTREAMTEST";
    /// The secret of the key pair.
    pub const SECRET_ACCESS_KEY: &str = "walstream-test-secret";

    /// Starts a server that accepts every key.
    pub fn start() -> Moto {
        Moto::start_with(&[])
    }

    /// Starts a server that knows no key at all and answers every request but the creation of its bucket with 403.
    pub fn start_denying() -> Moto {
        Moto::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", "1")])
    }

    fn start_with(environment: &[(&str, &str)]) -> Moto {
        let mut command = Command::new("timeout");
        // Port 0: the server takes a free port and says which, so two tests can never race for one.
        command.args(["--foreground", LIFETIME_SECONDS]).arg(tool(Tool::MotoServer));
        command.args(["-H", "127.0.0.1", "-p", "0"]).envs(environment.iter().copied());
        let mut server = Running::start(&mut command);
        let address = eventually("moto_server listens", Duration::from_secs(60), || {
            assert!(server.is_running(), "moto_server ended: {}", server.stderr());
            listening_address(&(server.stdout() + &server.stderr()))
        });
        let moto = Moto { server, address };
        moto.create_bucket(Moto::BUCKET);
        moto
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A replica URL in the server's bucket that needs no configuration but the keys of [`Moto::environment`].
    pub fn replica_url(&self, path: &str) -> String {
        format!("s3://{}/{path}?endpoint={}&region=us-east-1", Moto::BUCKET, self.endpoint())
    }

    /// The environment variables that make a client use this server's keys.
    pub fn environment() -> [(&'static str, &'static str); 3] {
        [
            ("AWS_ACCESS_KEY_ID", Moto::ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", Moto::SECRET_ACCESS_KEY),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]
    }

    /// How many requests it has answered, by its own log.
    pub fn requests(&self) -> usize {
        self.server.stderr().lines().filter(|line| line.contains("HTTP/1.")).count()
    }

    /// One request past any client of ours. The server looks at the key of the signature at most, not at the rest.
    fn request(&self, method: &str, path: &str, body: &[u8]) -> http::Response {
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00",
            Moto::ACCESS_KEY_ID
        );
        http::request(&self.address, method, path, &[("Authorization", &authorization)], body).unwrap()
    }

    /// Creates another bucket.
    pub fn create_bucket(&self, bucket: &str) {
        let response = self.request("PUT", &format!("/{bucket}"), b"");
        assert_eq!(
            response.status,
            200,
            "creating bucket {bucket}: {}",
            String::from_utf8_lossy(&response.body)
        );
    }

    /// Every key below `prefix` in the server's bucket, in order, past the API of any client of ours.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().map(|key| format!("&start-after={key}")).unwrap_or_default();
            let path = format!("/{}?list-type=2&max-keys=1000&prefix={prefix}{after}", Moto::BUCKET);
            let listing = String::from_utf8(self.request("GET", &path, b"").body).unwrap();
            let after_tags = listing.split("<Key>").skip(1);
            keys.extend(after_tags.map(|rest| rest.split("</Key>").next().unwrap_or_default().to_owned()));
            if !listing.contains("<IsTruncated>true") {
                return keys;
            }
        }
    }

    /// The bytes of one object.
    pub fn get(&self, key: &str) -> Vec<u8> {
        let response = self.request("GET", &format!("/{}/{key}", Moto::BUCKET), b"");
        assert_eq!(response.status, 200, "reading {key}");
        response.body
    }

    /// Stores an object, replacing what was there.
    pub fn put(&self, key: &str, body: &[u8]) {
        let response = self.request("PUT", &format!("/{}/{key}", Moto::BUCKET), body);
        assert_eq!(response.status, 200, "writing {key}");
    }

    /// Removes an object.
    pub fn delete(&self, key: &str) {
        let response = self.request("DELETE", &format!("/{}/{key}", Moto::BUCKET), b"");
        assert_eq!(response.status, 204, "deleting {key}");
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.server.end();
    }
}

fn listening_address(said: &str) -> Option<String> {
    let rest = said.split("Running on http://").nth(1)?;
    let (address, _) = rest.split_once(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
    Some(address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_comes_back_and_is_listed() {
        let moto = Moto::start();
        moto.put("a/1", b"hello");
        assert_eq!(moto.get("a/1"), b"hello");
        assert_eq!(moto.keys("a/"), ["a/1"]);
        moto.delete("a/1");
        assert!(moto.keys("").is_empty());
    }

    #[test]
    fn a_denying_server_denies() {
        let moto = Moto::start_denying();
        let response = moto.request("GET", "/bkt?list-type=2", b"");
        assert_eq!(response.status, 403);
    }
}
