//! `--find-rate`: the highest rate that a server of known speed holds.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::Test;
use super::command::{RUN_DEADLINE, load};
use super::server::{Client, Server};
use super::support::program::{Finished, Home};

pub(crate) const TESTS: &[Test] = &[
    ("the_highest_rate_is_found_below_what_the_server_can_do", a_slow_server),
    ("a_server_that_never_answers_holds_no_rate", a_silent_server),
];

/// How long the server takes for a message, at least: it has one connection, so at most 500 messages a second come back.
const SERVICE: Duration = Duration::from_millis(2);

fn search(finished: &Finished) -> Value {
    let document: Value = serde_json::from_str(finished.text()).expect("one document");
    document["search"].clone()
}

fn a_slow_server() {
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
    let found = search["found_per_second"].as_f64().expect("a rate");
    assert!((10.0..500.0).contains(&found), "{search}");
    assert_eq!(search["budgets"][0], "p99<100ms");
    let trials = search["trials"].as_array().expect("trials");
    let holds = |trial: &Value| trial["why_not"].is_null();
    let asked = |trial: &Value| trial["asked_per_second"].as_f64().expect("a rate");
    assert_eq!(asked(&trials[0]), 50.0);
    // Far above what it can do none holds, and the answer held at last.
    assert!(trials.iter().all(|trial| asked(trial) < 700.0 || !holds(trial)), "{search}");
    let last = trials.last().expect("a trial");
    assert!(holds(last) && asked(last) == found, "{search}");
}

fn a_silent_server() {
    let server = Server::start(Client::be_silent);
    let flags = "--find-rate p99<1s --rate 2 --duration 0.1 --timeout 0.2";
    let run = |flags: &str| {
        let finished = load(&Home::new(), &server, flags).start().wait_for(RUN_DEADLINE);
        finished.exits_with(1)
    };
    let search = search(&run(&format!("{flags} --json")));
    assert!(search["found_per_second"].is_null(), "{search}");
    assert_eq!(search["end"], "nothing_holds");
    let finished = run(flags);
    let text = finished.text();
    assert!(text.contains("No rate that holds p99<1s: not even the lowest rate holds."), "{text}");
    assert!(text.contains("\nTrials\n"), "{text}");
}
