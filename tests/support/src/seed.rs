//! Chance that can be repeated.

use std::ops::Range;
use std::time::{Duration, SystemTime};

/// A small generator of pseudo-random numbers (xorshift64*). The seed is printed when a test starts, and nextest
/// shows it if the test fails; `WALSTREAM_TEST_SEED` repeats a run.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    /// From `WALSTREAM_TEST_SEED`, else from the clock.
    pub fn from_environment() -> Seed {
        let given = std::env::var("WALSTREAM_TEST_SEED").ok().map(|text| text.parse().expect("a number"));
        let clock =
            || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos().into();
        let seed = given.unwrap_or_else(clock);
        eprintln!("repeat with WALSTREAM_TEST_SEED={seed}");
        Seed::new(seed)
    }

    /// A fixed seed.
    pub fn new(seed: u64) -> Seed {
        // Never zero: xorshift would stay there.
        Seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A second generator that goes its own way, for another thread.
    pub fn fork(&mut self) -> Seed {
        Seed::new(self.number())
    }

    /// The next number, below 2^56.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 8
    }

    /// A number of a range.
    pub fn in_range(&mut self, range: Range<u32>) -> u32 {
        let span = u64::from(range.end - range.start);
        range.start + u32::try_from(self.number() % span).expect("less than a u32")
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u32) -> bool {
        self.in_range(0..n) == 0
    }

    /// A time below `limit`.
    pub fn pause_below(&mut self, limit: Duration) -> Duration {
        limit.mul_f64(f64::from(self.in_range(0..1000)) / 1000.0)
    }
}
