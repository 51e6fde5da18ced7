//! The engine in a world where everything goes wrong, one step at a time, from a seed.
//!
//! SQLite is the real one, and so is everything between the WAL and the replica; disk, store and clock are played.
//! One thread does everything, so a seed replays exactly. After every rest the following must hold:
//!
//! - restoring the newest TXID gives what SQLite says is in the database, byte for byte;
//! - every TXID restores to the state that was captured under that number, and every captured state is one that was
//!   committed;
//! - a level-0 file holds a page that did not change only if the WAL has a frame for it, unless every proof was lost;
//! - nothing of ours is in the WAL; the application is never refused anything because of us;
//! - an error of the engine has a cause, and without news there is no new TXID.
//!
//! `WALSTREAM_SEED=n` replays one seed, `WALSTREAM_SIM_SECONDS=n` runs random ones for so long:
//!
//! ```text
//! WALSTREAM_SIM_SECONDS=3600 cargo test --release -p walstream-engine random_lives -- --nocapture
//! ```

mod application;
mod daemon;
mod disk;
mod files;
mod image;
mod proof;
mod random;
mod record;
mod store;
mod trace;
mod world;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::world::World;

/// Without a wish, random seeds run for this long.
const SECONDS: u64 = 3;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn known_lives_end_well() {
    for seed in 0..40 {
        World::from_seed(seed, false).run();
    }
}

#[test]
fn random_lives_end_well() {
    if let Some(seed) = from_environment("WALSTREAM_SEED") {
        World::from_seed(seed, true).run();
        return;
    }
    let seconds = from_environment("WALSTREAM_SIM_SECONDS").unwrap_or(SECONDS);
    let end = Instant::now() + Duration::from_secs(seconds);
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (mut seeds, mut steps) = (0, 0);
    while Instant::now() < end {
        steps += World::from_seed(first + seeds, false).run();
        seeds += 1;
    }
    println!("{seeds} seeds from {first}, {steps} steps");
}
