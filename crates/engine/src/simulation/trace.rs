//! What happened, for the one who has to find out why.

/// Prints itself if the simulation fails, or step by step if it is watched.
pub(super) struct Trace {
    seed: u64,
    watched: bool,
    steps: Vec<String>,
}

impl Trace {
    pub(super) fn new(seed: u64, watched: bool) -> Self {
        Trace { seed, watched, steps: Vec::new() }
    }

    pub(super) fn add(&mut self, step: &str) {
        if self.watched {
            eprintln!("{:4} {step}", self.steps.len());
        }
        self.steps.push(step.to_owned());
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

    pub(super) fn len(&self) -> usize {
        self.steps.len()
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
