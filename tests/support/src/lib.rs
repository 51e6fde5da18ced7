//! What the tests share. Nothing here is a stand-in: the servers answer real requests, the peer is the real
//! Litestream, the application is real SQLite.
//!
//! Every helper panics with a sentence that says what to do; every wait has a deadline; every process that is
//! started is ended by its id when its handle is dropped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "used by tests only")]

pub mod answers;
pub mod app;
pub mod app_process;
pub mod azurite;
pub mod compare;
pub mod exposition;
pub mod gcs;
pub mod golden;
pub mod http;
pub mod line;
pub mod moto;
pub mod nats;
pub mod nats_authority;
pub mod outcomes;
pub mod place;
pub mod process;
pub mod program;
pub mod replica;
pub mod s3s;
pub mod seed;
pub mod small_disk;
pub mod sshd;
pub mod stranger;
pub mod terminal;
pub mod tools;
pub mod wait;
pub mod webdav;

pub use answers::Answers;
pub use app::App;
pub use app_process::AppProcess;
pub use azurite::Azurite;
pub use exposition::Scrape;
pub use gcs::Gcs;
pub use line::{Faults, Line};
pub use moto::Moto;
pub use nats::NatsServer;
pub use nats_authority::NatsAuthority;
pub use place::Place;
pub use process::{Finished, Running};
pub use program::{Daemon, Program};
pub use s3s::S3sFs;
pub use seed::Seed;
pub use small_disk::SmallDisk;
pub use sshd::Sshd;
pub use stranger::Stranger;
pub use terminal::run_on_terminal;
pub use tools::{Tool, tool, workspace};
pub use wait::{eventually, free_port, wait_until};
pub use webdav::WebDav;
