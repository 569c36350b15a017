//! `trustctl check` of servers that do not echo: what is found, who is not accused, and what is
//! written about it.
//!
//! The servers are this executable itself, as `serve KIND PORT`. Arguments:
//! `cargo test -p trustctl --test exchange -- [TEST_NAME…]`.

mod box_tests;
mod declared_tests;
#[path = "../check/json.rs"]
mod json;
mod long_tests;
mod propose_tests;
mod queue;
mod relay;
mod right_tests;
mod server;
mod tests;
mod told_tests;

use std::process::ExitCode;
use std::time::Duration;

use trust_testkit::suite::{Suite, Test};

/// Several at once: each has a server of its own, and waits for most of its time.
const SUITE: Suite = Suite { deadline: Duration::from_secs(150), at_once: 4 };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, kind, port] = &arguments[..]
        && role == "serve"
    {
        return server::run(kind, port);
    }
    let tests = [
        tests::TESTS,
        told_tests::TESTS,
        declared_tests::TESTS,
        long_tests::TESTS,
        right_tests::TESTS,
        propose_tests::TESTS,
        box_tests::TESTS,
    ];
    SUITE.main(tests.concat().into_iter().map(Test::from).collect())
}
