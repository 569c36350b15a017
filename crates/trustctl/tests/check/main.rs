//! `trustctl check` as a command: what it prints and writes, how it ends, and how it starts, watches and stops a server.
//!
//! What the cases find is proved elsewhere (`tests/conformance`). The servers here are ours, and this executable again, as
//! `serve KIND PORT`. Arguments: `cargo test -p trustctl --test check -- [TEST_NAME…]`.

mod json;
mod report_tests;
mod right_tests;
mod run_tests;
mod server;
mod watch_tests;
mod xml;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use trust_testkit::libtest::Wanted;
use trust_testkit::runner::{self, Outcome};

/// Longest time for one test; what takes longer counts as hung.
const TEST_DEADLINE: Duration = Duration::from_secs(150);

/// A promise, and what checks it.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, kind, port] = &arguments[..]
        && role == "serve"
    {
        return server::run(kind, port);
    }
    let tests =
        || [run_tests::TESTS, report_tests::TESTS, watch_tests::TESTS, right_tests::TESTS].concat();
    let Some(wanted) = Wanted::parse(arguments) else {
        drop(writeln!(io::stderr(), "check: [TEST_NAME…]"));
        return ExitCode::from(64);
    };
    let chosen: Vec<Test> = tests().into_iter().filter(|(name, _)| wanted.wants(name)).collect();
    if wanted.is_list {
        let mut lines = chosen.iter().map(|(name, _)| writeln!(io::stdout(), "{name}: test"));
        return done(lines.all(|line| line.is_ok()));
    }
    if chosen.is_empty() && !wanted.may_be_empty() {
        drop(writeln!(io::stderr(), "check: no test has such a name"));
        return ExitCode::FAILURE;
    }
    runner::clean_up_on_signals();
    let mut passed = true;
    for (name, test) in chosen {
        match runner::run_and_print(name, TEST_DEADLINE, test, &mut io::stdout()) {
            Ok(outcome) => passed &= !matches!(outcome, Outcome::Failed(_)),
            Err(_) => passed = false,
        }
    }
    trust_testkit::leftovers::remove_everything();
    done(passed)
}

fn done(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
