//! What happened, for the one who has to find out why, and how often, for the one who wants to know what was tried.

use std::collections::BTreeMap;
use std::fmt;

use super::steps::Step;

/// What happened how often.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<String, usize>);

impl Tally {
    pub(super) fn add(&mut self, what: &str, count: usize) {
        *self.0.entry(what.to_owned()).or_default() += count;
    }

    pub(super) fn add_all(&mut self, other: Tally) {
        other.0.iter().for_each(|(what, &count)| self.add(what, count));
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, count)| writeln!(f, "{count:10} {what}"))
    }
}

/// Prints itself if the simulation fails, or step by step if it is watched.
pub(super) struct Trace {
    seed: u64,
    watched: bool,
    steps: Vec<String>,
    pub(super) tally: Tally,
}

impl Trace {
    pub(super) fn new(seed: u64, watched: bool) -> Self {
        Trace { seed, watched, steps: Vec::new(), tally: Tally::default() }
    }

    pub(super) fn step(&mut self, step: &Step) {
        self.tally.add("steps", 1);
        self.tally.add(&step.kind(), 1);
        self.say(&format!("{step:?}"));
    }

    pub(super) fn say(&mut self, what: &str) {
        if self.watched {
            eprintln!("{:4} {what}", self.steps.len());
        }
        self.steps.push(what.to_owned());
    }

    /// Something about the last step.
    pub(super) fn outcome(&mut self, outcome: &str) {
        if let Some(step) = self.steps.last_mut().filter(|_| !outcome.is_empty()) {
            step.push_str(": ");
            step.push_str(outcome);
            if self.watched {
                eprintln!("     {outcome}");
            }
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.watched {
            for (number, step) in self.steps.iter().enumerate() {
                eprintln!("{number:4} {step}");
            }
        }
        if std::thread::panicking() {
            eprintln!("the simulation failed in the last step; it replays with WALSTREAM_SEED={}", self.seed);
        }
    }
}
