//! The log: short and coloured for people, complete for programs, and quiet about what it has said already.

use walstream_test_support::replica::OutOfReach;
use walstream_test_support::{run_on_terminal, wait_until};

use crate::metrics::Shown;
use crate::site::{SOON, Site};
use crate::walstream;

const ERRORS: &str = "litestream_replica_operation_errors_total";

/// `replicate -once` on a terminal, with these variables and this `logging` section.
fn on_terminal(logging: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let site = Site::new();
    let _app = site.app();
    let config = site.config("", &format!("logging: {{{logging}}}")).display().to_string();
    let mut command = walstream().command(["replicate", "-once", "-config", &config]);
    let (status, shown) = run_on_terminal(command.envs(variables.iter().copied()));
    assert!(status.success(), "{shown}");
    shown.lines().map(str::to_owned).collect()
}

/// Whether a line begins with a time of day and nothing of the date.
fn has_time_of_day(line: &str) -> bool {
    let pattern = "00:00:00 ";
    let fits = |(c, p): (char, char)| if p == '0' { c.is_ascii_digit() } else { c == p };
    line.len() > pattern.len() && line.chars().zip(pattern.chars()).all(fits)
}

#[test]
fn on_a_terminal_lines_are_short_and_coloured() {
    let lines = on_terminal("", &[]);
    let line = lines.iter().find(|line| line.contains("snapshot complete")).unwrap();
    assert!(line.contains(" \x1b[32mINFO \x1b[0m snapshot complete\x1b[2m txid=00000000000000"), "{line:?}");
    assert!(
        has_time_of_day(line.strip_prefix("\x1b[2m").unwrap().replace("\x1b[0m", "").as_str()),
        "{line:?}"
    );
}

#[test]
fn colours_are_not_for_everybody() {
    for variables in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
        let lines = on_terminal("", &variables);
        assert!(lines.iter().all(|line| has_time_of_day(line) && !line.contains('\x1b')), "{lines:?}");
    }
    let lines = on_terminal("", &[("NO_COLOR", "")]);
    assert!(lines.iter().all(|line| line.contains("\x1b[")), "{lines:?}");
}

#[test]
fn what_the_configuration_says_wins_over_the_terminal() {
    let text = on_terminal("type: text", &[]);
    assert!(
        text.iter().all(|line| line.starts_with("time=2") && line.contains(" level=INFO msg=")),
        "{text:?}"
    );
    let json = on_terminal("type: json", &[]);
    assert!(json.iter().all(|line| line.starts_with("{\"time\":\"2")), "{json:?}");
}

#[test]
fn where_there_is_no_terminal_lines_are_those_of_slog_unless_the_short_form_is_wanted() {
    let site = Site::new();
    let _app = site.app();
    let once = |logging: &str| {
        let config = site.config("", logging);
        walstream().run(["replicate", "-once", "-config", config.to_str().unwrap()]).success().stdout
    };
    let text = once("");
    assert!(
        text.lines().all(|line| line.starts_with("time=2") && line.contains(" level=INFO msg=")),
        "{text}"
    );
    let pretty = once("logging: {type: pretty}");
    assert!(pretty.lines().all(|line| has_time_of_day(line) && line.contains(" INFO  ")), "{pretty}");
    assert!(!pretty.contains('\x1b'), "{pretty}");
}

#[test]
fn a_replica_that_comes_and_goes_is_a_few_lines_and_a_count() {
    let site = Site::new();
    let app = site.app();
    let daemon = site.daemon_with("", "addr: '127.0.0.1:0'");
    site.wait_until_caught_up(&app);
    let shown = Shown::by(|| daemon.process.stdout());
    let failed_uploads =
        || shown.scrape().get(ERRORS, &[("operation", "PUT"), ("code", "io")]).unwrap_or(0.0);
    for _ in 0..9 {
        let (away, before) = (OutOfReach::take(&site.replica()), failed_uploads());
        app.sell(1, 10);
        wait_until("it is noticed", SOON, || failed_uploads() > before);
        drop(away);
        site.wait_until_caught_up(&app);
    }
    let log = daemon.stop().stdout;
    let failures: Vec<&str> = log.lines().filter(|line| line.contains("upload failed")).collect();
    assert_eq!(failures.len(), 6, "{log}");
    assert!(failures[..5].iter().all(|line| !line.contains("repeated=")), "{log}");
    assert!(failures[5].ends_with(" repeated=4"), "{log}");
    let recoveries: Vec<&str> = log.lines().filter(|line| line.contains("replica sync recovered")).collect();
    assert!(recoveries.len() == 6 && recoveries[5].ends_with(" repeated=4"), "{log}");
}
