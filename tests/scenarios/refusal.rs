//! What every refusal looks like.

use walstream_test_support::Finished;

/// Exit code 1, and on stderr one sentence, `Error: …`, that holds every one of `words` in any case; at most a `Try:` or `Hint:`
/// line follows. No backtrace, no debug print.
#[track_caller]
pub(crate) fn assert_refused(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.status.code(), Some(1), "{finished:#?}");
    let mut lines = finished.stderr.lines();
    let sentence = lines.next().unwrap_or_default();
    assert!(sentence.starts_with("Error: "), "{finished:#?}");
    for word in words {
        assert!(sentence.to_lowercase().contains(&word.to_lowercase()), "{word:?} is missing in: {sentence}");
    }
    for line in lines {
        let is_advice = line.starts_with("Try: ") || line.starts_with("Hint: ");
        assert!(is_advice, "unexpected line {line:?} after: {sentence}");
    }
    for tell_tale in ["panicked", "RUST_BACKTRACE", "Some(", "Err(", "{ "] {
        assert!(!finished.stderr.contains(tell_tale), "{finished:#?}");
    }
}
