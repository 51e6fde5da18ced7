//! Lines that say the same again and again.
//!
//! Invariant: the first line of a kind is written at once, and every line is written or counted. Kinds know nothing of each
//! other, and of no more than [`KNOWN`] anything is remembered: lines of others are written.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::line::Line;

/// What is held back is summed up after this time.
const WINDOW: Duration = Duration::from_secs(60);
/// So many lines of a kind are written before others are held back.
const WRITTEN: u32 = 5;
/// So many kinds are remembered.
const KNOWN: usize = 1024;

/// What makes two lines the same: where in the program they come from, of what they speak and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kind(pub(super) u64);

/// What was said of late.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<Kind, Said>);

/// The lines of a kind since the beginning of its window.
#[derive(Debug)]
struct Said {
    since: Instant,
    written: u32,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    /// The newest.
    line: Line,
    count: u64,
}

impl Held {
    fn summed_up(mut self) -> Line {
        self.line.fields.push(("repeated", self.count.into()));
        self.line
    }
}

impl Said {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }

    /// What was held back. Whoever repeated himself is not heard again before the next window is over.
    fn sum_up(&mut self, now: Instant) -> Option<Line> {
        let held = self.held.take()?;
        (self.since, self.written) = (now, WRITTEN);
        Some(held.summed_up())
    }

    fn take(&mut self, line: Line) -> Option<Line> {
        if self.written < WRITTEN {
            self.written += 1;
            return Some(line);
        }
        let count = self.held.as_ref().map_or(0, |held| held.count) + 1;
        self.held = Some(Held { line, count });
        None
    }
}

impl Repeats {
    /// Takes a line, and returns what is to be written now.
    pub(super) fn take(&mut self, kind: Kind, line: Line, now: Instant) -> Vec<Line> {
        if !self.0.contains_key(&kind) && !self.has_room(now) {
            return vec![line];
        }
        let said = self.0.entry(kind).or_insert(Said { since: now, written: 0, held: None });
        let mut lines = Vec::new();
        if said.is_over(now) {
            match said.sum_up(now) {
                Some(sum) => lines.push(sum),
                None => (said.since, said.written) = (now, 0),
            }
        }
        lines.extend(said.take(line));
        lines
    }

    fn has_room(&mut self, now: Instant) -> bool {
        if self.0.len() >= KNOWN {
            self.0.retain(|_, said| said.held.is_some() || !said.is_over(now));
        }
        self.0.len() < KNOWN
    }

    /// When the next sum is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.values().filter(|said| said.held.is_some()).map(|said| said.since + WINDOW).min()
    }

    /// The sums that are due.
    pub(super) fn sums(&mut self, now: Instant) -> Vec<Line> {
        self.0.values_mut().filter(|said| said.is_over(now)).filter_map(|said| said.sum_up(now)).collect()
    }

    /// All sums, at the end.
    pub(super) fn rest(&mut self) -> Vec<Line> {
        self.0.drain().filter_map(|(_, said)| Some(said.held?.summed_up())).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use tracing::Level;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn line(text: &str) -> Line {
        Line { level: Level::ERROR, source: None, message: text.to_owned(), fields: Vec::new() }
    }

    /// How many lines a written one stands for.
    fn stands_for(line: &Line) -> u64 {
        line.fields.iter().find(|(name, _)| *name == "repeated").and_then(|(_, n)| n.as_u64()).unwrap_or(1)
    }

    /// Takes a line each second, and returns at which seconds something was written, and for how many lines it stands.
    fn each_second(repeats: &mut Repeats, start: Instant, seconds: std::ops::Range<u32>) -> Vec<(u32, u64)> {
        let mut written = Vec::new();
        for second in seconds {
            let lines = repeats.take(Kind(1), line("away"), start + SECOND * second);
            written.extend(lines.iter().map(|line| (second, stands_for(line))));
        }
        written
    }

    #[test]
    fn a_flood_is_a_few_lines_and_then_one_a_minute() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let written = each_second(&mut repeats, start, 0..180);
        assert_eq!(written, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (60, 55), (120, 60)]);
        assert_eq!(repeats.rest().iter().map(stands_for).collect::<Vec<_>>(), [60]);
        assert!(repeats.rest().is_empty());
    }

    #[test]
    fn what_comes_again_after_a_silence_is_written_at_once() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        each_second(&mut repeats, start, 0..10);
        assert_eq!(repeats.due(), Some(start + WINDOW));
        assert_eq!(repeats.sums(start + WINDOW).iter().map(stands_for).collect::<Vec<_>>(), [5]);
        assert_eq!(repeats.due(), None);
        assert_eq!(each_second(&mut repeats, start, 121..122), [(121, 1)]);
    }

    #[test]
    fn a_sum_is_the_newest_line() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        for number in 0..9 {
            let fields = vec![("tries", number.into())];
            repeats.take(Kind(1), Line { fields, ..line("away") }, now);
        }
        let fields: Vec<(&str, Value)> = vec![("tries", 8.into()), ("repeated", 4.into())];
        assert_eq!(repeats.rest(), [Line { fields, ..line("away") }]);
    }

    #[test]
    fn kinds_for_which_there_is_no_room_are_written() {
        let (mut repeats, now) = (Repeats::default(), Instant::now());
        for kind in 0..KNOWN as u64 + 7 {
            for _ in 0..2 * WRITTEN {
                let lines = repeats.take(Kind(kind), line("away"), now);
                assert!(kind < KNOWN as u64 || lines.len() == 1);
            }
        }
        assert_eq!(repeats.0.len(), KNOWN);
        // Those that have been silent make room.
        repeats.sums(now + WINDOW);
        repeats.take(Kind(u64::MAX), line("away"), now + 2 * WINDOW);
        assert_eq!(repeats.0.len(), 1);
    }

    proptest! {
        /// Nothing is lost, the first of a kind is heard, and no kind is loud.
        #[test]
        fn every_line_is_written_or_counted(
            events in proptest::collection::vec((0..300_u64, 0..400_u64), 1..1500),
        ) {
            let (mut repeats, mut now) = (Repeats::default(), Instant::now());
            let mut taken: HashMap<u64, u64> = HashMap::new();
            let mut written: HashMap<u64, Vec<(Instant, u64)>> = HashMap::new();
            let mut note = |line: &Line, now| {
                written.entry(line.message.parse().unwrap()).or_default().push((now, stands_for(line)));
            };
            for (number, pause) in events {
                now += Duration::from_millis(pause);
                // A few kinds are loud, many are rare.
                let kind = if number % 10 == 0 { number } else { number % 3 };
                let before = taken.entry(kind).or_default();
                let lines = repeats.take(Kind(kind), line(&kind.to_string()), now);
                prop_assert!(*before > 0 || lines.len() == 1);
                *before += 1;
                lines.iter().chain(&repeats.sums(now)).for_each(|line| note(line, now));
            }
            repeats.rest().iter().for_each(|line| note(line, now + WINDOW));
            for (kind, count) in taken {
                let lines = &written[&kind];
                prop_assert_eq!(lines.iter().map(|(_, stands_for)| stands_for).sum::<u64>(), count);
                let most = 2 * WRITTEN as usize;
                prop_assert!(lines.windows(most + 1).all(|some| some[most].0 - some[0].0 >= WINDOW));
            }
        }
    }
}
