//! A real Azure Blob Storage server of one's own: Azurite, Microsoft's own emulator.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::http;
use crate::process::Running;
use crate::tools::{Tool, tool};
use crate::wait::eventually;

/// How long a server may live at most, should its test die without dropping it.
const LIFETIME_SECONDS: &str = "1200";

/// An Azurite on a free loopback port, with an empty container. It ends when this value is dropped.
pub struct Azurite {
    server: Running,
    address: String,
    folder: TempDir,
}

impl Azurite {
    /// The account that every Azurite has.
    pub const ACCOUNT: &str = "devstoreaccount1";
    /// Its well-known key.
    pub const KEY: &str =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    /// A shared access signature for the container, made with that key; it ends in 2099.
    pub const SAS: &str = "sv=2022-11-02&sr=c&sp=racwdl&st=2020-01-01T00:00:00Z&se=2099-01-01T00:00:00Z\
                           &sig=xwVArD6Uo%2BlvwK6%2FOLKijP9d1SIwHvP31uiB9Ru81f4%3D";
    /// One for the whole account, which can make containers too.
    const ACCOUNT_SAS: &str = "sv=2022-11-02&ss=b&srt=sco&sp=racwdl&st=2020-01-01T00:00:00Z&se=2099-01-01T00:00:00Z\
                           &sig=LbV11oFa%2Fe%2Fnx60wVm2sq9ZYA29uBWRLoKB7cF7BMzg%3D";
    /// The container that every server has.
    pub const CONTAINER: &str = "bkt";

    /// Starts a server with an empty container.
    pub fn start() -> Azurite {
        let folder = tempfile::tempdir().unwrap();
        let (server, address) = serve(folder.path(), "0");
        let azurite = Azurite { server, address, folder };
        let made = azurite.request("PUT", "?restype=container", &[], b"");
        assert_eq!(made.status, 201, "{}", String::from_utf8_lossy(&made.body));
        azurite
    }

    /// Ends it and starts it again at the same address.
    pub fn restart(&mut self) {
        self.server.end();
        let (_, port) = self.address.split_once(':').unwrap();
        self.server = serve(self.folder.path(), port).0;
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the key `endpoint` of a replica says.
    pub fn endpoint(&self) -> String {
        format!("http://{}/{}", self.address, Azurite::ACCOUNT)
    }

    /// The environment variables that let clients in.
    pub fn environment() -> [(&'static str, String); 1] {
        [("LITESTREAM_AZURE_ACCOUNT_KEY", Azurite::KEY.to_owned())]
    }

    /// One request for something in the container, past any client of ours.
    fn request(&self, method: &str, what: &str, headers: &[(&str, &str)], body: &[u8]) -> http::Response {
        let separator = if what.contains('?') { '&' } else { '?' };
        let path =
            format!("/{}/{}{what}{separator}{}", Azurite::ACCOUNT, Azurite::CONTAINER, Azurite::ACCOUNT_SAS);
        http::request(&self.address, method, &path, headers, body).unwrap()
    }

    /// Every name below `prefix` in the container, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys = Vec::new();
        let mut marker = String::new();
        loop {
            let what = format!("?restype=container&comp=list&prefix={prefix}&marker={marker}");
            let listing = String::from_utf8(self.request("GET", &what, &[], b"").body).unwrap();
            let names = listing.split("<Name>").skip(1);
            keys.extend(names.map(|rest| rest.split("</Name>").next().unwrap_or_default().to_owned()));
            match listing.split_once("<NextMarker>").and_then(|(_, rest)| rest.split_once("</NextMarker>")) {
                Some((next, _)) if !next.is_empty() => marker = next.to_owned(),
                _ => return keys,
            }
        }
    }

    /// The headers that come with a blob.
    pub fn headers(&self, key: &str) -> Vec<(String, String)> {
        let response = self.request("HEAD", &format!("/{key}"), &[], b"");
        assert_eq!(response.status, 200, "looking up {key}");
        response.headers
    }

    /// Stores a blob, replacing what was there.
    pub fn put(&self, key: &str, body: &[u8]) {
        let response = self.request("PUT", &format!("/{key}"), &[("x-ms-blob-type", "BlockBlob")], body);
        assert_eq!(response.status, 201, "writing {key}");
    }
}

impl Drop for Azurite {
    fn drop(&mut self) {
        self.server.end();
    }
}

/// Starts a server on a port, or on a free one, and says where it listens.
fn serve(folder: &Path, port: &str) -> (Running, String) {
    let mut command = Command::new("timeout");
    command.args(["--foreground", LIFETIME_SECONDS]).arg(tool(Tool::Azurite));
    // It would not know the version of the protocol that the peer asks for.
    command.args(["--blobHost", "127.0.0.1", "--blobPort", port, "--skipApiVersionCheck"]);
    command.args(["--disableTelemetry", "--silent", "--location"]).arg(folder);
    let mut server = Running::start(&mut command);
    let address = eventually("azurite-blob listens", Duration::from_secs(60), || {
        assert!(server.is_running(), "azurite-blob ended: {}", server.stderr());
        let said = server.stdout();
        let (_, rest) = said.split_once("successfully listens on http://")?;
        rest.split_once('\n').map(|(address, _)| address.trim().to_owned())
    });
    (server, address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azurite_gives_back_what_was_put() {
        let azurite = Azurite::start();
        azurite.put("a/1", b"hello");
        assert_eq!(azurite.keys("a/"), ["a/1"]);
        let length = ("content-length".to_owned(), "5".to_owned());
        assert!(azurite.headers("a/1").contains(&length));
    }
}
