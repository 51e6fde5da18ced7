//! When a level is due: windows of wall-clock time.
//!
//! Invariant: windows are counted from 0001-01-01T00:00:00Z, as Litestream counts them, so that two programs that
//! take turns at one replica agree on where a window ends. One of 24 hours ends at midnight UTC, one of 168 hours on
//! Mondays.

use std::time::Duration;

use walstream_ltx::Timestamp;

/// From 0001-01-01T00:00:00Z to the Unix epoch.
const SECONDS_BEFORE_UNIX_EPOCH: i128 = 62_135_596_800;
const NANOS_PER_MILLI: i128 = 1_000_000;

/// The start of the window that `now` lies in. A window without length starts now.
pub fn window_start(now: Timestamp, window: Duration) -> Timestamp {
    let epoch = SECONDS_BEFORE_UNIX_EPOCH * 1_000_000_000;
    let since_zero = i128::from(now.as_millis()) * NANOS_PER_MILLI + epoch;
    let window = i128::try_from(window.as_nanos()).unwrap_or(i128::MAX).max(1);
    let start = since_zero - since_zero.rem_euclid(window) - epoch;
    let millis = start.div_euclid(NANOS_PER_MILLI);
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MIN))
}

/// The start of the window after the one that `now` lies in.
pub fn next_window(now: Timestamp, window: Duration) -> Timestamp {
    after(window_start(now, window), window)
}

/// Whether a level has something to do in the window that `now` lies in. `last` is when it last did, or when its
/// newest file was made: what lies in the same window was this window's work.
pub fn is_due(now: Timestamp, window: Duration, last: Option<Timestamp>) -> bool {
    last.is_none_or(|last| last <= window_start(now, window))
}

/// A point in time and a duration later.
pub(crate) fn after(time: Timestamp, duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(time.as_millis().saturating_add(millis))
}

/// A point in time and a duration earlier.
pub(crate) fn before(time: Timestamp, duration: Duration) -> Timestamp {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(time.as_millis().saturating_sub(millis))
}

/// How long from one point in time to a later one; nothing if it has passed.
pub(crate) fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(then.as_millis().saturating_sub(now.as_millis())).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    /// Wednesday, 2026-08-19T12:34:56.789Z
    const NOW: Timestamp = Timestamp::from_millis(1_787_142_896_789);

    #[test]
    fn windows_start_where_litestreams_do() {
        // As Go's time.Truncate gives them.
        for (window, start) in [
            (SECOND * 30, 1_787_142_870_000),         // 12:34:30
            (SECOND * 300, 1_787_142_600_000),        // 12:30:00
            (SECOND * 3600, 1_787_140_800_000),       // 12:00:00
            (SECOND * 86_400, 1_787_097_600_000),     // midnight
            (SECOND * 86_400 * 7, 1_786_924_800_000), // Monday
            (SECOND * 7, 1_787_142_892_000),          // 62_135_596_800 is no multiple of 7
            (Duration::from_millis(1), NOW.as_millis()),
            (Duration::ZERO, NOW.as_millis()),
        ] {
            assert_eq!(window_start(NOW, window).as_millis(), start, "{window:?}");
        }
    }

    #[test]
    fn the_next_window_is_one_window_later() {
        assert_eq!(next_window(NOW, SECOND * 30).as_millis(), 1_787_142_900_000);
        let boundary = Timestamp::from_millis(1_787_142_900_000);
        assert_eq!(next_window(boundary, SECOND * 30).as_millis(), 1_787_142_930_000);
    }

    #[test]
    fn a_level_works_once_in_a_window() {
        let due = |last| is_due(NOW, SECOND * 30, last);
        let at = |millis| Some(Timestamp::from_millis(millis));
        assert!(due(None));
        assert!(due(at(1_787_142_869_999)), "in the window before");
        assert!(due(at(1_787_142_870_000)), "on the boundary");
        assert!(!due(at(1_787_142_870_001)), "in this window");
        assert!(!due(at(1_787_142_999_000)), "in the future");
    }

    #[test]
    fn no_time_is_too_far_away() {
        for millis in [i64::MIN, -1, 0, i64::MAX] {
            let now = Timestamp::from_millis(millis);
            for window in [Duration::ZERO, SECOND, Duration::MAX] {
                assert!(window_start(now, window) <= now);
                let _ = next_window(now, window);
            }
        }
    }
}
