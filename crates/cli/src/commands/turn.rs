//! What `walstream start` and `walstream stop` have in common.

use serde::Serialize;

use super::control::{DatabaseArgs, wire};
use crate::error::CliError;
use crate::socket::messages::{Done, PathRequest};

#[derive(Serialize)]
struct Report {
    status: String,
    db_path: String,
    state: &'static str,
    txid: u64,
    socket: String,
}

impl DatabaseArgs {
    /// Tells the daemon by `command`, after which the database is in `state`.
    pub(super) async fn tell(&self, command: &str, state: &'static str) -> Result<(), CliError> {
        let path = self.path(command)?;
        let client = self.control.connect_at_leisure(self.timeout)?;
        let request = PathRequest { path: wire(&path), timeout: Some(self.timeout) };
        let done: Done = client.post(command, &request).await?;
        let report = Report {
            status: done.status,
            db_path: done.path,
            state,
            txid: done.txid.unwrap_or_default(),
            socket: self.control.name(),
        };
        self.control.print(
            &report,
            &[
                ("status", report.status.clone()),
                ("db_path", report.db_path.clone()),
                ("state", report.state.to_owned()),
                ("txid", report.txid.to_string()),
                ("socket", report.socket.clone()),
            ],
        )
    }
}
