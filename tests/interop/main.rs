//! walstream beside the real Litestream 0.5.17: what one writes the other reads, in a directory, on S3, WebDAV, SFTP and NATS. And what 0.3.13 left.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod across;
mod clouds;
mod commands;
mod configurations;
mod history;
mod long_wal;
mod mcp;
mod merged;
mod nats;
mod sftp;
mod site;
mod take_over;
mod version_03;

use walstream_test_support::Program;

fn walstream() -> Program {
    Program::walstream(env!("CARGO_BIN_EXE_walstream"))
}

fn litestream() -> Program {
    Program::litestream()
}
