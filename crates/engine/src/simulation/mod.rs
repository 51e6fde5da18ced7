//! The engine in a world where everything goes wrong, one step at a time, from a seed.
//!
//! SQLite is the real one, and so is everything between the WAL and the replica; the disk under both, the store and the
//! clock are played. It is always somebody's turn, and never two people's, so a seed replays exactly. Who acts:
//!
//! | actor | what it does |
//! |---|---|
//! | the application ([`application`], [`desk`]) | every kind of write, VACUUM, checkpoints in every mode, readers that stay; between the pieces of the engine's work and in the midst of them |
//! | the daemon ([`daemon`]) | start, stop, every piece of work; it is killed at any write, fsync, rename or request |
//! | the store ([`store`]) | fails before or after it did what it was asked, hangs, is slow, lists late |
//! | the disk ([`disk`], [`sqlite`]) | is full, fails, loses at a power cut what was not synced, of the metadata folder and of the database |
//! | people ([`files`], [`injury`]) | replace, delete, set back; damage the metadata folder |
//!
//! After every rest the following must hold ([`proof`], [`record`]):
//!
//! - restoring the newest TXID gives what SQLite says is in the database, byte for byte;
//! - every TXID restores to the state that was captured under that number, and every captured state is one that was
//!   committed;
//! - a level-0 file holds a page that did not change only if the WAL has a frame for it, unless every proof was lost;
//! - the engine wrote nothing to a WAL, and no state of the database is its work; the application is never refused
//!   anything because of us;
//! - an error of the engine has a cause, and without news there is no new TXID.
//!
//! `WALSTREAM_SEED=n` replays one seed, `WALSTREAM_SIM_SECONDS=n` runs random ones for so long:
//!
//! ```text
//! WALSTREAM_SIM_SECONDS=3600 cargo test --release -p walstream-engine random_lives -- --nocapture
//! ```

mod application;
mod daemon;
mod desk;
mod disk;
mod files;
mod image;
mod injury;
mod proof;
mod random;
mod record;
mod sqlite;
mod steps;
mod store;
mod trace;
mod world;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::trace::Tally;
use self::world::World;

/// Without a wish, random seeds run for this long, and in CI for the longer time.
const SECONDS: u64 = 5;
const SECONDS_IN_CI: u64 = 120;

/// A life takes a few hundredths of a second.
const LONGEST_LIFE: Duration = Duration::from_secs(60);

/// Seeds that found something once.
const TELLING: &[u64] = &[
    // A file that is longer than its database.
    1_795_257_537_581_430_942,
    1_795_258_437_607_438_939,
    // Frames that are written over while they are read.
    1_795_258_358_329_198_944,
    // A machine that is set back, and a replica with another history.
    1_795_258_386_101_180_057,
    // The journal mode is set in the midst of the application's work.
    1_795_258_395_391_705_115,
    1_795_280_052_916_741_773,
];

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn seconds() -> u64 {
    let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    from_environment("WALSTREAM_SIM_SECONDS").unwrap_or(if in_ci { SECONDS_IN_CI } else { SECONDS })
}

/// Lives a life to its end. One that hangs has failed too.
fn live(seed: u64) -> Tally {
    let (done, end) = mpsc::channel();
    let life = thread::spawn(move || {
        let tally = World::from_seed(seed, false).run();
        let _ = done.send(tally);
    });
    match end.recv_timeout(LONGEST_LIFE) {
        Ok(tally) => tally,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("the life of seed {seed} does not end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            life.join().unwrap();
            unreachable!("it ended without a result and without a panic");
        }
    }
}

#[test]
fn known_lives_end_well() {
    (0..40).chain(TELLING.iter().copied()).for_each(|seed| drop(live(seed)));
}

#[test]
fn random_lives_end_well() {
    if let Some(seed) = from_environment("WALSTREAM_SEED") {
        World::from_seed(seed, true).run();
        return;
    }
    let end = Instant::now() + Duration::from_secs(seconds());
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let (mut seeds, mut tally) = (0, Tally::default());
    while Instant::now() < end {
        tally.add_all(live(first + seeds));
        seeds += 1;
    }
    println!("{seeds} seeds from {first}\n{tally}");
}
