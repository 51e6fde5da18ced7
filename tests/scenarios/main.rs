//! What a user lives through: stops and starts, downtime, an application that must not notice anything, children of
//! `-exec`, and everything that can be given wrongly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod backlog;
mod bad_line;
mod busy;
mod checkpoints;
mod container;
mod cron;
mod crowd;
mod damage;
mod diff;
mod directory;
mod downtime;
mod examples;
mod exec;
mod fence;
mod follow;
mod full_disk;
mod grafana;
mod hang;
mod heartbeat;
mod history_of_one;
mod idle;
mod journal_mode;
mod local_state;
mod log;
mod lost_commit;
mod ltx_files;
mod metrics;
mod network;
mod page_size;
mod permissions;
mod points_in_time;
mod power_cut;
mod rates;
mod refusal;
mod refused_input;
mod reload;
mod replaced;
mod reset;
mod second_daemon;
mod secrets;
mod short_life;
mod site;
mod sizes;
mod socket;
mod twin_changes;
mod two_writers;
mod untouched;
mod verify;
mod waiters;
mod wake_up;
mod wal_gone;

use walstream_test_support::Program;

fn walstream() -> Program {
    Program::walstream(env!("CARGO_BIN_EXE_walstream"))
}
