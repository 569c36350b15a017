//! `--find-rate`: the highest rate that a server of known speed can sustain.

use std::thread;
use std::time::Duration;

use super::command::{self, RUN_DEADLINE, load};
use super::server::{Client, Server};
use trust_load::report::fields::Rate;
use trust_load::report::json::{LoadDocument, RateSearch, SearchTrial};
use trust_load::search::SearchEnd;
use trust_testkit::document;
use trust_testkit::program::{Finished, Home};
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    the_highest_rate_is_found_below_what_the_server_can_do,
    a_server_that_never_answers_holds_no_rate,
    latency_does_not_lower_the_rate_that_is_found,
    latency_longer_than_a_trial_does_not_hide_what_a_server_can_do,
    all_that_was_due_is_achieved_whatever_the_latency,
    an_overloaded_server_achieves_what_it_can_do_and_no_more,
];

/// The shortest time that the server takes per message. It has one connection, so at most 500
/// messages come back per second.
const SERVICE: Duration = Duration::from_millis(2);

fn search(finished: &Finished) -> RateSearch {
    let document: LoadDocument = document::read(finished.text(), "load");
    document.search.expect("what was found")
}

fn the_highest_rate_is_found_below_what_the_server_can_do() {
    let server = Server::start(|client: &mut Client| {
        loop {
            let frame = client.frame()?;
            thread::sleep(SERVICE);
            client.send(&frame)?;
        }
    });
    let flags = "--find-rate p99<100ms --rate 50 --duration 0.5 --in-flight 10 --json";
    let finished = load(&Home::new(), &server, flags).start().wait_for(RUN_DEADLINE);
    let finished = finished.exits_with(0);
    let search = search(&finished);
    let found = search.found_per_second.expect("a rate");
    assert!((10.0..500.0).contains(&found), "{search:?}");
    assert_eq!(search.budgets, ["p99<100ms"]);
    let holds = |trial: &SearchTrial| trial.why_not.is_none();
    let asked = |trial: &SearchTrial| trial.asked_per_second;
    let trials = &search.trials;
    assert_eq!(asked(&trials[0]), 50.0);
    // Far above what it can do no trial holds; the last trial holds and is the answer.
    assert!(trials.iter().all(|trial| asked(trial) < 700.0 || !holds(trial)), "{search:?}");
    let last = trials.last().expect("a trial");
    assert!(holds(last) && asked(last) == found, "{search:?}");
}

fn a_server_that_never_answers_holds_no_rate() {
    let server = Server::start(Client::be_silent);
    let flags = "--find-rate p99<1s --rate 2 --duration 0.1 --timeout 0.2";
    let run = |flags: &str| {
        let finished = load(&Home::new(), &server, flags).start().wait_for(RUN_DEADLINE);
        finished.exits_with(1)
    };
    let search = search(&run(&format!("{flags} --json")));
    assert!(search.found_per_second.is_none(), "{search:?}");
    assert_eq!(search.end, SearchEnd::NothingHolds);
    let finished = run(flags);
    let text = finished.text();
    assert!(text.contains("No rate that holds p99<1s: not even the lowest rate holds."), "{text}");
    assert!(text.contains("\nTrials\n"), "{text}");
}

/// Starts a server that answers each message after `latency`, at most one per `gap` on a
/// connection.
fn late(latency: Duration, gap: Duration) -> Server {
    Server::start(move |client: &mut Client| client.echo_late(latency, gap))
}

fn found(server: &Server, flags: &str) -> f64 {
    let flags = format!("{flags} --json");
    let finished = load(&Home::new(), server, &flags).start().wait_for(RUN_DEADLINE);
    let search = search(&finished.exits_with(0));
    search.found_per_second.unwrap_or_else(|| panic!("no rate: {search:?}"))
}

fn latency_does_not_lower_the_rate_that_is_found() {
    // 20 clients with 10 messages in flight each: 1,333 messages per second, however fast the
    // machine is.
    let server = late(Duration::from_millis(150), Duration::ZERO);
    let flags = "--concurrency 20 --in-flight 10 --find-rate p99<300ms --rate 300 --duration 1";
    let rate = found(&server, flags);
    assert!((600.0..1_500.0).contains(&rate), "{rate}");
}

fn latency_longer_than_a_trial_does_not_hide_what_a_server_can_do() {
    // Half a second of messages, each answered after a second, at most 200 per second.
    let server = late(Duration::from_secs(1), Duration::from_millis(5));
    let flags = "--in-flight 10000 --find-rate p99<4s --rate 100 --duration 0.5";
    let rate = found(&server, flags);
    assert!((100.0..220.0).contains(&rate), "{rate}");
}

fn all_that_was_due_is_achieved_whatever_the_latency() {
    let server = late(Duration::from_secs(1), Duration::ZERO);
    for flags in ["--rate 100 --duration 5", "--rate 100 --duration 0.5", "--rate 10 --duration 2"]
    {
        let seen = command::document(&server, &format!("{flags} --fail-if rate<9.5"), 0);
        let Rate { requested_per_second, achieved_per_second } = seen.rate;
        let requested = requested_per_second.expect("it has a rate");
        assert!((requested * 0.95..=requested).contains(&achieved_per_second), "{seen:?}");
    }
}

fn an_overloaded_server_achieves_what_it_can_do_and_no_more() {
    for latency in [Duration::ZERO, Duration::from_secs(1)] {
        let server = late(latency, Duration::from_millis(10));
        let seen = command::document(&server, "--rate 200 --duration 2 --in-flight 1000", 0);
        // It answers only 100 messages per second, and the answers that it owes at the end come
        // later.
        seen.is_all_right(400);
        assert!((80.0..=110.0).contains(&seen.rate.achieved_per_second), "{seen:?}");
    }
}
