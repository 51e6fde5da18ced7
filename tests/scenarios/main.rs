//! What a user lives through: stops and starts, downtime, an application that must not notice anything, children of
//! `-exec`, and everything that can be given wrongly.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod cron;
mod damage;
mod downtime;
mod exec;
mod fence;
mod full_disk;
mod lost_commit;
mod refusal;
mod refused_input;
mod short_life;
mod twin_changes;
mod untouched;
mod wake_up;

use walstream_test_support::Program;

fn walstream() -> Program {
    Program::walstream(env!("CARGO_BIN_EXE_walstream"))
}
