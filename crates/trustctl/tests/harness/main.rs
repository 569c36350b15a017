//! The black-box harness: 34 named tests against the executables of this build.
//!
//! It prints a line a test, never stops at the first failure, and ends in a summary. Arguments:
//!
//! ```text
//! cargo test -p trustctl --test harness -- [cli|echo] [TEST_NAME…]
//! ```

mod cli_tests;
mod echo_tests;
mod handover_tests;
mod inetd_tests;
mod selection;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use selection::Request;
use trust_testkit::runner::{self, Outcome};

/// Longest time for one test; what takes longer counts as hung.
const TEST_DEADLINE: Duration = Duration::from_secs(30);

/// What a test belongs to; the summary counts by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    /// What every command does: messages, exit codes, settings, events, signals.
    Cli,
    /// The echo server, the echo client and the load test.
    Echo,
}

impl Group {
    const ALL: [Group; 2] = [Group::Cli, Group::Echo];

    /// The word that selects the group on the command line.
    const fn word(self) -> &'static str {
        match self {
            Group::Cli => "cli",
            Group::Echo => "echo",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Group::Cli => "CLI Tests",
            Group::Echo => "Echo Server Tests",
        }
    }
}

/// One named test: it fails by a panic, whose message is the reason.
#[derive(Clone, Copy)]
struct Test {
    group: Group,
    name: &'static str,
    run: fn(),
}

impl Test {
    /// The name in the form in which libtest would list it.
    fn path(&self) -> String {
        format!("harness::{}::{}", self.group.word(), self.name)
    }
}

fn main() -> ExitCode {
    let tests: Vec<Test> =
        [cli_tests::TESTS, echo_tests::TESTS, inetd_tests::TESTS, handover_tests::TESTS].concat();
    let request = match selection::parse(std::env::args_os().skip(1)) {
        Ok(request) => request,
        Err(message) => return refuse(&message),
    };
    match request {
        Request::List => list(&tests),
        Request::Run(selection) => match selection.choose(&tests) {
            Ok(chosen) if chosen.is_empty() && selection.may_be_empty() => ExitCode::SUCCESS,
            Ok(chosen) if chosen.is_empty() => refuse("no test fits all of the filters"),
            Ok(chosen) => run(&chosen),
            Err(message) => refuse(&message),
        },
    }
}

fn run(tests: &[Test]) -> ExitCode {
    runner::clean_up_on_signals();
    let outcome = run_all(tests, &mut io::stdout());
    // A thread that hung for good still owns its directory.
    trust_testkit::leftovers::remove_everything();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => refuse(&format!("cannot print the results: {error}")),
    }
}

/// Runs the tests one after the other and prints a line for each and the summary; tells whether all
/// passed.
fn run_all(tests: &[Test], out: &mut impl Write) -> io::Result<bool> {
    let mut passed = Vec::new();
    for test in tests {
        let outcome = runner::run_and_print(test.name, TEST_DEADLINE, test.run, out)?;
        if matches!(outcome, Outcome::Passed) {
            passed.push(*test);
        }
    }
    writeln!(out)?;
    for group in Group::ALL {
        let of_group = |tests: &[Test]| tests.iter().filter(|test| test.group == group).count();
        if of_group(tests) > 0 {
            writeln!(out, "=== {} ===", group.title())?;
            writeln!(out, "{}/{} passed", of_group(&passed), of_group(tests))?;
        }
    }
    writeln!(out, "=== Total: {}/{} passed ===", passed.len(), tests.len())?;
    Ok(passed.len() == tests.len())
}

fn list(tests: &[Test]) -> ExitCode {
    let mut out = io::stdout();
    let printed = tests.iter().try_for_each(|test| writeln!(out, "{}: test", test.path()));
    printed.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn refuse(message: &str) -> ExitCode {
    // Nothing is left to do when stderr is gone too.
    drop(writeln!(io::stderr(), "harness: {message}"));
    ExitCode::FAILURE
}
