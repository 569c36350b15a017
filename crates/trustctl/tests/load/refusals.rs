//! Mistakes that are refused before anything is sent, with their exit codes and messages.

use std::time::Duration;

use super::command::{document, load};
use super::document::Document;
use super::server::Server;
use trust_load::report::json::EndState;
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    bad_settings_are_refused_with_what_is_allowed,
    settings_that_contradict_each_other_are_refused,
    a_start_is_a_time_that_can_be_waited_for,
    a_host_that_is_unknown_is_told,
    more_clients_than_descriptors_are_refused,
];

/// Checks that these flags are refused with these words, in one line.
#[track_caller]
fn refused(home: &Home, server: &Server, flags: &str, words: &[&str]) {
    let finished = load(home, server, flags).run().exits_with(64).prints("");
    finished.complains_about(words).complains_in_one_line();
}

fn bad_settings_are_refused_with_what_is_allowed() {
    let (home, server) = (Home::new(), Server::echo());
    let rate = "a number per second from 0.001 to 10000000";
    let cases: [(&str, &[&str]); 24] = [
        ("--rate 0", &["invalid value '0' for --rate", rate]),
        ("--rate -5", &["--rate", rate]),
        ("--rate nan", &["invalid value 'nan' for --rate", rate]),
        ("--rate 1e9", &["invalid value '1e9' for --rate", rate]),
        ("--connect-rate 0", &["invalid value '0' for --connect-rate", rate]),
        ("--concurrency 0", &["invalid value '0' for --concurrency", "from 1 to 1000000"]),
        ("--in-flight 0", &["invalid value '0' for --in-flight", "from 1 to 100000"]),
        ("--duration 0", &["invalid value '0' for --duration", "from 1ms"]),
        (
            "--messages-per-connection 0",
            &["invalid value '0' for --messages-per-connection", "from 1"],
        ),
        ("--size 65537", &["--size 65537", "65,537 bytes", "limit of 65,536 bytes", "--max-frame"]),
        ("--size 0-70000", &["--size 0-70000", "70,000 bytes", "--max-frame"]),
        ("--size 100 --max-frame 99", &["--size 100", "99 bytes", "--max-frame"]),
        ("--size 70k", &["--size 70k: a payload of 70,000 bytes is above", "--max-frame"]),
        ("--size 5-4", &["invalid value '5-4' for --size"]),
        ("--size 1,x", &["invalid value '1,x' for --size"]),
        ("--size 256 --framing u8", &["--size 256", "at most 255 bytes"]),
        ("--raw --size 0", &["--size 0", "a raw message has at least 1 byte"]),
        ("--framing raw --size 0-5", &["--size 0-5", "a raw message has at least 1 byte"]),
        ("--framing u33be", &["invalid value 'u33be' for --framing"]),
        (
            "--arrivals sometimes --rate 1",
            &["invalid value 'sometimes' for --arrivals", "constant or poisson"],
        ),
        ("--find-rate p99>5ms", &["invalid value 'p99>5ms' for --find-rate", "expected < or <="]),
        ("--shard 2/2", &["invalid value '2/2' for --shard", "from 0 to COUNT - 1"]),
        ("--shard 0/0", &["invalid value '0/0' for --shard", "INDEX/COUNT"]),
        ("--shard /2", &["--shard", "JOB_COMPLETION_INDEX", "not set"]),
    ];
    for (flags, words) in cases {
        refused(&home, &server, flags, words);
    }
    refused(
        &home,
        &server,
        "--shard 1/2 --clients 1 --concurrency 1",
        &["--shard 1/2: nothing is left for it of 1 client at the same time"],
    );
    let with_index = |index| load(&home, &server, "--shard /2").env("JOB_COMPLETION_INDEX", index);
    let finished = with_index("2").run().exits_with(64).prints("").complains_in_one_line();
    finished.complains_about(&["invalid value '2' for JOB_COMPLETION_INDEX", "from 0 to 1"]);
    assert!(server.seen().is_empty(), "a client connected");
}

fn settings_that_contradict_each_other_are_refused() {
    let (home, server) = (Home::new(), Server::echo());
    let cases: [(&str, &[&str]); 7] = [
        ("--json --csv", &["--json cannot be used with --csv"]),
        ("--rate 5 --think 1", &["--think cannot be used with --rate"]),
        ("--duration 1 --clients 2", &["--duration cannot be used with --clients"]),
        ("--duration 1 --messages 2", &["--duration cannot be used with --messages"]),
        ("--arrivals poisson", &["--arrivals goes only with --rate"]),
        ("--raw --framing u8", &["--raw cannot be used with --framing"]),
        ("--find-rate p99<1s --csv", &["--find-rate cannot be used with --csv"]),
    ];
    for (flags, words) in cases {
        refused(&home, &server, flags, words);
    }
    assert!(server.seen().is_empty(), "a client connected");
}

fn a_start_is_a_time_that_can_be_waited_for() {
    let (home, server) = (Home::new(), Server::echo());
    for text in ["tomorrow", "2026-11-20T18:30:00", "18:30:00Z", "2026-13-01T00:00:00Z"] {
        let words = ["--start-at", text, "RFC 3339"];
        refused(&home, &server, &format!("--start-at {text}"), &words);
    }
    let now = jiff::Timestamp::now();
    let far = now + Duration::from_secs(365 * 24 * 3600);
    refused(&home, &server, &format!("--start-at {far}"), &["--start-at", "at most a day"]);
    assert!(server.seen().is_empty(), "a client connected");

    // A time in the past does not prevent a start: the result says how late it was.
    let passed = now - Duration::from_secs(3600);
    let seen = document(&server, &format!("--start-at {passed} --messages 5"), 0);
    seen.is_all_right(5);
    let late: f64 = seen.facts["started"]
        .strip_suffix(" s after it was to")
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or_else(|| panic!("{:?}", seen.facts));
    assert!((3600.0..3700.0).contains(&late), "{late}");

    // A time in the future is waited for.
    let soon = jiff::Timestamp::now() + Duration::from_secs(1);
    let seen = document(&server, &format!("--start-at {soon} --messages 5"), 0);
    seen.is_all_right(5);
    assert!(seen.began >= soon, "{} is before {soon}", seen.began);
}

fn a_host_that_is_unknown_is_told() {
    // No resolver knows this top-level domain (RFC 6761, 6.4).
    let flags = ["load", "--host", "unknown.invalid", "--port", "9", "--rate", "5"];
    let finished = Home::new().trustctl(flags).run().exits_with(68).prints("");
    finished.complains_about(&["unknown.invalid"]).complains_in_one_line();
    let finished = Home::new().trustctl(flags).args(["--json"]).run().exits_with(68);
    let seen = Document::read(&finished);
    assert_eq!(seen.end.state, EndState::Unreachable);
    finished.complains_in_one_line();
}

fn more_clients_than_descriptors_are_refused() {
    let (home, server) = (Home::new(), Server::echo());
    let port = server.address().port().to_string();
    let script = "ulimit -n 200; exec \"$0\" \"$@\"";
    let clients = |count: &str| {
        let flags = ["load", "--host", "127.0.0.1", "--port", &port, "--concurrency", count];
        home.trustctl_in_shell(script, flags)
    };
    let finished = clients("1000").run().exits_with(71).prints("").complains_in_one_line();
    finished.complains_about(&["--concurrency", "1000", "may have 200", "ulimit -n"]);
    assert!(server.seen().is_empty(), "a client connected");
    clients("100").run().exits_with(0).complains_about_nothing();
    assert_eq!(server.seen().len(), 100);
}
