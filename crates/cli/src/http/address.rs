//! Where to listen, as Go writes it: `host:port`, `:port` for every address of the machine, `[::1]:port`.

use std::fmt;
use std::str::FromStr;

use tokio::net::TcpListener;

/// A host, which may be left out, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

/// The text is no address. The message is the peer's, where it has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseAddressError {
    /// There is none.
    #[error("must specify port for bind address: {0:?}")]
    NoPort(String),
    /// It is no number, or none that a port can have.
    #[error("port of bind address {0:?} must be a number up to 65535")]
    BadPort(String),
}

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let no_port = || ParseAddressError::NoPort(text.to_owned());
        let (host, port) = text.rsplit_once(':').filter(|(_, port)| !port.is_empty()).ok_or_else(no_port)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or_else(no_port)?,
            None if host.contains(':') => return Err(no_port()),
            None => host,
        };
        let port = port.parse().map_err(|_| ParseAddressError::BadPort(text.to_owned()))?;
        Ok(Address { host: host.to_owned(), port })
    }
}

impl Address {
    /// The same, where no host means this machine alone.
    pub(crate) fn nearby(mut self) -> Self {
        if self.host.is_empty() {
            "127.0.0.1".clone_into(&mut self.host);
        }
        self
    }

    /// Begins to listen.
    pub(super) async fn bind(&self) -> std::io::Result<TcpListener> {
        if !self.host.is_empty() {
            return TcpListener::bind((self.host.as_str(), self.port)).await;
        }
        // Both kinds of addresses where there are both.
        match TcpListener::bind(("::", self.port)).await {
            Err(error) if error.kind() != std::io::ErrorKind::AddrInUse => {
                TcpListener::bind(("0.0.0.0", self.port)).await
            }
            bound => bound,
        }
    }

    /// Where to find the metrics from this machine, at the port that was found if any would do (`0`).
    pub(super) fn url(&self, port: u16) -> String {
        let host = if self.host.is_empty() { "localhost" } else { &self.host };
        format!("http://{}/metrics", Address { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_go_writes_them() {
        for (text, url) in [
            ("127.0.0.1:9090", "http://127.0.0.1:9090/metrics"),
            (":9090", "http://localhost:9090/metrics"),
            ("[::1]:80", "http://[::1]:80/metrics"),
            ("example.com:1", "http://example.com:1/metrics"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.to_string().as_str(), address.url(address.port).as_str()), (text, url));
        }
    }

    #[test]
    fn nearby_is_this_machine_unless_a_host_is_named() {
        for (text, nearby) in [(":1", "127.0.0.1:1"), ("0.0.0.0:1", "0.0.0.0:1"), ("[::1]:1", "[::1]:1")] {
            assert_eq!(text.parse::<Address>().unwrap().nearby().to_string(), nearby);
        }
    }

    #[test]
    fn a_port_is_needed() {
        for text in ["9090", "localhost", "localhost:", "::1", "[::1]", "[::1:90"] {
            let message = format!("must specify port for bind address: {text:?}");
            assert_eq!(text.parse::<Address>().unwrap_err().to_string(), message);
        }
        let error = ":http".parse::<Address>().unwrap_err().to_string();
        assert_eq!(error, "port of bind address \":http\" must be a number up to 65535");
    }
}
