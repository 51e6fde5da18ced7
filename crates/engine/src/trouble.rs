//! Failures that last: how long to wait between tries, and when to speak of them.
//!
//! Invariant: one line when something begins to fail, one a minute while it does, one when it works again.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// A lasting failure is said again after this time.
pub(crate) const REMINDER: Duration = Duration::from_secs(60);

/// The failures of one piece of work since it last succeeded.
#[derive(Debug)]
pub(crate) struct Trouble {
    first_backoff: Duration,
    longest_backoff: Duration,
    count: u32,
    since: Option<Instant>,
    said: Option<Instant>,
}

/// A row of failures, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// How many there were.
    pub(crate) count: u32,
    /// Since the first of them.
    pub(crate) lasting: Age,
}

impl Trouble {
    /// None yet. Between tries it is waited for `first` at first, then twice that and so on, up to `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Trouble { first_backoff: first, longest_backoff: longest, count: 0, since: None, said: None }
    }

    pub(crate) fn active(&self) -> bool {
        self.count > 0
    }

    /// Notes a failure, and lets `say` speak of it if it is time; returns how long to wait before the next try.
    pub(crate) fn failed(&mut self, say: impl FnOnce(Row)) -> Duration {
        let now = Instant::now();
        self.since.get_or_insert(now);
        let backoff = self.first_backoff.saturating_mul(1 << self.count.min(16));
        self.count = self.count.saturating_add(1);
        if self.is_time_to_speak(now) {
            self.said = Some(now);
            say(self.row(now));
        }
        backoff.min(self.longest_backoff)
    }

    /// Notes a success, and lets `say` speak of it if there were failures.
    pub(crate) fn over(&mut self, say: impl FnOnce(Row)) {
        if self.active() {
            say(self.row(Instant::now()));
        }
        (self.count, self.since, self.said) = (0, None, None);
    }

    fn is_time_to_speak(&self, now: Instant) -> bool {
        self.said.is_none_or(|said| now - said >= REMINDER)
    }

    fn row(&self, now: Instant) -> Row {
        Row { count: self.count, lasting: Age(self.since.map_or(Duration::ZERO, |since| now - since)) }
    }
}

/// A length of time as a person reads it: `850ms`, `12s`, `2m3s`, `1h0m5s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Age(pub(crate) Duration);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        match (hours, minutes, seconds) {
            (0, 0, 0) => write!(f, "{}ms", self.0.as_millis()),
            (0, 0, _) => write!(f, "{seconds}s"),
            (0, _, _) => write!(f, "{minutes}m{seconds}s"),
            _ => write!(f, "{hours}h{minutes}m{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_lasting_failure_is_said_at_once_and_each_minute_until_it_is_over() {
        let mut trouble = Trouble::new(SECOND, 20 * SECOND);
        let (mut said, start) = (Vec::new(), Instant::now());
        while start.elapsed() < 150 * SECOND {
            let pause = trouble.failed(|row| said.push(row.lasting.0.as_secs()));
            tokio::time::sleep(pause).await;
        }
        assert_eq!(said, [0, 71, 131]);
        trouble.over(|row| assert_eq!((row.count, row.lasting), (11, Age(151 * SECOND))));
        assert!(!trouble.active());
        trouble.over(|row| panic!("said twice: {row:?}"));
        trouble.failed(|row| said.push(row.lasting.0.as_secs()));
        assert_eq!(said.last(), Some(&0), "a new trouble is a new line");
    }

    #[test]
    fn ages_read_as_people_say_them() {
        for (millis, text) in
            [(0, "0ms"), (850, "850ms"), (12_900, "12s"), (123_000, "2m3s"), (3_605_000, "1h0m5s")]
        {
            assert_eq!(Age(Duration::from_millis(millis)).to_string(), text);
        }
    }
}
