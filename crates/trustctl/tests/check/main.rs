//! `trustctl check` as a command: what it prints and writes, how it ends, and how it starts,
//! watches and stops a server.
//!
//! What the cases find is tested elsewhere (`tests/conformance`). The servers here are our own, and
//! this executable itself, as `serve KIND PORT`. Arguments:
//! `cargo test -p trustctl --test check -- [TEST_NAME…]`.

mod far_tests;
mod forwarder_tests;
mod json;
mod report_tests;
mod right_tests;
mod run_tests;
mod send_proxy_tests;
mod server;
mod unix_tests;
mod watch_tests;
mod xml;

use std::process::ExitCode;
use std::time::Duration;

use trust_testkit::suite::{Suite, Test};

/// A few at a time: each has a server of its own, and waits for most of its time.
const SUITE: Suite = Suite { deadline: Duration::from_secs(150), at_once: 3 };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, kind, port] = &arguments[..]
        && role == "serve"
    {
        return server::run(kind, port);
    }
    if let [role, kind, path] = &arguments[..]
        && role == "serve-unix"
    {
        return unix_tests::run(kind, path);
    }
    let tests = [
        run_tests::TESTS,
        report_tests::TESTS,
        watch_tests::TESTS,
        right_tests::TESTS,
        far_tests::TESTS,
        forwarder_tests::TESTS,
        send_proxy_tests::TESTS,
        unix_tests::TESTS,
    ];
    SUITE.main(tests.concat().into_iter().map(Test::from).collect())
}
