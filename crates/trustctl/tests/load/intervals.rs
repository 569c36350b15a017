//! A run over time: its intervals are whole seconds, end where it ends, and hide no second in which
//! nothing happened.

use std::time::{Duration, Instant};

use super::command::run;
use super::csv::{Csv, Row};
use super::server::{Client, Server};

use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    the_last_interval_lasts_until_the_end_of_the_run,
    seconds_in_which_nothing_is_due_are_intervals_too,
    answers_behind_the_end_have_intervals_of_their_own,
];

/// Runs it with `--csv`; returns its intervals.
fn intervals(server: &Server, flags: &str) -> Vec<Row> {
    let finished = run(server, &format!("{flags} --csv")).exits_with(0);
    let csv = Csv::read(finished.text());
    csv.is_sound();
    csv.rows
}

fn the_last_interval_lasts_until_the_end_of_the_run() {
    let rows = intervals(&Server::echo(), "--rate 10 --duration 3.05");
    let starts: Vec<f64> = rows.iter().map(|row| row.start).collect();
    assert_eq!(starts, [0.0, 1.0, 2.0, 3.0], "{rows:?}");
    let answered: u64 = rows.iter().map(|row| row.answered).sum();
    assert_eq!(answered, 31, "{rows:?}");
    let last = &rows[3];
    assert!(last.length >= 0.05, "{rows:?}");
    // The message that was due at three seconds must not show as thousands per second.
    assert!(last.answered_per_second <= 20.0 * f64::from(last.answered as u32), "{rows:?}");
}

fn seconds_in_which_nothing_is_due_are_intervals_too() {
    let begun = Instant::now();
    let rows = intervals(&Server::echo(), "--rate 0.3 --duration 3.3");
    assert!(
        begun.elapsed() >= Duration::from_millis(3_300),
        "it ended after {:?}",
        begun.elapsed()
    );
    let told: Vec<(f64, u64)> = rows.iter().map(|row| (row.start, row.answered)).collect();
    assert_eq!(told, [(0.0, 1), (1.0, 0), (2.0, 0), (3.0, 0)], "{rows:?}");
    assert!(rows[..3].iter().all(|row| row.length == 1.0) && rows[3].length == 0.3, "{rows:?}");
}

fn answers_behind_the_end_have_intervals_of_their_own() {
    let latency = Duration::from_millis(1_500);
    let server =
        Server::start(move |client: &mut Client| client.echo_late(latency, Duration::ZERO));
    for (flags, sent) in [("--rate 20 --duration 2", 40), ("--rate 20 --duration 2.5", 50)] {
        let rows = intervals(&server, flags);
        let answered: u64 = rows.iter().map(|row| row.answered).sum();
        assert_eq!(answered, sent, "{rows:?}");
        assert_eq!(rows[0].answered, 0, "{rows:?}");
        // None is much longer than a second, and none so short that a few answers make a high rate.
        assert!(rows.iter().all(|row| row.length <= 1.2), "{rows:?}");
        assert!(rows.iter().all(|row| row.answered_per_second < 60.0), "{rows:?}");
        let last = rows.last().expect("intervals");
        assert!(last.start + last.length >= 3.4, "{rows:?}");
    }
}
